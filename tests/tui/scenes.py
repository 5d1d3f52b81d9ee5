"""The moments that are pictured: by the snapshots, and for the pages (`python -m tests.tui.scenes` writes docs/img)."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from textual.pilot import Pilot
from textual.widgets import Input, TextArea

from broker.protocol.job import Job
from tests.tui.cockpit import Cockpit, app_of
from tests.tui.fake_link import FakeLink
from tests.waiting import until
from wyolo_tui.app import WyoloApp
from wyolo_tui.widgets.detail import Detail

Scene = Callable[[Cockpit], Awaitable[None]]
IMAGES = Path(__file__).parents[2] / "docs" / "img"
WRONG = """\
name: harbour-long
model: yolov8m.pt
train:
  data: /data/harbour/data.yaml
  epoks: 300
  imgsz: 640
"""


async def jobs(tui: Cockpit) -> None:
    await tui.on(41)


async def curves(tui: Cockpit) -> None:
    await tui.on(41)
    await tui.press("m")
    await tui.shows("box loss")


async def log(tui: Cockpit) -> None:
    await tui.on(43)
    await tui.press("l")
    await tui.shows("OutOfMemoryError")


async def nodes(tui: Cockpit) -> None:
    await tui.press("2")
    await tui.shows("GPU 0")


async def paused(tui: Cockpit) -> None:
    await tui.press("2")
    await tui.shows("GPU 0")
    await tui.link.pause_node("attic", for_s=7200)
    await tui.link.pause_node("local", for_s=3600, now=True)
    await tui.shows("save and leave")


async def pause(tui: Cockpit) -> None:
    await tui.press("2")
    await tui.shows("GPU 0")
    await tui.press("P")
    await tui.shows("paused until 15:02")


async def resolve(tui: Cockpit) -> None:
    await tui.on(36)
    await settled(tui)
    await tui.press("u")
    await tui.shows("What became of this job?")


async def events(tui: Cockpit) -> None:
    await tui.press("8")
    await tui.link.hold(47)
    await tui.link.kill(44)
    await tui.link.pause_node("attic", for_s=7200)
    await tui.link.submit_named("harbour-again")
    await tui.until(lambda: tui.words.count("by ann") == 4, "all of it as it was written down")


async def submit(tui: Cockpit) -> None:
    await settled(tui)
    await tui.press("n")
    await tui.shows("would run")
    tui.app.screen.query_one(TextArea).text = WRONG
    await tui.shows("did you mean epochs?")


async def confirm(tui: Cockpit) -> None:
    await tui.on(45)
    await tui.press("space", "space", "space", "space")
    await settled(tui)  # behind a dialog little is drawn again
    await tui.press("K")
    await tui.shows("Kill these 4 jobs?")


async def help(tui: Cockpit) -> None:
    await settled(tui)
    await tui.press("question_mark")
    await tui.shows("command line: every verb")


async def command(tui: Cockpit) -> None:
    await tui.press("colon")
    await tui.type("re")
    await tui.shows("rerun [id ...]")


async def empty(tui: Cockpit) -> None:
    await tui.shows("There are no jobs yet.")


SCENES: dict[str, Scene] = {
    scene.__name__: scene
    for scene in (jobs, curves, log, nodes, paused, pause, resolve, events, submit, confirm, help, command, empty)
}


def staged(name: str, **options: object) -> tuple[WyoloApp, Callable[[Pilot[None]], Awaitable[None]]]:
    """The app, and what brings it to the scene once it runs."""
    link = FakeLink(jobs=[]) if name == "empty" else FakeLink()
    app = app_of(link, soon_s=0.3, **options)  # pyright: ignore[reportArgumentType]

    async def play(pilot: Pilot[None]) -> None:
        await until(lambda: app.link_state.up and link.followed, 10.0, "all of the snapshot")
        tui = Cockpit(app, pilot, link)
        await SCENES[name](tui)
        await settled(tui)

    return app, play


async def settled(tui: Cockpit) -> None:
    """Nothing more is going to be drawn: no toasts, no blinking, no chart that waits for its turn."""
    app = tui.app
    for line in app.screen.query(Input):
        line.cursor_blink = False
        line.refresh()
    for editor in app.screen.query(TextArea):
        editor.cursor_blink = False
        editor.refresh()
    app.clear_notifications()
    if app.page is not None and app.page.number == 1:
        detail = tui.jobs.detail
        await until(lambda: _told(tui.table.current, detail), 10.0, "everything about the selected job")
    await tui.still()


def _told(job: Job | None, detail: Detail) -> bool:
    """The pane shows all that it will about this job."""
    if job is None:
        return True
    if detail.job is None or detail.job.id != job.id:
        return False
    if "log" in detail.shown and job.fence and not detail.log_view.held.entries:
        return False
    if "curves" not in detail.shown or not job.epoch:
        return True
    curves = detail.curves
    return curves is not None and curves.table is not None and curves.table.job_id == job.id and curves.settled


async def _draw(name: str, size: tuple[int, int], file: str, **options: object) -> None:
    app, play = staged(name, **options)
    async with app.run_test(size=size) as pilot:
        await play(pilot)
        (IMAGES / file).write_text(app.export_screenshot(title="wyolo"), encoding="utf-8")


async def _draw_all() -> None:
    IMAGES.mkdir(exist_ok=True)
    await _draw("curves", (200, 50), "jobs.svg")
    await _draw("nodes", (120, 36), "nodes.svg")
    await _draw("events", (120, 36), "events.svg")
    await _draw("submit", (120, 36), "submit.svg")
    await _draw("jobs", (120, 40), "light.svg", theme="light")


if __name__ == "__main__":
    asyncio.run(_draw_all())
