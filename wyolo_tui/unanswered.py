"""Why the broker did not do what it was asked. Apart from the client, so that knowing these costs no HTTP library.

Unanswered
├── BrokerOut       it cannot be reached, or what answers is no broker     nothing is known of what was asked
└── ProblemError    it answered that it cannot; `problem` says why         nothing was changed
"""

from broker.protocol.api import Problem


class Unanswered(Exception):
    """What was asked did not happen, or it is not known whether it did."""


class BrokerOut(Unanswered):
    """`remedy`: what to do, where it is not to start a broker."""

    def __init__(self, message: str, remedy: str = "") -> None:
        self.remedy = remedy
        super().__init__(message)


class ProblemError(Unanswered):
    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.detail or problem.title)
