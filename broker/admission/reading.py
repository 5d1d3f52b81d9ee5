"""YAML, specs and data sets -> what is admitted. Blocking: it runs in threads, and is first loaded there."""

from pathlib import Path
from typing import Any

from broker import preflight
from broker.admission.admitted import Admitted
from broker.admission.checks import Checks, default_name
from broker.errors import BadInput
from broker.protocol import document, legacy
from broker.protocol.api import ErrorCode, Finding, SubmitRequest
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
    said = found.findings if request.config is None else document.located(found.findings, request.config)
    if found.spec is None:
        return Admitted(None, said)
    spec = found.spec if origin is None else found.spec.model_copy(update={"trial_number": origin.trial_number})
    admitted = checks.finish(spec, request, by)
    if admitted.spec is None or not isinstance(spec.work, TrainWork):
        return Admitted(admitted.spec, [*said, *admitted.findings])
    outside = _outside(spec.work, settings)
    if outside:
        return Admitted(None, [*said, *admitted.findings, *outside])
    data, seen = preflight.check(spec.work, settings.preflight_images) if settings.preflight else (None, [])
    failed = any(finding.level == "error" for finding in seen)
    findings = [*said, *admitted.findings, *seen]
    return Admitted(None if failed else admitted.spec, findings, data, ErrorCode.BAD_DATA)


def _document(request: SubmitRequest, base: JobSpec | None) -> tuple[dict[str, Any], JobSpec | None]:
    """What is to be read, and the spec that it was before, where it was one. Raises DocumentError, BadInput."""
    if request.base_dir is not None and not Path(request.base_dir).is_absolute():
        raise _bad("base_dir", "is not a whole path", "the folder that the file lies in")
    if request.config is not None and request.spec is not None:
        raise _bad("", "both `config` and `spec` are given", "keep one of them")
    if request.config is not None:
        return document.assign(document.parse(request.config), request.set), base
    spec = request.spec or base
    if spec is None:
        raise _bad("", "neither `config` nor `spec` is given", "`config` is YAML text, `spec` a job as JSON")
    made = spec.name == default_name(spec)  # it is made again
    return document.assign(document_of(spec) | ({"name": ""} if made else {}), request.set), spec


def _outside(work: TrainWork, settings: Settings) -> list[Finding]:
    """Paths that lie in none of the allowed folders, wherever their links lead."""
    roots = [root.expanduser().resolve() for root in settings.allowed_roots]
    findings = Findings()
    for where, path in preflight.folders(work).items() if roots else ():
        real = path.resolve()
        if not any(real.is_relative_to(root) for root in roots):
            hint = f"allowed are {', '.join(map(str, roots))} (setting allowed_roots)"
            findings.error(where, f"{path} lies outside the allowed folders", hint)
    return findings.all()


def _bad(where: str, message: str, hint: str) -> BadInput:
    return BadInput([Finding(where=where, message=message, hint=hint)], ErrorCode.BAD_REQUEST)
