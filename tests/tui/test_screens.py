"""The other screens, the themes, and a terminal without Unicode."""

import pytest

from broker.protocol.event import NodeChanged, Sampled
from broker.protocol.fleet import NodeState
from tests.tui.cockpit import cockpit
from tests.tui.fake_link import NOW, FakeLink, nodes, sample
from wyolo_tui.themes import NAMES


async def test_nodes_show_gpus_their_jobs_and_processes_that_are_not_ours() -> None:
    async with cockpit() as tui:
        await tui.press("2")
        await tui.shows("GPU 2")
        for text in ("→ 41 fruit-yolov8m-640", "not ours: jupyter-lab pid 977 6.0G", "278/300 W", "71 °C", "/dev/shm"):
            assert text in tui.words


async def test_a_node_without_gpus_shows_processor_and_memory() -> None:
    async with cockpit() as tui:
        await tui.press("2", "j")
        await tui.shows("no GPU was found here")
        assert "20.5G/62.5G" in tui.words
        assert "36 drone-night-v2" in tui.words


async def test_a_new_reading_moves_the_gauges() -> None:
    async with cockpit() as tui:
        await tui.press("2")
        reading = sample("local", 1, True).model_copy(update={"cpu_percent": 13.0})
        tui.link.put(Sampled(at=NOW, sample=reading))
        await tui.shows("13 %")


async def test_a_node_out_of_reach_says_so() -> None:
    async with cockpit() as tui:
        await tui.press("2")
        lost = nodes()[1].model_copy(update={"state": NodeState.UNREACHABLE, "message": "no answer since 13:51"})
        tui.link.put(NodeChanged(at=NOW, node=lost))
        await tui.press("j")
        await tui.shows("no answer since 13:51")


async def test_events_are_listed_newest_first() -> None:
    async with cockpit() as tui:
        await tui.press("8")
        await tui.shows("Nothing has happened")
        await tui.link.hold(47)
        await tui.link.stop(48)
        await tui.shows("fruit-ablation-lr0.01")
        lines = [line for line in tui.words.splitlines() if "fruit-ablation" in line]
        assert "stop" in lines[0] and "hold" in lines[1]


@pytest.mark.parametrize(("key", "name"), [("3", "Plan"), ("4", "Sweeps"), ("5", "Compare"), ("7", "Datasets")])
async def test_a_screen_that_is_not_built_says_what_comes(key: str, name: str) -> None:
    async with cockpit() as tui:
        await tui.press(key)
        await tui.shows(f"{name} is not built yet.")
        await tui.press("escape")
        await tui.shows("tiles-cls")


async def test_a_verb_said_on_another_screen_reaches_the_jobs() -> None:
    async with cockpit() as tui:
        await tui.press("2", "colon")
        await tui.type("stop 42")
        await tui.press("enter")
        await tui.until(lambda: tui.asked("stop") == [(42,)])


async def test_t_goes_through_the_themes() -> None:
    async with cockpit() as tui:
        seen = [tui.app.theme]
        for _ in NAMES[1:]:
            await tui.press("t")
            seen.append(tui.app.theme)
        assert tuple(seen) == NAMES


async def test_without_unicode_every_cell_is_ascii() -> None:
    async with cockpit(unicode=False, size=(200, 60)) as tui:
        await tui.on(41)
        await tui.shows("box loss")
        assert tui.words.isascii(), [char for char in tui.words if not char.isascii()][:20]
        await tui.press("2")
        await tui.shows("GPU 2")
        assert tui.words.isascii()
        await tui.press("question_mark")
        assert tui.words.isascii()


async def test_help_names_every_key_of_the_screen() -> None:
    async with cockpit(size=(200, 60)) as tui:
        await tui.press("question_mark")
        await tui.shows("Keys of this screen")
        for text in (
            "stop; it can be resumed",
            "mark a range",
            "wrap long lines",
            "logarithmic axis",
            "The filter line",
        ):
            assert text in tui.words


async def test_ten_thousand_jobs_are_shown_and_moved_through() -> None:
    base = FakeLink().held[47]
    link = FakeLink(jobs=[base.model_copy(update={"id": n, "rank": float(n)}) for n in range(1, 10_001)])
    async with cockpit(link) as tui:
        await tui.until(lambda: len(tui.table.order.ids) == 10_000)
        await tui.press("G")
        assert tui.table.current is not None and tui.table.current.id == 10_000
        await tui.shows("10000")
