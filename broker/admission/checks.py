"""What can be said of a job without reading any of its data: names, nodes, whether its program is there."""

import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from broker import wishes
from broker.admission.admitted import Admitted
from broker.protocol.api import Finding, SubmitRequest
from broker.protocol.document import shorten
from broker.protocol.findings import Findings, near
from broker.protocol.job import CommandWork, JobSpec
from broker.protocol.text import harmless
from broker.settings import Settings

Program = tuple[str, str | None, str | None]  # argv[0], cwd, PATH
TRUSTED_S = 2.0  # a program that was found is believed to be there for so long
KEPT = 1024  # programs
_LENGTHS = {"name": 200, "user": 100, "task_id": 200}  # characters, as in JobSpec


class Checks:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._nodes = [node.name for node in settings.nodes]
        self._startable: dict[Program, float] = {}  # until when, monotonic seconds

    def finish(self, spec: JobSpec, request: SubmitRequest, by: str, replaced: JobSpec | None = None) -> Admitted:
        """The request's own fields over what was read; then what can be checked without reading any data. `replaced`:
        the spec that this one is put in the place of."""
        findings = Findings()
        if replaced is not None:
            spec = succeeding(spec, replaced, named=request.name is not None)
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
        if spec.resources.node is not None and spec.resources.node not in self._nodes:
            hint = near(spec.resources.node, self._nodes) or f"there are: {', '.join(self._nodes)}"
            findings.error("resources.node", f"no node is called `{spec.resources.node}`", hint)
        for name, value in spec.resources.labels.items():
            if not any(node.labels.get(name) == value for node in self._settings.nodes):
                findings.error(f"resources.labels.{name}", f"no node has the label {name}={value}", self._labels(name))
        if (refused := wishes.refusal(spec.resources, self._settings.nodes)) is not None:
            findings.error(*refused)
        if isinstance(spec.work, CommandWork):
            self._command(spec.work, spec.resources.image, findings)
        return Admitted(None if findings.failed else spec.model_copy(update=changes), findings.all())

    def _command(self, work: CommandWork, image: str | None, findings: Findings) -> None:
        impossible = list(unpassable(work))
        for wrong in impossible:
            findings.error(wrong.where, wrong.message, wrong.hint)
        if impossible or image is not None:  # then it is the image's program
            return
        if (wrong := self._unstartable((work.argv[0], work.cwd, work.env.get("PATH")))) is not None:
            findings.error(wrong.where, wrong.message, wrong.hint)

    def _labels(self, name: str) -> str:
        """What nodes have instead."""
        there = {each for node in self._settings.nodes for each in node.labels}
        if name in there:
            have = [f"{node.labels[name]} ({node.name})" for node in self._settings.nodes if name in node.labels]
            return f"{name} is {', '.join(have)}"
        return near(name, there) or (
            f"there are: {', '.join(sorted(there))}" if there else "nodes have none (wyolo.toml)"
        )

    def _unstartable(self, asked: Program) -> Finding | None:
        """Looking costs several calls of the kernel, and thousands of jobs often name one program."""
        now = time.monotonic()
        if self._startable.get(asked, 0.0) > now:
            return None
        wrong = unstartable(*asked)
        if wrong is None:
            if len(self._startable) >= KEPT:
                self._startable.clear()
            self._startable[asked] = now + TRUSTED_S
        return wrong


def succeeding(spec: JobSpec, replaced: JobSpec, named: bool) -> JobSpec:
    """Whose job it is, how it is called and who comes before whom stays, where another configuration says nothing.
    `named`: a name was given beside it, maybe an empty one."""
    kept: dict[str, Any] = {"trial_number": replaced.trial_number}
    if not named and not spec.name and replaced.name != default_name(replaced):  # one that was made is made again
        kept["name"] = replaced.name
    kept["user"] = spec.user or replaced.user
    kept["task_id"] = spec.task_id or replaced.task_id
    if "priority" not in spec.model_fields_set:
        kept["priority"] = replaced.priority
    return spec.model_copy(update=kept)


def default_name(spec: JobSpec) -> str:
    """What a job without a name is called: 'yolov8n fruit', 'python prep.py'."""
    if isinstance(spec.work, CommandWork):
        program, *words = spec.work.argv[:4]
        name = " ".join([program.rpartition("/")[2], *words])
    else:
        data = Path(str(spec.work.args.get("data", "")))
        folder = data.parent if data.name in {"data.yaml", "data.yml"} else data
        name = f"{Path(spec.work.model).stem} {folder.stem}"
    name = harmless(name.strip(), 60) if not name.isprintable() else name.strip()
    return name if len(name) <= 60 else f"{name[:59]}…"


def unpassable(work: CommandWork) -> Iterator[Finding]:
    """What no system can hand to a program (execve: texts that end at a NUL, variables that are `NAME=value`)."""
    texts = {f"argv.{number}": word for number, word in enumerate(work.argv)} | {"cwd": work.cwd or ""}
    for name, value in work.env.items():
        where = f"env.{name}"
        if not name or "=" in name or "\0" in name:
            yield Finding(where=where, message=f"{shorten(name)!r} is no name of a variable", hint="as in `SEED: 3`")
        texts[where] = value
    for where, text in texts.items():
        if "\0" in text:
            yield Finding(where=where, message="the text holds a NUL character", hint="leave it out")


def unstartable(program: str, cwd: str | None, path: str | None) -> Finding | None:
    """Why a command could not start on this machine; None where it could. `path`: its own PATH, where it has one."""
    if cwd is not None and (why := _absent(Path(cwd), "folder", stat.S_ISDIR)):
        return Finding(where="cwd", message=why, hint="the command is to run in it")
    if "/" not in program:
        if shutil.which(program, path=path):
            return None
        hint = "is it installed? else write its whole path"
        return Finding(where="argv", message=f"no program `{shorten(program)}` is found in the PATH", hint=hint)
    if not Path(program).is_absolute() and cwd is None:
        message = f"`{program}` is a relative path, and nothing says relative to what"
        return Finding(where="argv", message=message, hint="write it whole, or give `cwd`")
    file = Path(cwd or "/", program)
    if why := _absent(file, "file", stat.S_ISREG):
        return Finding(where="argv", message=why, hint="write the program's whole path")
    if not os.access(file, os.X_OK):
        hint = "chmod +x it, or run it by its interpreter"
        return Finding(where="argv", message=f"{file} is not executable", hint=hint)
    return None


def _absent(path: Path, what: str, fits: Callable[[int], bool]) -> str:
    """Why it is not there; '' where it is."""
    try:
        return "" if fits(path.stat().st_mode) else f"no {what} {path} is here"
    except (FileNotFoundError, NotADirectoryError):
        return f"no {what} {shorten(str(path), 200)} is here"
    except OSError as error:  # a name that is too long, a folder that we may not enter, links in a circle
        return f"{shorten(str(path), 200)} cannot be looked at: {error.strerror}"
