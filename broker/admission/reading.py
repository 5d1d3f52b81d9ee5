"""YAML, specs and data sets -> what is admitted. Blocking: it runs in threads, and is first loaded there."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from broker import preflight
from broker.admission.admitted import Admitted
from broker.admission.checks import Checks, default_name
from broker.dataset.description import own_datasets
from broker.errors import BadInput
from broker.protocol import document, legacy
from broker.protocol.api import ErrorCode, Finding, SubmitRequest
from broker.protocol.document import shorten
from broker.protocol.findings import Findings
from broker.protocol.job import JobSpec, TrainWork
from broker.protocol.written import document_of
from broker.settings import Settings


def read(request: SubmitRequest, base: JobSpec | None, by: str, settings: Settings, checks: Checks) -> Admitted:
    """`base`: the spec that an edit starts from."""
    try:
        document_read, origin = _document(request, base)
    except document.DocumentError as error:
        return Admitted(None, [error.finding])
    except BadInput as error:
        return Admitted(None, error.findings, code=error.code)
    found = legacy.read(document_read, settings.path_map, request.base_dir)
    said = document.located(found.findings, request.config, request.set)
    if found.spec is None:
        return Admitted(None, said)
    spec = found.spec if origin is None else found.spec.model_copy(update={"trial_number": origin.trial_number})
    admitted = checks.finish(spec, request, by, base if origin is not base else None)
    if admitted.spec is None or not isinstance(spec.work, TrainWork):
        return Admitted(admitted.spec, [*said, *admitted.findings])
    roots = [str(root.expanduser().resolve()) for root in settings.allowed_roots]
    outside = _outside(spec.work, roots)
    if outside:
        return Admitted(None, [*said, *admitted.findings, *outside])
    datasets = own_datasets() if any(node.engine == "local" for node in settings.nodes) else None  # none in a container
    if settings.preflight:
        data, seen = preflight.check(spec.work, settings.preflight_images, roots, datasets)
    else:
        data, seen = None, preflight.strays(spec.work, roots, datasets) if roots else []
    failed = any(finding.level == "error" for finding in seen)
    findings = [*said, *admitted.findings, *seen]
    return Admitted(None if failed else admitted.spec, findings, data, ErrorCode.BAD_DATA)


def _document(request: SubmitRequest, base: JobSpec | None) -> tuple[dict[str, Any], JobSpec | None]:
    """What is to be read, and the spec that it was where it was none. Raises DocumentError, BadInput."""
    if request.base_dir is not None and not Path(request.base_dir).is_absolute():
        raise _bad("base_dir", "is not a whole path", "the folder that the file lies in")
    if request.config is not None and request.spec is not None:
        raise _bad("", "both `config` and `spec` are given", "keep one of them")
    if request.config is not None:
        return document.assign(document.parse(request.config), request.set), None
    spec = request.spec or base
    if spec is None:
        raise _bad("", "neither `config` nor `spec` is given", "`config` is YAML text, `spec` a job as JSON")
    made = spec.name == default_name(spec)  # it is made again
    return document.assign(document_of(spec) | ({"name": ""} if made else {}), request.set), spec


def _outside(work: TrainWork, roots: Sequence[str]) -> list[Finding]:
    """Of the files and folders that it names; what a data set's own files lead to is for the preflight."""
    findings = Findings()
    for where, path in legacy.paths_of(work).items() if roots else ():
        try:
            real = Path(path).resolve()
        except (OSError, RuntimeError, ValueError) as error:  # a name too long, links in a circle, a NUL
            findings.error(where, f"{shorten(path, 200)} cannot be followed: {shorten(str(error), 200)}")
            continue
        if not any(real.is_relative_to(root) for root in roots):
            hint = f"allowed are {', '.join(roots)} (setting allowed_roots)"
            findings.error(where, f"{path} lies outside the allowed folders", hint)
    return findings.all()


def _bad(where: str, message: str, hint: str) -> BadInput:
    return BadInput([Finding(where=where, message=message, hint=hint)], ErrorCode.BAD_REQUEST)
