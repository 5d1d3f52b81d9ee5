"""Why the broker did not do what it was asked. Apart from the client, so that knowing these costs no HTTP library.

Unanswered
├── BrokerOut       it cannot be reached, or what answers is no broker     nothing is known of what was asked
└── ProblemError    it answered that it cannot; `problem` says why         nothing was changed
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.protocol.api import Problem


class Unanswered(Exception):
    """What was asked did not happen, or it is not known whether it did."""


class BrokerOut(Unanswered):
    """`remedy`: what to do, where it is not to start a broker."""

    def __init__(self, message: str, remedy: str = "") -> None:
        self.remedy = remedy
        super().__init__(message)


class ProblemError(Unanswered):
    def __init__(self, problem: "Problem") -> None:
        self.problem = problem
        super().__init__(problem.detail or problem.title)


def problem_text(error: Exception) -> str:
    """What happened, with the findings where there are some."""
    findings = getattr(getattr(error, "problem", None), "findings", [])
    lines = [f"{finding.where}: {finding.message}" if finding.where else finding.message for finding in findings[:3]]
    return "\n".join([str(error), *lines]) if lines and str(error) not in lines else str(error)
