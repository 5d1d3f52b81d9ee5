"""The log pane: follows its end, is searched, and shows what a job wrote without obeying it."""

from broker.protocol.api import LogChunk, LogLine
from tests.tui.cockpit import Cockpit, cockpit
from tests.tui.fake_link import NOW
from wyolo_tui.messages import LogRead
from wyolo_tui.widgets.log_view import KEEP, LogView


def chunk(job_id: int, first: int, texts: list[str]) -> LogChunk:
    lines = [LogLine(offset=first + n * 10, at=NOW, text=text) for n, text in enumerate(texts)]
    return LogChunk(job_id=job_id, attempt=1, lines=lines, next_offset=first + len(texts) * 10)


async def opened(tui: Cockpit, job_id: int = 41) -> LogView:
    await tui.on(job_id)
    await tui.press("l")
    view = tui.jobs.detail.log_view
    await tui.until(lambda: view.lines)
    return view


async def test_it_follows_the_end_until_one_scrolls_up_and_f_follows_again() -> None:
    async with cockpit() as tui:
        view = await opened(tui)
        assert view.following
        await tui.press("k")
        assert not view.following
        await tui.shows("paused")
        tui.jobs.post_message(LogRead(41, chunk(41, 100_000, ["the newest line"])))
        await tui.until(lambda: view.lines[-1].text == "the newest line")
        assert "the newest line" not in tui.words
        await tui.press("f")
        await tui.shows("the newest line")


async def test_a_search_goes_to_the_match_and_n_to_the_next() -> None:
    async with cockpit() as tui:
        view = await opened(tui)
        await tui.press("slash")
        await tui.type("12/100")
        await tui.shows("1 lines")
        await tui.press("enter")
        await tui.shows("/12/100 1/1")
        assert "12/100" in tui.words
        await tui.press("slash")
        await tui.type("GPU_mem")
        await tui.press("enter", "n")
        await tui.shows("/GPU_mem 1/38")
        await tui.press("N")
        await tui.shows("/GPU_mem 38/38")
        assert not view.following


async def test_only_errors_leaves_the_lines_that_say_one() -> None:
    async with cockpit() as tui:
        view = await opened(tui, 43)
        await tui.press("exclamation_mark")
        await tui.shows("errors only")
        assert view.count == 1
        await tui.shows("torch.OutOfMemoryError")


async def test_long_lines_are_cut_or_wrapped_and_times_can_be_shown() -> None:
    async with cockpit(size=(80, 24)) as tui:
        view = await opened(tui)
        tui.jobs.post_message(LogRead(41, chunk(41, 100_000, ["start " + "x" * 200 + " finish"])))
        await tui.until(lambda: view.lines[-1].offset == 100_000)
        await tui.pilot.pause()
        assert "finish" not in tui.words
        await tui.press("w")
        await tui.shows("finish")
        await tui.press("T")
        await tui.shows("14:02:11 start")


async def test_older_lines_are_read_when_one_scrolls_to_the_top() -> None:
    async with cockpit() as tui:
        view = await opened(tui)
        view.clear()
        tui.jobs.post_message(LogRead(41, chunk(41, 50_000, [f"line {n}" for n in range(100)])))
        await tui.until(lambda: len(view.lines) == 100)
        await tui.press("g")
        await tui.until(lambda: view.lines[0].text.startswith("Ultralytics"))
        assert tui.asked("logs")


async def test_a_flood_is_bounded() -> None:
    async with cockpit() as tui:
        view = await opened(tui)
        for batch in range(12):
            view.add(chunk(41, 1_000_000 + batch * 10_000, [f"flood {n}" for n in range(1_000)]))
        assert len(view.lines) <= KEEP + 500
        assert view.lines[-1].text == "flood 999"


async def test_lines_that_come_twice_are_shown_once() -> None:
    async with cockpit() as tui:
        view = await opened(tui)
        before = len(view.lines)
        again = chunk(41, 200_000, ["once"])
        view.add(again)
        view.add(again)
        assert len(view.lines) == before + 1


async def test_control_sequences_in_a_log_are_harmless() -> None:
    async with cockpit() as tui:
        view = await opened(tui)
        view.add(chunk(41, 300_000, ["\x1b[31mred\x1b[0m [bold]not bold[/] \x1b]0;title\x07 \x08end"]))
        await tui.shows("red [bold]not bold[/]")
        assert "\x1b" not in tui.words
