"""Reads a submission: SubmitRequest -> JobSpec and what is to be said about it. Submitting, editing, validating and
running again share it. Nothing is changed here; what may block or is large is read in threads of its own.
"""

import asyncio
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker import preflight
from broker.errors import BadInput
from broker.protocol import document, legacy
from broker.protocol.api import DataSummary, ErrorCode, Finding, SubmitRequest
from broker.protocol.findings import Findings, near
from broker.protocol.job import CommandWork, JobSpec, TrainWork
from broker.protocol.text import harmless
from broker.settings import Settings

READERS = 4  # threads; looking through a data set may take a while
_Programs = dict[tuple[str, str | None, str | None], Finding | None]  # argv[0], cwd, PATH: what `unstartable` said
_LENGTHS = {"name": 200, "user": 100, "task_id": 200}  # characters, as in JobSpec


@dataclass(frozen=True, slots=True)
class Admitted:
    """A spec that can be queued, or findings of level error."""

    spec: JobSpec | None
    findings: list[Finding] = field(default_factory=list[Finding])
    data: DataSummary | None = None
    code: ErrorCode = ErrorCode.BAD_CONFIG  # of the errors

    @property
    def warnings(self) -> list[str]:
        return [_line(finding) for finding in self.findings if finding.level == "warning"]

    def required(self) -> JobSpec:
        """Raises BadInput."""
        if self.spec is None:
            raise BadInput([finding for finding in self.findings if finding.level == "error"], self.code)
        return self.spec


class Admission:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._roots = [root.expanduser().resolve() for root in settings.allowed_roots]
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="admission")

    def close(self) -> None:
        self._readers.shutdown(wait=False, cancel_futures=True)

    async def read(self, request: SubmitRequest, base: JobSpec | None = None, by: str = "") -> Admitted:
        """`base`: what is edited; the request then says only what changes. `by`: the user where nobody is named."""
        return (await self.read_all([request], base, by))[0]

    async def read_all(
        self, requests: Sequence[SubmitRequest], base: JobSpec | None = None, by: str = ""
    ) -> list[Admitted]:
        """In the order given."""
        loop = asyncio.get_running_loop()
        programs: _Programs = {}
        read: dict[int, Admitted] = {}
        reading: dict[int, asyncio.Future[Admitted]] = {}
        for number, request in enumerate(requests):
            spec = request.spec
            if spec is not None and isinstance(spec.work, CommandWork) and not request.set and request.config is None:
                read[number] = self._finish(spec, request, Findings(), by, programs)
            else:
                reading[number] = loop.run_in_executor(self._readers, self._read, request, base, by)
        for number, future in reading.items():
            read[number] = await future
        return [read[number] for number in range(len(requests))]

    def _read(self, request: SubmitRequest, base: JobSpec | None, by: str) -> Admitted:
        """Blocking."""
        try:
            written, origin = self._document(request, base)
        except document.DocumentError as error:
            return Admitted(None, [error.finding])
        except BadInput as error:
            return Admitted(None, error.findings, code=error.code)
        read = legacy.read(written, self._settings.path_map, request.base_dir)
        said = read.findings if request.config is None else document.located(read.findings, request.config)
        if read.spec is None:
            return Admitted(None, said)
        spec = read.spec if origin is None else read.spec.model_copy(update={"trial_number": origin.trial_number})
        admitted = self._finish(spec, request, Findings(), by, {})
        findings, data, code = [*said, *admitted.findings], None, admitted.code
        if admitted.spec is not None and isinstance(admitted.spec.work, TrainWork) and self._settings.preflight:
            data, seen = preflight.check(admitted.spec.work, self._settings.preflight_images)
            findings += seen
            code = ErrorCode.BAD_DATA
        failed = admitted.spec is None or any(finding.level == "error" for finding in findings)
        return Admitted(None if failed else admitted.spec, findings, data, code)

    def _document(self, request: SubmitRequest, base: JobSpec | None) -> tuple[dict[str, Any], JobSpec | None]:
        """What is to be read, and the spec that it was where it was none. Raises DocumentError, BadInput."""
        if request.base_dir is not None and not Path(request.base_dir).is_absolute():
            raise BadInput(
                [Finding(where="base_dir", message="is not a whole path", hint="the folder that the file lies in")],
                ErrorCode.BAD_REQUEST,
            )
        if request.config is not None and request.spec is not None:
            raise BadInput([Finding(message="both `config` and `spec` are given")], ErrorCode.BAD_REQUEST)
        if request.config is not None:
            return document.assign(document.parse(request.config), request.set), None
        spec = request.spec or base
        if spec is None:
            hint = "`config` is YAML text, `spec` a job as JSON"
            raise BadInput([Finding(message="neither `config` nor `spec` is given", hint=hint)], ErrorCode.BAD_REQUEST)
        return document.assign(written(spec), request.set), spec

    def _finish(
        self,
        spec: JobSpec,
        request: SubmitRequest,
        findings: Findings,
        by: str,
        programs: _Programs,
    ) -> Admitted:
        """The request's own fields over what was read; then what can be checked without reading any data."""
        changes: dict[str, Any] = {"name": request.name or spec.name or default_name(spec)}
        changes["user"] = request.user or spec.user or by
        changes["task_id"] = request.task_id or spec.task_id
        for name, longest in _LENGTHS.items():
            text = changes[name]
            if text and len(text) > longest:
                findings.error(name, f"has {len(text):,} characters, at most {longest} are kept")
            elif text and not text.isprintable():
                changes[name] = harmless(text, longest)
        if request.priority is not None:
            changes["priority"] = request.priority
        nodes = [node.name for node in self._settings.nodes]
        if spec.resources.node is not None and spec.resources.node not in nodes:
            hint = near(spec.resources.node, nodes) or f"there are: {', '.join(nodes)}"
            findings.error("resources.node", f"no node is called `{spec.resources.node}`", hint)
        if isinstance(spec.work, CommandWork):
            asked = (spec.work.argv[0], spec.work.cwd, spec.work.env.get("PATH"))
            if asked not in programs:
                programs[asked] = unstartable(*asked)
            if (wrong := programs[asked]) is not None:
                findings.error(wrong.where, wrong.message, wrong.hint)
        else:
            self._within_roots(spec.work, findings)
        return Admitted(None if findings.failed else spec.model_copy(update=changes), findings.all())

    def _within_roots(self, work: TrainWork, findings: Findings) -> None:
        if not self._roots:
            return
        for where, path in preflight.folders(work).items():
            real = path.resolve()
            if not any(real.is_relative_to(root) for root in self._roots):
                hint = f"allowed are {', '.join(map(str, self._roots))} (setting allowed_roots)"
                findings.error(where, f"{path} lies outside the allowed folders", hint)


def written(spec: JobSpec) -> dict[str, Any]:
    """The configuration that reads as this spec: what `edit` changes with dotted paths."""
    work, gpu = spec.work, spec.resources.gpu
    known: dict[str, Any] = {"name": spec.name, "user": spec.user, "task_id": spec.task_id}
    known |= {"priority": spec.priority.value, "metadata": spec.metadata}
    asked: dict[str, Any] = {"cpus": spec.resources.cpus, "memory": spec.resources.memory_mib}
    asked["node"] = spec.resources.node
    if isinstance(work, CommandWork):
        known |= {"argv": work.argv, "cwd": work.cwd, "env": work.env}
    else:
        known |= {"model": work.model, "type": work.family, "task": work.task, "sweeper": work.sweep}
        known |= {"train": work.args, "val": work.val}
    if gpu is not None:
        asked["gpus"] = [*gpu.ids, *[-1] * (gpu.count - len(gpu.ids))] if gpu.ids else gpu.count
        if not isinstance(work, CommandWork):
            known["extras"] = {"gpu": {"limit": gpu.memory_fraction}, "force_gpu": gpu.required}
    return known | {"resources": asked}


def default_name(spec: JobSpec) -> str:
    """What a job without a name is called: 'yolov8n fruit', 'python prep.py'."""
    if isinstance(spec.work, CommandWork):
        name = " ".join([Path(spec.work.argv[0]).name, *spec.work.argv[1:4]])
    else:
        data = Path(str(spec.work.args.get("data", "")))
        folder = data.parent if data.name in {"data.yaml", "data.yml"} else data
        name = f"{Path(spec.work.model).stem} {folder.stem}"
    name = harmless(name.strip(), 60) if not name.isprintable() else name.strip()
    return name if len(name) <= 60 else f"{name[:59]}…"


def unstartable(program: str, cwd: str | None, path: str | None) -> Finding | None:
    """Why a command could not start on this machine; None where it could. `path`: its own PATH, where it has one."""
    if cwd is not None and not Path(cwd).is_dir():
        return Finding(where="cwd", message=f"no folder {cwd} is here", hint="the command is to run in it")
    if "/" not in program:
        if shutil.which(program, path=path):
            return None
        hint = "is it installed? else write its whole path"
        return Finding(where="argv", message=f"no program `{program}` is found in the PATH", hint=hint)
    if not Path(program).is_absolute() and cwd is None:
        message = f"`{program}` is a relative path, and nothing says relative to what"
        return Finding(where="argv", message=message, hint="write it whole, or give `cwd`")
    file = Path(cwd or "/", program)
    if not file.is_file():
        return Finding(where="argv", message=f"no file {file} is here", hint="write the program's whole path")
    if not os.access(file, os.X_OK):
        hint = "chmod +x it, or run it by its interpreter"
        return Finding(where="argv", message=f"{file} is not executable", hint=hint)
    return None


def _line(finding: Finding) -> str:
    place = f"{finding.where}: " if finding.where else ""
    return f"{place}{finding.message}" + (f" ({finding.hint})" if finding.hint else "")
