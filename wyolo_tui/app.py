"""The cockpit: one app that owns the board and the link; screens show it and ask it to act.

Nothing here blocks: what takes time is a worker, and a worker only posts messages.
"""

import os
import subprocess
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, tzinfo
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual import events, on, work
from textual.app import App, SuspendNotSupported, SystemCommand
from textual.binding import BindingType
from textual.screen import Screen
from textual.theme import BUILTIN_THEMES
from textual.worker import Worker

from broker.protocol.states import JobState
from wyolo_tui.acting import Acting
from wyolo_tui.board import Board, Change, more
from wyolo_tui.collecting import Collector
from wyolo_tui.commands import ENTRIES, Entry, parse
from wyolo_tui.keymap import BY_ID, printed, read_keymap
from wyolo_tui.link import Link
from wyolo_tui.messages import EventsCame, LinkCame, LinkWent, OlderRead, Said, SnapshotRead
from wyolo_tui.node_acting import NodeActing
from wyolo_tui.options import Options
from wyolo_tui.present import ASCII, UNICODE, Glyphs, by_key, plain, why
from wyolo_tui.rush import Rush
from wyolo_tui.screens.dialog import Dialog
from wyolo_tui.screens.jobs import JobsScreen
from wyolo_tui.screens.page import Page
from wyolo_tui.themes import NAMES, THEMES, Palette, named
from wyolo_tui.tracking import track
from wyolo_tui.trail import Trail
from wyolo_tui.widgets.bars import LinkState
from wyolo_tui.widgets.field import Field

if TYPE_CHECKING:
    from broker.protocol.job import Job

MANY_JOBS = 1_000
MOST_ENDED = 5_000  # jobs whose end was seen, and that are held
COLLECT_S = 1.0
TELL_S = 0.5
KEPT_THEMES = frozenset({"textual-dark", "textual-light"})  # Textual falls back on these


def _screen(number: int) -> Screen[Any]:
    """Imported when it is first looked at."""
    if number == 2:
        from wyolo_tui.screens.nodes import NodesScreen

        return NodesScreen()
    if number == 8:
        from wyolo_tui.screens.events import EventsScreen

        return EventsScreen()
    from wyolo_tui.screens.soon import SoonScreen

    return SoonScreen(number)


class WyoloApp(App[None]):
    TITLE = "wyolo"
    CSS_PATH = Path(__file__).parent / "wyolo.tcss"
    BINDINGS: ClassVar[list[BindingType]] = []
    ENABLE_COMMAND_PALETTE = True
    NOTIFICATION_TIMEOUT = 4
    MODES: ClassVar[dict[str, str | Callable[[], Screen[Any]]]] = {
        "screen-1": JobsScreen,
        **{f"screen-{number}": partial(_screen, number) for number in range(2, 9)},
    }
    DEFAULT_MODE = "screen-1"

    def __init__(self, connect: Callable[[], Awaitable[Link]], options: Options | None = None) -> None:
        """`connect` makes the client; it is called once the first frame is painted."""
        self.options = options or Options()
        self.board = Board()
        self._collector = Collector()
        self.link_state = LinkState(self.options.address)
        self.glyphs: Glyphs = UNICODE if self.options.unicode else ASCII
        self.palette = Palette(NAMES[0])
        self.keys: dict[str, str] = {}
        self.link: Link | None = None
        self.acting = Acting(self)
        self.nodes = NodeActing(self)
        self.trail = Trail()
        self._rush = Rush()
        self._prompt_ends = False  # enter or escape is on its way to a prompt: the next keys wait until that is done
        self._ahead: deque[events.Key | events.Paste] = deque()
        self._ended = 0  # since the snapshot
        self._connect = connect
        super().__init__()
        for theme in THEMES:
            self.register_theme(theme)
        for name in BUILTIN_THEMES:
            if name not in KEPT_THEMES:
                self.unregister_theme(name)
        self.theme = named(self.options.theme or "") or NAMES[0]
        self._take_theme()
        if not self.options.unicode:
            from wyolo_tui.ascii import AsciiFilter

            self._filters.append(AsciiFilter())

    def on_mount(self) -> None:
        self.theme_changed_signal.subscribe(self, lambda _: self._retheme())
        self._collector.start()
        self.set_interval(COLLECT_S, self._collector.look)
        self.set_interval(TELL_S, self._tell_rush)
        keymap, wrong = read_keymap(self.options.config_dir / "keys.toml")
        self.keys = keymap
        if keymap:
            self.set_keymap(keymap)
        for line in wrong:
            self.say(line, "warning")
        if self.options.notice:
            self.say(self.options.notice)
        self.call_after_refresh(self._live)

    # --- for the screens ---

    @property
    def now(self) -> datetime:
        return self.options.now()

    @property
    def zone(self) -> tzinfo | None:
        return self.options.zone

    @property
    def page(self) -> Page | None:
        """The screen under any dialog."""
        return next((screen for screen in reversed(self.screen_stack) if isinstance(screen, Page)), None)

    @property
    def _opened(self) -> Page | None:
        """The page once it has its widgets. As it comes to the front it draws everything."""
        page = self.page
        return page if page is not None and self._has_widgets(page) else None

    def _has_widgets(self, screen: Screen[Any]) -> bool:
        """Not while it is being opened, nor while the cockpit ends."""
        return self.is_running and screen.is_mounted

    @property
    def gpu_index(self) -> dict[str, int]:
        """GPU uuid -> its index on its node."""
        return {gpu.uuid: gpu.index for node in self.board.nodes.values() if node.sample for gpu in node.sample.gpus}

    def key(self, id: str) -> str:
        """What is printed on the key of a binding, after remapping."""
        keys = self.keys.get(id) or BY_ID[id].keys
        return printed(keys.split(",", maxsplit=1)[0].strip())

    def say(self, text: str, severity: str = "information") -> None:
        level = cast(Any, severity)
        self.notify(plain(text), severity=level, markup=False, timeout=8 if severity == "error" else 4)

    def ask(
        self, coroutine: Awaitable[Any], *, group: str, exclusive: bool = True, quiet: bool = False
    ) -> Worker[None]:
        """Run this off the screens; what the broker cannot do becomes a word to the person."""

        async def run() -> None:
            from wyolo_tui.unanswered import Unanswered, problem_text

            try:
                await coroutine
            except Unanswered as error:
                if not quiet:
                    self.post_message(Said(problem_text(error), "error"))

        return self.run_worker(run(), group=group, exclusive=exclusive)

    def reload(self) -> None:
        """Read everything again; the stream starts anew from there."""
        self._live()

    def leave_for(self, verb: Sequence[str]) -> None:
        """The terminal is a verb's until that ends. The cockpit stands still meanwhile, and catches up."""
        try:
            with self.suspend():
                command = [sys.executable, "-m", "wyolo_tui", *verb]
                code = subprocess.run(command, env={**os.environ, **self.options.door}, check=False).returncode
                if code:
                    print(f"\nit ended with {code}; Enter goes back to the cockpit", end="", flush=True)
                    sys.stdin.readline()
        except SuspendNotSupported:
            self.say(f"this terminal cannot be handed over: type `wyolo {' '.join(verb)}` in another one", "warning")
        else:
            self.refresh(layout=True)

    def undo(self) -> None:
        self.acting.undo()

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The palette: what the command line knows, found by a part of its name."""
        for entry in ENTRIES:
            usage = f" {entry.usage}" if entry.usage else ""
            yield SystemCommand(f"{entry.name}{usage}", entry.help, partial(self._from_palette, entry))

    def _from_palette(self, entry: Entry) -> None:
        page = self.page
        if page is None:
            return
        if entry.usage and not entry.usage.startswith("["):  # it wants a word more
            page.open_command(f"{entry.name} ")
        else:
            page.run_command(parse(entry.name))

    def cancel(self, group: str) -> None:
        """End the workers of a group."""
        self.workers.cancel_group(self, group)  # pyright: ignore[reportUnknownMemberType]

    def go(self, number: int) -> None:
        """Screen 1 to 8."""
        current = self.page
        if current is not None and current.number == number:
            return
        self.switch_mode(f"screen-{number}")

    def filter_jobs(self) -> None:
        """The filter line, on the screen that has it. Now: the next key is a letter of it."""
        self.go(1)
        if isinstance(self.page, JobsScreen):
            self.page.open_filter()

    # --- the link ---

    @work(exclusive=True, group="live")
    async def _live(self) -> None:
        """Ends with the app."""
        if self.link is None:
            self.link = await self._connect()
        await track(self.link, self.post_message, lambda: self.board.loaded)

    @on(SnapshotRead)
    def _snapshot_read(self, message: SnapshotRead) -> None:
        from wyolo_tui.folding import renewed

        first = not self.board.loaded
        self.board = renewed(self.board, message.board)
        if len(self.board.jobs) > MANY_JOBS:
            self._collector.keep()
        if self._opened is not None:
            self._opened.board_replaced()
        if first:
            self._link_is(True)

    @on(EventsCame)
    def _events_came(self, message: EventsCame) -> None:
        from wyolo_tui.folding import fold

        self.board, change = fold(self.board, message.events)
        news = self.trail.hear(message.events)
        self._tell(change)
        if news and self._opened is not None:
            self._opened.happened()
        for job in self._rush.single(change.ended, monotonic()):
            self._toast(job)
        self._ended += len(change.ended)
        if self._ended > MOST_ENDED:
            self._ended = 0
            self._live()  # reads again what matters, which lets go of the rest

    @on(OlderRead)
    def _older_read(self, message: OlderRead) -> None:
        cursor = message.page.next_cursor if message.advance else self.board.cursor
        self.board, change = more(self.board, message.page.jobs, cursor)
        self._tell(change)

    def _tell(self, change: Change) -> None:
        if self._opened is not None:
            self._opened.board_changed(change)

    @on(LinkCame)
    def _link_came(self) -> None:
        self._link_is(True)

    @on(LinkWent)
    def _link_went(self, message: LinkWent) -> None:
        before = self.link_state
        as_of = before.as_of or (self.now if self.board.loaded else None)
        self.link_state = replace(before, up=False, as_of=as_of, why=plain(message.why))
        if message.for_good or before.up:
            self.say(message.why, "error" if message.for_good else "warning")
        self._show_link()

    def _link_is(self, up: bool) -> None:
        if up and self.link_state.as_of is not None:
            self.say("the broker answers again")
        address = self.link.address if self.link is not None else self.link_state.address
        self.link_state = LinkState(address, up)
        self._show_link()

    def _show_link(self) -> None:
        for screen in self.screen_stack:
            if isinstance(screen, Page | Dialog) and self._has_widgets(screen):
                screen.link_changed()

    def _tell_rush(self) -> None:
        if (told := self._rush.together(monotonic())) is not None:
            text, failed = told
            self.say(text, "error" if failed else "information")

    def _toast(self, job: "Job") -> None:
        text, state = by_key(why(job)[0], self.key), job.state.value
        said = text if text.startswith(state) else f"{state}: {text}" if text else state
        level = "error" if job.state is JobState.FAILED else "information"
        self.say(f"#{job.id} {job.name} {said}", level)

    @on(Said)
    def _said(self, message: Said) -> None:
        self.say(message.text, message.severity)

    # --- what is typed ---

    async def on_event(self, event: events.Event) -> None:
        if isinstance(event, events.Key | events.Paste) and not event.is_forwarded:
            self._collector.typed()
            if self._prompt_ends:
                self._ahead.append(event)
                return
            if isinstance(event, events.Key) and isinstance(self.focused, Field):
                self._prompt_ends = event.key in Field.ENDS
        await super().on_event(event)

    def prompt_ended(self) -> None:
        """The page or the dialog has done what the line said: now what was typed behind it, in its order."""
        self.call_later(self._type_ahead)

    async def _type_ahead(self) -> None:
        self._prompt_ends = False
        while self._ahead and not self._prompt_ends:
            await self.on_event(self._ahead.popleft())

    async def on_unmount(self) -> None:
        self._collector.stop()
        if self.link is not None:
            await self.link.close()

    # --- colours ---

    def next_theme(self) -> None:
        at = NAMES.index(self.theme) if self.theme in NAMES else -1
        self.theme = NAMES[(at + 1) % len(NAMES)]
        self.say(f"theme {self.theme.removeprefix('wyolo-')}")

    def _take_theme(self) -> None:
        self.palette = Palette(self.theme, self.current_theme.dark)

    def _retheme(self) -> None:
        self._take_theme()
        for screen in self.screen_stack:
            if isinstance(screen, Page) and self._has_widgets(screen):
                screen.retheme()
