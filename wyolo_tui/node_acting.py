"""Verbs said of nodes from any screen: asked about where jobs would move, sent, and told."""

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from broker.protocol.states import ACTIVE
from wyolo_tui.commands import Command
from wyolo_tui.link import Link
from wyolo_tui.messages import Said
from wyolo_tui.present import plain
from wyolo_tui.when import Pause, WhenError, pause

if TYPE_CHECKING:
    from broker.protocol.fleet import Node
    from broker.protocol.job import Job
    from wyolo_tui.app import WyoloApp

_Send = Callable[[Link], Coroutine[Any, Any, "Node"]]


class NodeActing:
    """Belongs to the app."""

    def __init__(self, app: "WyoloApp") -> None:
        self._app = app

    def drain(self, node: "Node", now: bool = False) -> None:
        self._confirmed(node, now, lambda link: link.drain_node(node.name, now=now))

    def pause(self, node: "Node", now: bool = False) -> None:
        """For as long as a dialog is told."""
        from wyolo_tui.screens.pause import PauseDialog

        def answered(length: Pause | None) -> None:
            if length is not None:
                self._pause(node, length, now)

        self._app.push_screen(PauseDialog(node, now), answered)

    def resume(self, node: "Node") -> None:
        if node.withheld is None:
            self._app.say(f"{node.name} is neither drained nor paused")
            return
        self._send(node, lambda link: link.resume_node(node.name))

    def say(self, command: Command) -> None:
        """`:node pause media 1h --now`."""
        verb, *rest = command.words
        name, *length = rest or [""]
        nodes = self._app.board.nodes
        if name not in nodes:
            self._app.say(f"there is no node {name!r}: {', '.join(nodes)}", "warning")
            return
        now = "now" in command.options
        if verb == "drain":
            self.drain(nodes[name], now)
        elif verb == "resume":
            self.resume(nodes[name])
        else:
            try:
                self._pause(nodes[name], pause(" ".join(length), self._app.now, self._app.zone), now)
            except WhenError as error:
                self._app.say(f"{error}: {error.hint}", "warning")

    def _pause(self, node: "Node", length: Pause, now: bool) -> None:
        end = length.end(self._app.now)
        if end is not None and length.for_s is not None and end - self._app.now > timedelta(days=366):
            self._app.say("a pause lasts at most 366 days: leave its length out, and it lasts until resumed", "warning")
            return

        def send(link: Link) -> Coroutine[Any, Any, "Node"]:
            return link.pause_node(node.name, for_s=length.for_s, until=length.until, now=now)

        self._confirmed(node, now, send)

    def _confirmed(self, node: "Node", now: bool, send: _Send) -> None:
        """Where jobs would lose what they have not saved, a person says yes first."""
        moved = self._running(node) if now else []
        if not moved:
            self._send(node, send)
            return
        from wyolo_tui.screens.confirm import Answer, ConfirmDialog

        def answered(answer: Answer | None) -> None:
            if answer is not None:
                self._send(node, send)

        self._app.push_screen(ConfirmDialog("evict", moved, node=node.name), answered)

    def _running(self, node: "Node") -> list["Job"]:
        jobs = self._app.board.jobs
        return [jobs[id] for id in node.jobs if id in jobs and jobs[id].state in ACTIVE]

    def _send(self, node: "Node", send: _Send) -> None:
        link = self._app.link
        if link is None:
            self._app.say("the broker has not answered yet: nothing was done", "warning")
            return

        async def each() -> None:
            after = await send(link)
            words = "jobs may start there again"
            if after.withheld is not None:
                words = after.withheld.words(self._app.now, self._app.zone)
            self._app.post_message(Said(f"{plain(node.name)}: {words}"))

        self._app.ask(each(), group=f"node-{node.name}")
