"""The log pane: follows its end, is searched, and shows what a job wrote without obeying it."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.protocol.api import LogChunk, LogLine
from tests.tui.cockpit import Cockpit, cockpit
from tests.tui.fake_link import NOW, FakeLink
from wyolo_tui import scrollback
from wyolo_tui.messages import LogRead
from wyolo_tui.screens.reading import LOG_MOST, joined
from wyolo_tui.scrollback import KEEP, SLACK, Gap, Scrollback
from wyolo_tui.widgets.log_view import LogView


def lines(first: int, texts: list[str]) -> list[LogLine]:
    """Of ten bytes each."""
    return [LogLine(offset=first + n * 10, at=NOW, text=text) for n, text in enumerate(texts)]


def chunk(job_id: int, first: int, texts: list[str], start: int | None = None) -> LogChunk:
    """`start`: of the output of which these are the lines."""
    end = first + len(texts) * 10
    begin = first if start is None else start
    return LogChunk(job_id=job_id, attempt=1, lines=lines(first, texts), start=begin, next_offset=end)


def held(view: LogView) -> list[LogLine]:
    return [entry for entry in view.held.entries if not isinstance(entry, Gap)]


def gaps(view: LogView) -> list[Gap]:
    return [entry for entry in view.held.entries if isinstance(entry, Gap)]


def texts(view: LogView) -> list[str]:
    return [line.text for line in held(view)]


def counting(lines_: int) -> FakeLink:
    """Job 41 has counted to this, a line for each."""
    link = FakeLink()
    link.logs_of[41] = lines(0, [f"line {n}" for n in range(1, lines_ + 1)])
    return link


async def opened(tui: Cockpit, job_id: int = 41) -> LogView:
    await tui.on(job_id)
    await tui.press("l")
    view = tui.jobs.detail.log_view
    await tui.until(lambda: view.held.entries)
    return view


async def test_it_follows_the_end_until_one_scrolls_up_and_f_follows_again() -> None:
    async with cockpit() as tui:
        view = await opened(tui)
        assert view.following
        await tui.press("k")
        assert not view.following
        await tui.shows("paused")
        tui.jobs.post_message(LogRead(41, chunk(41, 100_000, ["the newest line"])))
        await tui.until(lambda: held(view)[-1].text == "the newest line")
        assert "the newest line" not in tui.words
        await tui.press("f")
        await tui.shows("the newest line")


async def test_a_search_goes_to_the_match_and_n_to_the_next() -> None:
    async with cockpit() as tui:
        view = await opened(tui)
        await tui.press("slash")
        await tui.type("12/100")
        await tui.shows("1 line")
        assert "1 lines" not in tui.words
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


async def test_a_search_is_shown_as_typed_esc_ends_it_and_another_job_has_none() -> None:
    async with cockpit() as tui:
        view = await opened(tui)
        await tui.press("slash")
        await tui.type("[](epoch")
        await tui.press("enter")
        await tui.shows("/[](epoch 0/0")
        await tui.press("escape")
        await tui.until(lambda: "/[](epoch" not in tui.words)
        assert tui.app.focused is view
        await tui.press("slash")
        await tui.type("GPU_mem")
        await tui.press("enter")
        await tui.shows("/GPU_mem 38/38")
        await tui.on(42)
        await tui.until(lambda: "/GPU_mem" not in tui.words)


async def test_f_on_a_log_that_has_ended_goes_to_its_end_and_says_that_nothing_more_comes() -> None:
    async with cockpit(size=(80, 24)) as tui:
        await opened(tui, 40)
        await tui.shows("  end")
        await tui.press("g")
        await tui.shows("above the end")
        await tui.press("f")
        await tui.until(lambda: "above the end" not in tui.words)
        assert tui.toasts == ["the log has ended: nothing more is added to it"]


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
        await tui.until(lambda: held(view)[-1].offset == 100_000)
        await tui.pilot.pause()
        assert "finish" not in tui.words
        await tui.press("w")
        await tui.shows("finish")
        await tui.press("T")
        await tui.shows("14:02:11 start")


async def test_scrolling_up_reads_the_whole_log_without_a_line_missing() -> None:
    async with cockpit(counting(5_000)) as tui:
        view = await opened(tui)
        assert texts(view)[0] == "line 4001"
        for _ in range(4):
            view.scroll_to(y=1, animate=False, immediate=True)
            before, first = len(held(view)), texts(view)[0]
            await tui.press("k")
            await tui.until(lambda known=before: len(held(view)) > known, "older lines")
            await tui.until(lambda line=first: f" {line} " in tui.words, "what was in view")
        assert texts(view) == [f"line {n}" for n in range(1, 5_001)] and not gaps(view)


async def test_g_goes_to_the_first_line_that_was_written_and_reading_on_from_there_fills_the_gap() -> None:
    async with cockpit(counting(20_000)) as tui:
        view = await opened(tui)
        await tui.press("g")
        await tui.shows(" line 1 ")
        assert held(view)[0].text == "line 1" and "line 19001" in texts(view)
        [gap] = gaps(view)
        assert gap == Gap(10_000, 190_000)
        view.scroll_to(y=1_000 - view.page // 2, animate=False, immediate=True)
        await tui.shows("175.8 KiB of the log is not shown here")
        await tui.shows(" line 1001 ")
        assert " line 1000 " in tui.words
        assert gaps(view) == [Gap(20_000, 190_000)]


async def test_what_a_burst_left_out_is_shown_as_a_gap_and_read_when_one_scrolls_to_it() -> None:
    link = counting(30_000)
    async with cockpit(link) as tui:
        view = await opened(tui)
        view.clear()
        view.add(chunk(41, 0, [f"line {n}" for n in range(1, 101)]))
        view.add(chunk(41, 299_000, [f"line {n}" for n in range(29_901, 30_001)]))
        assert gaps(view) == [Gap(1_000, 299_000)]
        await tui.press("k")
        view.scroll_to(y=102, animate=False, immediate=True)
        assert not tui.asked("logs")
        await tui.press("k", "k")
        await tui.until(lambda: "line 29900" in texts(view))
        assert gaps(view) == [Gap(1_000, 289_000)]
        assert [line.offset for line in held(view)] == sorted(line.offset for line in held(view))


async def test_of_a_burst_within_a_tick_the_newest_lines_are_told_and_that_others_are_missing() -> None:
    chunks = [chunk(41, n * 10_000, [f"line {n}"] * 1_000) for n in range(5)]
    told = joined(chunks)
    assert (len(told.lines), told.start, told.next_offset) == (LOG_MOST, told.lines[0].offset, 50_000)
    assert joined([chunk(41, 700, ["one"], start=300), chunk(41, 710, ["two"])]).start == 300


async def test_who_reads_far_up_keeps_the_lines_in_view_while_much_comes_and_f_reads_the_end() -> None:
    link = counting(1_000)
    async with cockpit(link) as tui:
        view = await opened(tui)
        await tui.press("g")
        await tui.shows(" line 1 ")
        link.logs_of[41] = lines(0, [f"line {n}" for n in range(1, 21_001)])
        for start in range(1_000, 21_000, 1_000):
            view.add(chunk(41, start * 10, [f"line {n}" for n in range(start + 1, start + 1_001)]))
        await tui.pilot.pause()
        assert " line 1 " in tui.words and held(view)[0].text == "line 1"
        assert len(held(view)) <= KEEP + SLACK and gaps(view)[-1].end == 210_000
        await tui.press("f")
        await tui.shows(" line 21000 ")
        assert held(view)[-1].text == "line 21000" and "line 20001" in texts(view)


@given(steps=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 30), st.booleans()), max_size=30))
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_is_left_out_of_what_is_held_is_in_a_gap(
    monkeypatch: pytest.MonkeyPatch, steps: list[tuple[int, int, bool]]
) -> None:
    """Lines come with some left out, are let go, and gaps are read; then all gaps are."""
    monkeypatch.setattr(scrollback, "KEEP", 20)
    monkeypatch.setattr(scrollback, "SLACK", 5)
    of, end = Scrollback(), 0

    def read(gap: Gap, count: int) -> None:
        wanted = max(gap.start, gap.end - count * 10)
        assert of.fill(chunk(1, wanted, [str(n) for n in range(wanted // 10, gap.end // 10)]))

    for left_out, count, following in steps:
        first = end + left_out * 10
        end = first + count * 10
        of.add(chunk(1, first, [str(n) for n in range(first // 10, end // 10)]), following)
        if of.is_full:
            of.trim(len(of.entries) if following else left_out)
            assert len(of.entries) <= 22
        wanted = [entry for entry in of.entries if isinstance(entry, Gap)]
        if wanted and left_out % 3 == 0:
            read(wanted[count % len(wanted)], count)
        assert of.whole == (not any(isinstance(entry, Gap) for entry in of.entries))
    while missing := [entry for entry in of.entries if isinstance(entry, Gap)]:
        read(missing[-1], 7)
    assert [entry.text for entry in of.entries if not isinstance(entry, Gap)] == [str(n) for n in range(end // 10)]


async def test_lines_of_another_attempt_are_not_put_among_those_of_the_one_before() -> None:
    async with cockpit(counting(100)) as tui:
        view = await opened(tui)
        view.add(chunk(41, 0, ["again"]).model_copy(update={"attempt": 2}))
        assert texts(view) == ["again"]
        view.fill(chunk(41, 10, ["late"]))
        assert texts(view) == ["again"]


async def test_a_search_says_that_it_knows_only_the_lines_that_were_read() -> None:
    async with cockpit(counting(20_000)) as tui:
        await opened(tui)
        await tui.press("slash")
        await tui.type("line 1777")
        await tui.shows("0 lines in the lines read so far")
        await tui.press("enter")
        await tui.shows("/line 1777 0/0 in the lines read so far")
        await tui.press("escape", "exclamation_mark")
        await tui.shows("errors only in the lines read so far")


async def test_a_flood_is_bounded() -> None:
    async with cockpit() as tui:
        view = await opened(tui)
        for batch in range(12):
            view.add(chunk(41, 1_000_000 + batch * 10_000, [f"flood {n}" for n in range(1_000)]))
        assert len(held(view)) <= KEEP + SLACK
        assert held(view)[-1].text == "flood 999"


async def test_lines_that_come_twice_are_shown_once() -> None:
    async with cockpit() as tui:
        view = await opened(tui)
        before = len(held(view))
        again = chunk(41, 200_000, ["once"])
        view.add(again)
        view.add(again)
        assert len(held(view)) == before + 1


async def test_control_sequences_in_a_log_are_harmless() -> None:
    async with cockpit() as tui:
        view = await opened(tui)
        view.add(chunk(41, 300_000, ["\x1b[31mred\x1b[0m [bold]not bold[/] \x1b]0;title\x07 \x08end"]))
        await tui.shows("red [bold]not bold[/]")
        assert "\x1b" not in tui.words
