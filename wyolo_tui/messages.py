"""What workers say to the screens. They only say it: the handlers own the state."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.message import Message

from wyolo_tui.board import Board

if TYPE_CHECKING:
    from broker.protocol.api import JobPage, LogChunk, MetricTable, Validation
    from broker.protocol.event import AuditEntry, FollowerEvent
    from broker.protocol.job import Job


@dataclass
class SnapshotRead(Message):
    board: Board


@dataclass
class EventsCame(Message):
    """What came within a tick, together: at most four of these a second."""

    events: Sequence["FollowerEvent"]


@dataclass
class LinkCame(Message):
    """Connected: what is shown is live."""


@dataclass
class LinkWent(Message):
    """Out of reach: what is shown stays, with the time it was true."""

    why: str
    retry_s: float
    for_good: bool = False  # trying again is of no use: a wrong key


@dataclass
class OlderRead(Message):
    page: "JobPage"
    advance: bool  # False: found by a filter; the cursor of the whole list stays where it was


@dataclass
class JobRead(Message):
    job: "Job"


@dataclass
class LogRead(Message):
    job_id: int
    chunk: "LogChunk"
    missed: bool = False  # of a gap in what is held, read because a person scrolled to it
    fresh: bool = False  # the first chunk of a newly chosen job


@dataclass
class MetricsRead(Message):
    table: "MetricTable"


@dataclass
class AuditRead(Message):
    job_id: int
    entries: Sequence["AuditEntry"]


@dataclass
class TrailRead(Message):
    """Of the audit trail every entry after one number up to another, in order."""

    after: int
    upto: int
    entries: Sequence["AuditEntry"]


@dataclass
class TrailSettled(Message):
    """What was to be read of it was, or `problem` says why not."""

    problem: str = ""


@dataclass
class Validated(Message):
    serial: int  # of the text that was checked
    answer: "Validation | None"
    problem: str = ""


@dataclass
class Said(Message):
    """A short word for the person: the outcome of a verb."""

    text: str
    severity: str = "information"
