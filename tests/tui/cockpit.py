"""The cockpit in a test: a frozen clock, UTC, the fake fleet, and conditions to wait for."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC
from pathlib import Path
from typing import cast

from textual import events
from textual._context import visible_screen_stack
from textual.keys import _character_to_key, key_to_character  # pyright: ignore[reportPrivateUsage]
from textual.pilot import Pilot
from textual.screen import Screen
from textual.strip import Strip

from tests.tui.fake_link import NOW, FakeLink, connected
from tests.waiting import until
from wyolo_tui.app import WyoloApp
from wyolo_tui.options import Options
from wyolo_tui.screens.jobs import JobsScreen
from wyolo_tui.widgets.jobs_table import JobsTable

NOWHERE = Path("/nonexistent")
SOON_S = 0.01  # nobody looks on
HOPS = 3  # of a key: the app, its screen, the widget that has the focus


def app_of(
    link: FakeLink,
    *,
    theme: str | None = None,
    unicode: bool = True,
    notice: str = "",
    config_dir: Path = NOWHERE,
    soon_s: float = SOON_S,
) -> WyoloApp:
    options = Options(
        unicode=unicode,
        theme=theme,
        notice=notice,
        address=link.address,
        now=lambda: NOW,
        zone=UTC,
        settle_s=soon_s,
        roam_s=soon_s,
        check_s=soon_s,
        config_dir=config_dir,
    )
    return WyoloApp(connected(link), options)


class Cockpit:
    """A running cockpit and the keys to drive it."""

    def __init__(self, app: WyoloApp, pilot: Pilot[None], link: FakeLink) -> None:
        self.app, self.pilot, self.link = app, pilot, link

    @property
    def jobs(self) -> JobsScreen:
        page = self.app.page
        assert isinstance(page, JobsScreen)
        return page

    @property
    def table(self) -> JobsTable:
        return self.jobs.table

    @property
    def words(self) -> str:
        """What the screen shows, as text."""
        return text_of(self.app)

    @property
    def toasts(self) -> list[str]:
        return [notification.message for notification in self.app._notifications]  # pyright: ignore[reportPrivateUsage]

    async def press(self, *keys: str) -> None:
        """Each once every widget has heard of the one before; what is drawn is waited for once, in the end."""
        for key in keys:
            self.app.post_message(_key(key))
            for _ in range(HOPS):
                await self.pilot._wait_for_screen()  # pyright: ignore[reportPrivateUsage]
        await self.app.animator.wait_until_complete()
        await self.pilot.pause()

    async def press_at_once(self, *keys: str) -> None:
        """As they come from a slow line: all are there before the first is looked at. 'stop 1' is six keys."""
        named = {"enter", "escape", "backspace", "left"}
        for key in (each for word in keys for each in ([word] if word in named else word)):
            self.app.post_message(_key(key))
        await self.pilot.pause()

    async def type(self, text: str) -> None:
        """Into the line that has the focus, at once as a paste does: key by key takes a test seconds."""
        focused = self.app.focused
        assert focused is not None
        focused.post_message(events.Paste(text))
        await self.pilot.pause()

    async def until(self, probe: Callable[[], object], what: str = "") -> None:
        await until(probe, 10.0, what)

    async def shows(self, text: str) -> None:
        """Waits until the screen says this."""
        await until(lambda: text in self.words, 10.0, f"{text!r} on the screen:\n{self.words}")

    async def still(self) -> None:
        """Waits until what is shown is the same twice."""
        before: list[Strip] = []
        while before != (now := strips_of(self.app)):
            before = now
            await self.pilot.pause()
            await self.pilot.pause(0.1)

    async def on(self, job_id: int) -> None:
        """Put the cursor on a job, and wait for its details."""
        self.table.select(job_id)
        detail = self.jobs.detail
        await until(lambda: detail.job is not None and detail.job.id == job_id, 10.0, f"details of {job_id}")

    def asked(self, verb: str) -> list[tuple[object, ...]]:
        """The arguments of each call of the client's method."""
        return [arguments for name, arguments in self.link.calls if name == verb]


@asynccontextmanager
async def cockpit(
    link: FakeLink | None = None,
    size: tuple[int, int] = (120, 40),
    *,
    theme: str | None = None,
    unicode: bool = True,
    config_dir: Path = NOWHERE,
    toasts: bool = False,
) -> AsyncGenerator[Cockpit]:
    """Opened and loaded. `toasts`: they are drawn too."""
    link = link or FakeLink()
    app = app_of(link, theme=theme, unicode=unicode, config_dir=config_dir)
    async with app.run_test(size=size, notifications=toasts) as pilot:
        await until(lambda: link.followed or link.out, 10.0, "all of a snapshot")
        if link.held:
            await until(lambda: link.out or app.link_state.up, 10.0, "a link")
        await pilot.pause()
        yield Cockpit(app, pilot, link)


def _key(name: str) -> events.Key:
    """By its name or its character."""
    key = _character_to_key(name) if len(name) == 1 else name
    return events.Key(key, key_to_character(key))


def text_of(app: WyoloApp) -> str:
    width, height = app.size
    return "\n".join(strip.text[:width] for strip in strips_of(app)[:height])


def strips_of(app: WyoloApp) -> list[Strip]:
    """Also of what shines through behind a dialog."""
    behind = cast(list[Screen[object]], app._background_screens)  # pyright: ignore
    visible_screen_stack.set(behind)
    return app.screen._compositor.render_strips()  # pyright: ignore[reportPrivateUsage]
