"""What every verb has at hand: the broker, standard output for results, standard error for everything else.

Results on stdout are for programs as much as for people; with --json they are the protocol's models, one to a line.
"""

import shutil
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

from broker.protocol.api import ErrorCode, Finding, Problem
from wyolo_tui import discovery
from wyolo_tui.present import ASCII, UNICODE, Glyphs, plain
from wyolo_tui.unanswered import BrokerOut, ProblemError, Unanswered

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console
    from rich.text import Text

    from wyolo_tui.client import BrokerClient


class Exit(IntEnum):
    OK = 0
    FAILED = 1  # the job failed, or was stopped
    BAD_INPUT = 2
    BROKER_OUT = 3
    INTERRUPTED = 130


class BadUse(Exception):
    """What was typed cannot be meant. `remedy` says what to type instead."""

    def __init__(self, message: str, remedy: str = "") -> None:
        self.remedy = remedy
        super().__init__(message)


@dataclass(slots=True)
class Session:
    """One run of one verb."""

    url: str | None = None
    data_dir: Path | None = None
    json: bool = False
    on_interrupt: str = ""  # what goes on although Ctrl-C was pressed

    def broker(self, patience_s: float = 0.0) -> "BrokerClient":
        """Raises BrokerOut where none can be running."""
        return discovery.find(self.url, self.data_dir).client(patience_s, self._waiting)

    def say(self, text: str = "") -> None:
        """A line of the result. What others wrote in it can do nothing to the terminal."""
        print(harmless(text), flush=True)

    def note(self, text: str) -> None:
        """A line for the person, not for the program that reads the result. Where none can be written, it goes on."""
        with suppress(OSError):
            print(harmless(text), file=sys.stderr, flush=True)

    def emit(self, *models: "BaseModel") -> None:
        """Each as a line of JSON, in ASCII: whatever is in it, it is safe to look at."""
        for model in models:
            print(model.model_dump_json(ensure_ascii=True), flush=True)

    def emit_list(self, models: Sequence["BaseModel"]) -> None:
        """A JSON array, one element to a line."""
        print("[" + ",\n ".join(model.model_dump_json(ensure_ascii=True) for model in models) + "]", flush=True)

    def show(self, lines: Iterable["Text"]) -> None:
        console = self.console()
        for line in lines:
            console.print(line, soft_wrap=True)

    def console(self, *, stderr: bool = False) -> "Console":
        from rich.console import Console

        return Console(file=sys.stderr if stderr else sys.stdout, highlight=False, markup=False, emoji=False)

    @property
    def width(self) -> int | None:
        """Cells in a line of the terminal; None for a pipe, where nothing is ever cut."""
        return shutil.get_terminal_size().columns if sys.stdout.isatty() else None

    @property
    def glyphs(self) -> Glyphs:
        return UNICODE if (sys.stdout.encoding or "").lower().replace("-", "") == "utf8" else ASCII

    def report(self, error: Unanswered | BadUse) -> Exit:
        """Tells the person (a line and its remedy) or the program (a Problem) and returns the exit code."""
        code = exit_code(error)
        if self.json:
            self.emit(as_problem(error))
            return code
        findings = error.problem.findings if isinstance(error, ProblemError) else []
        if len(findings) == 1:
            self.note(f"error: {_finding(findings[0])}")
        else:
            self.note(f"error: {_heading(error.problem) if findings and isinstance(error, ProblemError) else error}")
            for finding in findings:
                self.note(f"  {finding_line(finding)}")
        advice = remedy(error)
        if advice:
            self.note(f"→ {advice}")
        return code

    def _waiting(self, why: str) -> None:
        self.note(f"{why}; trying for a moment")


def harmless(text: str) -> str:
    """A line as it is, but for what would command a terminal; tabs stay, for columns in a log depend on them."""
    return "\t".join(plain(part) for part in text.split("\t"))


def exit_code(error: Unanswered | BadUse) -> Exit:
    if isinstance(error, BadUse):
        return Exit.BAD_INPUT
    if isinstance(error, ProblemError) and error.problem.status < 500 and error.problem.status not in {401, 403}:
        return Exit.BAD_INPUT
    return Exit.BROKER_OUT


def as_problem(error: Unanswered | BadUse) -> Problem:
    """Also of what no broker said."""
    if isinstance(error, ProblemError):
        return error.problem
    title, status, code = "broker out of reach", 503, ErrorCode.BROKER_OUT
    if isinstance(error, BadUse):
        title, status, code = "bad request", 400, ErrorCode.BAD_REQUEST
    findings = [Finding(message=str(error), hint=remedy(error))]
    return Problem(title=title, status=status, detail=str(error), code=code, findings=findings)


def remedy(error: Unanswered | BadUse) -> str:
    if isinstance(error, BadUse):
        return error.remedy
    if isinstance(error, BrokerOut):
        return (
            error.remedy
            or "start one: wyolo broker start, or open the cockpit: wyolo (another place: --url, --data-dir)"
        )
    if isinstance(error, ProblemError):
        return {
            ErrorCode.UNAUTHORISED: "set WYOLO_KEY to what the broker's data directory has in the file `key`",
            ErrorCode.NOT_FOUND: "what there is: wyolo jobs",
        }.get(error.problem.code, "")
    return ""


def finding_line(finding: Finding) -> str:
    return f"{'✗' if finding.level == 'error' else '!'} {_finding(finding)}"


def _finding(finding: Finding) -> str:
    where = f"{finding.where}: " if finding.where else ""
    return f"{where}{finding.message}" + (f" → {finding.hint}" if finding.hint else "")


def _heading(problem: Problem) -> str:
    what = {ErrorCode.BAD_DATA: "the data set", ErrorCode.BAD_CONFIG: "the configuration"}.get(
        problem.code, "the request"
    )
    return f"{what} was refused, and nothing was changed"
