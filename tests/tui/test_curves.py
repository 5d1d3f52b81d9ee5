"""The curves pane: charts of what a training measured, by keys zoomed, smoothed, compared and read."""

import threading
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

import pytest

from broker.protocol.api import MetricTable
from broker.protocol.event import EpochDone
from tests.tui.cockpit import Cockpit, cockpit
from tests.tui.fake_link import NOW, FakeLink, fleet
from wyolo_tui.widgets import detail
from wyolo_tui.widgets.curves_view import CurvesView


async def opened(tui: Cockpit, job_id: int = 41) -> CurvesView:
    await tui.on(job_id)
    await tui.press("m")
    await tui.until(lambda: tui.jobs.detail.curves is not None)
    curves = tui.jobs.detail.curves
    assert curves is not None
    await tui.until(lambda: curves.table is not None)
    await tui.shows("box loss")
    return curves


async def test_metrics_and_losses_have_their_charts_with_values() -> None:
    async with cockpit() as tui:
        await opened(tui)
        await tui.shows("mAP50 0.")
        await tui.shows("train 1.")
        await tui.until(lambda: any("\u2800" < char <= "\u28ff" for char in tui.words), "a line in braille")


async def test_curves_are_drawn_without_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with cockpit() as tui:
        await opened(tui)
        await tui.until(lambda: any("\u2800" < char <= "\u28ff" for char in tui.words), "a line in braille")


async def test_what_is_read_before_there_are_charts_is_drawn_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    read = threading.Event()
    show_curves = detail.Detail.show_curves

    def shown(pane: detail.Detail, table: MetricTable) -> None:
        show_curves(pane, table)
        read.set()

    def slowly(name: str) -> ModuleType:
        read.wait(10)
        return import_module(name)

    monkeypatch.setattr(detail.Detail, "show_curves", shown)
    monkeypatch.setattr(detail, "import_module", slowly)
    link = FakeLink(jobs=[job for job in fleet() if job.id == 41])
    async with cockpit(link, size=(200, 60)) as tui:  # room for log and curves at once
        await tui.shows("mAP50 0.")


async def test_enter_shows_one_chart_alone_and_arrows_choose_it() -> None:
    async with cockpit() as tui:
        await opened(tui)
        await tui.press("right", "enter")
        await tui.until(lambda: "metrics" not in tui.words and "box loss" in tui.words)
        await tui.press("right")
        await tui.shows("cls loss")
        await tui.press("enter")
        await tui.shows("chart 3 of 5")


async def test_scrubbing_reads_the_values_of_an_epoch() -> None:
    async with cockpit() as tui:
        await opened(tui)
        await tui.press("left_curly_bracket", "left_curly_bracket")
        await tui.shows("values of epoch 36")
        await tui.press("right_curly_bracket", "right_curly_bracket")
        await tui.until(lambda: "values of" not in tui.words)


async def test_log_axis_smoothing_and_time_are_said() -> None:
    async with cockpit() as tui:
        await opened(tui)
        await tui.press("y", "S", "a")
        await tui.shows("log axis  smoothed 0.6  by minutes")


class Zero(FakeLink):
    """Its training has done three epochs and has learnt nothing."""

    async def metrics(self, job_id: int, names: Sequence[str] = (), last: int | None = None) -> MetricTable:
        self._asked("metrics", job_id)
        columns: dict[str, list[float | None]] = {
            "metrics/mAP50(B)": [0.0, 0.0, 0.0],
            "train/box_loss": [3.0, 2.0, 1.0],
        }
        return MetricTable(job_id=job_id, epochs=[1, 2, 3], columns=columns)


async def test_on_a_logarithmic_axis_a_chart_of_zeros_says_why_it_shows_nothing() -> None:
    async with cockpit(Zero()) as tui:
        await opened(tui)
        await tui.press("y")
        await tui.shows("nothing above 0: a logarithmic axis")
        await tui.press("y")
        await tui.until(lambda: "nothing above 0" not in tui.words)


async def test_a_run_of_three_epochs_has_three_numbers_under_its_curve() -> None:
    async with cockpit(Zero()) as tui:
        curves = await opened(tui)
        await tui.press("enter")
        await tui.until(lambda: curves.settled)
        await tui.until(lambda: any(row.strip("│ ").split() == ["1", "2", "3"] for row in tui.words.splitlines()))


async def test_a_pinned_run_stays_under_the_next_one() -> None:
    async with cockpit() as tui:
        curves = await opened(tui)
        await tui.press("b")
        await tui.shows("pinned #41")
        await tui.on(40)
        await tui.until(lambda: curves.table is not None and curves.table.job_id == 40)
        await tui.shows("pinned #41")


async def test_a_new_epoch_is_added_without_reading_all_again() -> None:
    async with cockpit() as tui:
        curves = await opened(tui)
        asked = len(tui.asked("metrics"))
        tui.link.put(
            EpochDone(at=NOW, seq=101, job_id=41, attempt=1, epoch=38, seconds=80, values={"train/box_loss": 0.125})
        )
        await tui.until(lambda: curves.table is not None and curves.table.epochs[-1] == 38)
        await tui.shows("train 0.125")
        assert len(tui.asked("metrics")) == asked


async def test_a_command_says_that_it_has_no_curves() -> None:
    async with cockpit() as tui:
        await tui.on(49)
        await tui.press("m")
        await tui.shows("a command has no curves")


async def test_where_there_is_room_the_log_is_under_the_curves() -> None:
    async with cockpit(size=(200, 60)) as tui:
        await tui.on(41)
        await tui.shows("box loss")
        await tui.shows("GPU_mem")
