"""Every node: what its processor, memory, disks and GPUs do now and did just before, and which job owns what; and the
keys by which its owner takes it back."""

from collections.abc import Callable
from datetime import UTC, datetime

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Container
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from broker.protocol.fleet import Node
from wyolo_tui.board import Change
from wyolo_tui.gauges import Clock, node_lines, short_line
from wyolo_tui.keymap import bindings
from wyolo_tui.present import plain
from wyolo_tui.screens.page import Page
from wyolo_tui.widgets.bars import titled
from wyolo_tui.widgets.lines import Lines
from wyolo_tui.widgets.text_view import TextView

LIST_MOST = 8  # lines of the list before it scrolls


class NodeList(Lines):
    BINDINGS = bindings("moving")

    class Chosen(Message):
        """The cursor is on another node."""

    def __init__(self) -> None:
        super().__init__(id="nodes")
        self.nodes: list[Node] = []
        self.clock = Clock(datetime.now(UTC))

    @property
    def current(self) -> Node | None:
        return self.nodes[self.cursor] if self.cursor < len(self.nodes) else None

    def draw_line(self, index: int, width: int, on_cursor: bool) -> Strip:
        background = self.palette["cursor" if self.has_focus else "cursor.away"] if on_cursor else None
        line = short_line(self.nodes[index], width - 1, self.glyphs, self.clock)
        return self.strip([[(" ", "")], line], width, background)

    def watch_cursor(self, before: int, after: int) -> None:
        super().watch_cursor(before, after)
        self.post_message(self.Chosen())


class NodesScreen(Page):
    BINDINGS = bindings("nodes")
    number = 2
    scopes = ("anywhere", "moving", "nodes")

    def body(self) -> ComposeResult:
        with Container(id="nodes-split"):
            yield NodeList()
            yield TextView(id="node", note="no node has reported yet")

    @property
    def _list(self) -> NodeList:
        return self.query_one(NodeList)

    def on_mount(self) -> None:
        self._list.add_class("panel")
        self.query_one("#node").add_class("panel")
        self._list.focus()

    def board_replaced(self) -> None:
        super().board_replaced()
        self._fill()

    def board_changed(self, change: Change) -> None:
        super().board_changed(change)
        if change.nodes:
            self._fill()

    def retheme(self) -> None:
        super().retheme()
        self._list.refresh()
        self.query_one("#node", TextView).refresh()

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(self.narrow, "-narrow")
        self.call_after_refresh(self._fill)

    def choose(self, name: str) -> bool:
        """Put the cursor on a node. Whether there is one of that name."""
        at = next((n for n, node in enumerate(self._list.nodes) if node.name == name), None)
        if at is not None:
            self._list.cursor = at
        return at is not None

    def _fill(self) -> None:
        nodes = sorted(self.cockpit.board.nodes.values(), key=lambda node: (-len(node.gpu_jobs), node.name))
        view = self._list
        view.border_title = titled([("Nodes", "strong")], self.cockpit.palette, self.narrow)  # pyright: ignore[reportAttributeAccessIssue]
        view.nodes = nodes
        view.clock = self._clock
        view.count = len(nodes)
        view.styles.height = min(LIST_MOST, max(1, len(nodes))) + 2
        view.display = len(nodes) > 1
        view.refresh()
        if not view.display and self.focused is view:
            self.query_one("#node").focus()
        self._show()

    @on(NodeList.Chosen)
    def _show(self) -> None:
        view, node = self.query_one("#node", TextView), self._list.current
        if node is None:
            view.show_lines([])
            return
        view.border_title = titled([(plain(node.name), "strong")], self.cockpit.palette, self.narrow)  # pyright: ignore[reportAttributeAccessIssue]
        self.draw_keys()
        width = max(20, view.size.width - 4)
        view.show_lines(node_lines(node, self.cockpit.board.jobs, width, self.cockpit.glyphs, self._clock))

    @property
    def _clock(self) -> Clock:
        return Clock(self.cockpit.now, self.cockpit.zone)

    # --- its owner takes it back ---

    def action_drain(self) -> None:
        self._say(self.cockpit.nodes.drain)

    def action_drain_now(self) -> None:
        self._say(lambda node: self.cockpit.nodes.drain(node, now=True))

    def action_pause(self) -> None:
        self._say(self.cockpit.nodes.pause)

    def action_pause_now(self) -> None:
        self._say(lambda node: self.cockpit.nodes.pause(node, now=True))

    def action_resume(self) -> None:
        self._say(self.cockpit.nodes.resume)

    def _say(self, verb: Callable[[Node], None]) -> None:
        if (node := self._list.current) is not None:
            verb(node)

    def hints(self) -> list[str]:
        node = self._list.current
        free = node is None or node.withheld is None
        own = ["node.drain", "node.pause", "node.pause_now"] if free else ["node.resume", "node.drain", "node.pause"]
        return [*own, "app.next_pane", "app.theme", "app.quit"]

    def home(self) -> Widget:
        return self._list if self._list.display else self.query_one("#node")
