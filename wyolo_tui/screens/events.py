"""What happened to jobs and nodes, newest first: the audit trail, from now back to its beginning."""

from typing import TYPE_CHECKING

from textual import events, on
from textual.app import ComposeResult
from textual.widget import Widget

from wyolo_tui.commands import Command
from wyolo_tui.keymap import bindings
from wyolo_tui.messages import JobRead, OlderRead, TrailRead, TrailSettled
from wyolo_tui.present import Cell
from wyolo_tui.prose import audit_line, whose
from wyolo_tui.screens.nodes import NodesScreen
from wyolo_tui.screens.page import Page
from wyolo_tui.screens.past import Past
from wyolo_tui.trail import KEPT
from wyolo_tui.widgets.bars import titled
from wyolo_tui.widgets.happened_list import HappenedList

if TYPE_CHECKING:
    from broker.protocol.event import AuditEntry
    from wyolo_tui.link import Link

NAMES = ((140, 32), (100, 24), (0, 16))  # from so many cells on, so many are for the name of a job or node


class EventsScreen(Page):
    BINDINGS = bindings("events")
    number = 8
    scopes = ("anywhere", "moving", "events")

    def __init__(self) -> None:
        super().__init__()
        self._past = Past(self)
        self._problem = ""  # why the trail could not be read; tried again once the board was

    def body(self) -> ComposeResult:
        yield HappenedList(self._word)

    def on_mount(self) -> None:
        self._list.add_class("panel")
        self._list.focus()

    @property
    def _list(self) -> HappenedList:
        return self.query_one(HappenedList)

    # --- what the app tells it ---

    def board_replaced(self) -> None:
        super().board_replaced()
        self._past.newer()
        self._fill()

    def happened(self) -> None:
        if not self._problem:
            self._past.newer()
        self._fill()

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(self.narrow, "-narrow")
        self._title()

    def retheme(self) -> None:
        super().retheme()
        self._title()
        self._list.refresh()

    # --- what is read ---

    @on(TrailRead)
    def _trail_read(self, message: TrailRead) -> None:
        self.cockpit.trail.take(message)
        self._fill()

    @on(TrailSettled)
    def _trail_settled(self, message: TrailSettled) -> None:
        self._problem = message.problem
        if not self._past.settled():
            self._near_end()
        self._fill()

    @on(HappenedList.NearEnd)
    def _near_end(self) -> None:
        if not self._problem and self._list.is_near_end:
            self._past.older()

    # --- how it looks ---

    def _title(self) -> None:
        trail = self.cockpit.trail
        title: Cell = [(f"Events {len(trail.entries)}", "strong")]
        if not trail.is_whole:
            title.append(("+", "dim"))
        self._list.border_title = titled(title, self.cockpit.palette, self.narrow)  # pyright: ignore[reportAttributeAccessIssue]

    def _fill(self) -> None:
        problem = f"The audit trail cannot be read: {self._problem}" if self._problem else ""
        self._list.replace(self.cockpit.trail.entries, self._end(), problem)
        self._title()

    def _end(self) -> str:
        """What is said under the last entry."""
        trail = self.cockpit.trail
        if self._problem:
            return ""
        if not self.cockpit.board.loaded:
            return f"connecting to the broker {self.cockpit.link_state.address}"
        if trail.is_whole:
            steps = "the epochs of a job are in its tab Events"
            return f"That is all; {steps}." if trail.entries else f"Nothing has happened yet; {steps}."
        if trail.is_full:
            return f"No more than {KEPT} are held here: `wyolo events --after 0` tells all."
        return "reading what was before"

    def _word(self, entry: "AuditEntry", width: int) -> Cell:
        app = self.cockpit
        job = None if entry.job_id is None else app.board.jobs.get(entry.job_id)
        room = next(cells for least, cells in NAMES if width >= least - 3)
        about = whose(entry, "" if job is None else job.name, room, app.glyphs)
        return audit_line(entry, app.now, app.options.zone, app.glyphs, app.key, about=about)

    def hints(self) -> list[str]:
        return ["events.open", "move.down", "move.up", "app.theme", "app.quit"]

    def home(self) -> Widget:
        return self._list

    # --- to what it is about ---

    @on(HappenedList.Opened)
    def action_open(self) -> None:
        entry, app = self._list.current, self.cockpit
        if entry is None:
            return
        if entry.job_id is None:
            app.go(2)
            app.call_after_refresh(self._on_node, entry.node or "")
        elif entry.job_id in app.board.jobs:
            self._on_job(entry.job_id)
        elif app.link is not None:  # it ended long ago, or is gone
            app.ask(self._job(app.link, entry.job_id), group="job-of-event")

    def _on_job(self, job_id: int) -> None:
        self.run_command(Command("job", ids=(job_id,)))

    def _on_node(self, name: str) -> None:
        page = self.cockpit.page
        if isinstance(page, NodesScreen) and not page.choose(name):
            self.cockpit.say(f"there is no node {name} any more", "warning")

    async def _job(self, link: "Link", job_id: int) -> None:
        self.post_message(JobRead(await link.job(job_id)))

    @on(JobRead)
    def _job_read(self, message: JobRead) -> None:
        from broker.protocol.api import JobPage

        app = self.cockpit
        app.post_message(OlderRead(JobPage(jobs=[message.job]), advance=False))
        app.call_later(self._on_job, message.job.id)
