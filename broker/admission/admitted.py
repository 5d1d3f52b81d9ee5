"""What is known of a submission once it was read."""

from dataclasses import dataclass, field

from broker.errors import BadInput
from broker.protocol.api import DataSummary, ErrorCode, Finding
from broker.protocol.findings import line
from broker.protocol.job import JobSpec


@dataclass(frozen=True, slots=True)
class Admitted:
    """A spec that can be queued, or findings of level error."""

    spec: JobSpec | None
    findings: list[Finding] = field(default_factory=list[Finding])
    data: DataSummary | None = None
    code: ErrorCode = ErrorCode.BAD_CONFIG  # of the errors

    @property
    def warnings(self) -> list[str]:
        return [line(finding) for finding in self.findings if finding.level == "warning"]

    def required(self) -> JobSpec:
        """Raises BadInput."""
        if self.spec is None:
            raise BadInput([finding for finding in self.findings if finding.level == "error"], self.code)
        return self.spec
