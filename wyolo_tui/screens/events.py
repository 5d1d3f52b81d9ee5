"""What happened, newest first: the audit trail of this sitting: each change of a job or a node."""

from collections.abc import Callable
from datetime import datetime, tzinfo

from textual import events
from textual.app import ComposeResult
from textual.strip import Strip
from textual.widget import Widget

from broker.protocol.event import JobChanged, JobRemoved, NodeChanged
from broker.protocol.fleet import NodeState
from broker.protocol.states import JobState
from wyolo_tui.keymap import bindings
from wyolo_tui.present import Cell, by_key, day_and_clock, plain, why
from wyolo_tui.screens.page import Page
from wyolo_tui.widgets.bars import titled
from wyolo_tui.widgets.lines import Lines


class HappenedList(Lines):
    BINDINGS = bindings("moving")

    def __init__(self) -> None:
        super().__init__(id="happened")
        self.rows: list[Cell] = []

    def draw_line(self, index: int, width: int, on_cursor: bool) -> Strip:
        background = self.palette["cursor" if self.has_focus else "cursor.away"] if on_cursor else None
        return self.strip([[(" ", "")], self.rows[index]], width, background)

    def draw_empty(self, y: int, width: int) -> Strip:
        if y == 1 and not self.count:
            return self.strip([[("  Nothing has happened since this screen was opened.", "dim")]], width)
        if y == 3 and not self.count:
            return self.strip(
                [
                    [
                        ("  All that happened to one job is in its tab ", "dim"),
                        ("Events", "accent"),
                        (" on the jobs screen.", "dim"),
                    ]
                ],
                width,
            )
        return super().draw_empty(y, width)


class EventsScreen(Page):
    number = 8
    scopes = ("anywhere", "moving")

    def body(self) -> ComposeResult:
        yield HappenedList()

    def on_mount(self) -> None:
        self._list.add_class("panel")
        self._list.focus()

    @property
    def _list(self) -> HappenedList:
        return self.query_one(HappenedList)

    def board_replaced(self) -> None:
        super().board_replaced()
        self._fill()

    def happened(self) -> None:
        """The app heard of something new."""
        at_top = self._list.cursor == 0
        before = self._list.count
        self._fill()
        if not at_top:
            self._list.cursor += self._list.count - before

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(self.narrow, "-narrow")
        self._title()

    def retheme(self) -> None:
        super().retheme()
        self._title()
        self._list.refresh()

    def _title(self) -> None:
        self._list.border_title = titled([("Events", "strong")], self.cockpit.palette, self.narrow)  # pyright: ignore[reportAttributeAccessIssue]

    def _fill(self) -> None:
        app = self.cockpit
        self._list.rows = [
            line(event, app.now, app.options.zone, app.glyphs.states, app.key) for event in app.trail.events
        ]
        self._list.count = len(self._list.rows)
        self._list.refresh()

    def hints(self) -> list[str]:
        return ["move.down", "move.up", "app.theme", "app.quit"]

    def home(self) -> Widget:
        return self._list


def line(
    event: JobChanged | JobRemoved | NodeChanged,
    now: datetime,
    zone: tzinfo | None,
    states: dict[JobState, str],
    key: Callable[[str], str],
) -> Cell:
    at: Cell = [(f"{day_and_clock(event.at, now, zone):<13}", "faint")]
    match event:
        case JobChanged(job=job):
            text, role = why(job)
            return [
                *at,
                (f"{job.id:>6}  ", "dim"),
                (f"{plain(event.verb):<10}", "accent"),
                (f"{states[job.state]} {job.state.value:<10} ", f"state.{job.state.value}"),
                (f"{plain(job.name)}  ", "strong"),
                (by_key(plain(event.note) or text, key), role),
            ]
        case JobRemoved():
            return [*at, (f"{event.job_id:>6}  ", "dim"), ("removed", "accent")]
        case NodeChanged(node=node):
            bad = node.state in (NodeState.UNREACHABLE, NodeState.DEGRADED)
            words = node.state.value
            if node.withheld is not None and node.state is node.withheld.state:
                words = plain(node.withheld.words(event.at, zone))
            return [
                *at,
                (" " * 8, ""),
                ("node      ", "accent"),
                (f"{plain(node.name)} {words}  ", "warn" if bad else ""),
                (plain(node.message), "warn" if bad else "dim"),
            ]
