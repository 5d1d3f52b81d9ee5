"""The other screens, the themes, and a terminal without Unicode."""

import re

import pytest
from textual.widgets import Input

from broker.protocol.event import JobChanged, NodeChanged, Sampled
from broker.protocol.fleet import NodeState
from tests.tui.cockpit import cockpit
from tests.tui.fake_link import GPUS, NOW, FakeLink, nodes, sample
from wyolo_tui.messages import EventsCame, LinkWent
from wyolo_tui.themes import NAMES
from wyolo_tui.widgets.bars import KeyBar


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


@pytest.mark.parametrize(("number", "said"), [(2, "unreachable"), (8, "preempt")])
async def test_what_happens_while_a_screen_is_being_opened_is_shown_there(number: int, said: str) -> None:
    lost = nodes()[1].model_copy(update={"state": NodeState.UNREACHABLE, "message": "no answer since 13:51"})
    async with cockpit() as tui:
        tui.app.go(number)
        assert tui.app.page is not None and tui.app.page.number == number and not tui.app.page.is_mounted
        told = JobChanged(seq=900, at=NOW, job=tui.link.held[41], verb="preempt")
        tui.app.post_message(EventsCame([NodeChanged(at=NOW, node=lost), told]))
        tui.app.post_message(LinkWent("no broker answers", 0.2))
        await tui.shows("out of reach, as of 14:02:11")
        await tui.shows(said)


async def test_a_node_out_of_reach_says_so() -> None:
    async with cockpit() as tui:
        await tui.press("2")
        lost = nodes()[1].model_copy(update={"state": NodeState.UNREACHABLE, "message": "no answer since 13:51"})
        tui.link.put(NodeChanged(at=NOW, node=lost))
        await tui.press("j")
        await tui.shows("no answer since 13:51")


async def test_a_node_is_paused_for_as_long_as_a_person_says() -> None:
    async with cockpit() as tui:
        await tui.press("2", "p")
        await tui.shows("paused until 15:02")
        await tui.type("17:30")
        await tui.shows("paused until 17:30")
        await tui.press("enter")
        await tui.shows("● local  paused until 17:30 by ann")
        assert tui.asked("pause_node") == [("local", None, NOW.replace(hour=17, minute=30, second=0), False)]
        for text in ("Nothing new starts here; 4 jobs are to end; it ends in 3h 27m.", "r resume"):
            await tui.shows(text)
        await tui.press("r")
        await tui.until(lambda: tui.asked("resume_node") == [("local",)])
        await tui.shows("d drain")


async def test_a_pause_of_no_length_is_not_sent() -> None:
    async with cockpit() as tui:
        await tui.press("2", "p")
        await tui.shows("paused until 15:02")
        for wrong, said in (("0m", "no time at all"), ("13:00", "has passed"), ("soon", "no length")):
            await tui.type(wrong)
            await tui.shows(said)
            await tui.press("enter")
            await tui.press("ctrl+a")
            tui.app.screen.query_one(Input).value = ""
        assert not tui.asked("pause_node")
        await tui.press("enter")
        await tui.until(lambda: tui.asked("pause_node") == [("local", None, None, False)])


async def test_taking_a_node_back_now_asks_first_and_names_what_moves() -> None:
    async with cockpit() as tui:
        await tui.press("2", "j", "D")
        await tui.shows("This job saves and leaves, and goes on elsewhere.")
        assert "drone-night-v2" in tui.words and not tui.asked("drain_node")
        await tui.press("enter")
        assert not tui.asked("drain_node")
        await tui.press("D")
        await tui.shows("saves and leaves")
        await tui.press("y")
        await tui.until(lambda: tui.asked("drain_node") == [("attic", True)])
        await tui.shows("draining by ann")


async def test_the_command_line_says_the_verbs_of_nodes_too() -> None:
    async with cockpit() as tui:
        await tui.press("colon")
        await tui.type("node pause attic 1h30m")
        await tui.press("enter")
        await tui.until(lambda: tui.asked("pause_node") == [("attic", 5400.0, None, False)])
        await tui.press("colon")
        await tui.type("node drain atic")
        await tui.press("enter")
        await tui.until(lambda: any("there is no node 'atic': local, attic" in toast for toast in tui.toasts))


async def test_the_jobs_of_a_node_are_those_that_run_there_now() -> None:
    async with cockpit() as tui:
        await tui.press("2")
        await tui.shows("41 fruit-yolov8m-640")
        await tui.link.kill(41)
        await tui.shows("slots 3/4")
        local = tui.app.board.nodes["local"]
        assert local.jobs == [42, 44, 45] and local.gpu_jobs[GPUS[0]] == []


@pytest.mark.parametrize(("key", "verdict"), [("g", "gone"), ("a", "alive")])
async def test_a_person_says_what_became_of_an_unknown_job(key: str, verdict: str) -> None:
    async with cockpit() as tui:
        await tui.on(36)
        await tui.press("u")
        await tui.shows("What became of this job?")
        assert "would then run twice" in tui.words
        await tui.press("enter")
        assert not tui.asked("resolve")
        await tui.press("u", key)
        await tui.until(lambda: tui.asked("resolve") == [(36, verdict)])


async def test_only_an_unknown_job_is_asked_about() -> None:
    async with cockpit() as tui:
        await tui.on(41)
        await tui.press("u")
        await tui.until(lambda: any("#41 is not unknown" in toast for toast in tui.toasts))


@pytest.mark.parametrize("number", [1, 2, 8])
async def test_titles_fit_their_frames_after_the_terminal_was_resized(number: int) -> None:
    async with cockpit(size=(120, 40)) as tui:
        await tui.press(str(number))
        await tui.on(41) if number == 1 else None
        await tui.still()
        wide = _titles(tui.words)
        await tui.pilot.resize_terminal(90, 40)
        await tui.still()
        narrow = _titles(tui.words)
        assert all(title.startswith("─ ") and title.endswith(" ─") for title in narrow), narrow
        assert "╭" not in tui.words, "narrow panels have no sides"
        await tui.pilot.resize_terminal(120, 40)
        await tui.still()
        assert _titles(tui.words) == wide
        assert all(not title.startswith("─  ") for title in wide if "41" not in title), wide


def _titles(words: str) -> list[str]:
    """What stands in the upper borders, with what is around it."""
    found = (re.match(r"^[╭┌]?(─ *[A-Za-z0-9][^─]*─)", row) for row in words.splitlines())
    return [match.group(1) for match in found if match is not None]


async def test_while_something_is_typed_the_last_line_shows_only_the_keys_of_typing() -> None:
    async with cockpit() as tui:
        await tui.on(41)
        await tui.shows("s stop")
        await tui.press("colon")
        await tui.shows("enter do it")
        last = tui.words.splitlines()[-1]
        assert "tab complete" in last and "esc leave" in last and "stop" not in last and "help" not in last
        await tui.press("escape")
        await tui.shows("s stop")


async def test_the_last_line_ends_with_the_whole_of_its_last_word_whatever_stands_before() -> None:
    async with cockpit(size=(80, 24)) as tui:
        bar = tui.jobs.query_one(KeyBar)
        for room in range(40):
            bar.update([("x" * room, "label")] * 3, tui.app.palette, [("1 marked", "mark")])
            await tui.pilot.pause()
            assert tui.words.splitlines()[-1].endswith("? help  : command "), room


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


@pytest.mark.parametrize("screen", ["2", "3", "8"])
async def test_a_slash_on_another_screen_opens_the_filter_and_what_follows_is_written_into_it(screen: str) -> None:
    async with cockpit() as tui:
        await tui.on(41)
        await tui.press(screen)
        await tui.press_at_once("/signs", "enter")
        await tui.until(lambda: tui.app.page is not None and tui.app.page.number == 1)
        await tui.until(lambda: tui.jobs.filter_text == "signs" and list(tui.table.order.ids) == [39])
        await tui.shows("signs-obb")
        assert not tui.asked("stop")


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


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_a_toast_covers_neither_the_line_that_is_written_nor_the_keys_of_a_dialog(size: tuple[int, int]) -> None:
    async with cockpit(size=size, toasts=True) as tui:
        tui.app.say(
            "what has happened in the meantime, at some length and over more than a line, is told here", "error"
        )
        await tui.shows("what has happened")
        await tui.press("colon")
        await tui.type("bogus")
        await tui.press("enter")
        await tui.until(lambda: "there is no command 'bogus'" in tui.words.splitlines()[-2])
        await tui.press("escape", "n")
        await tui.shows("esc cancel")
        await tui.until(lambda: tui.words.count("what has happened") == 1)


async def test_with_the_colours_of_the_terminal_a_dialog_leaves_the_screen_behind_it() -> None:
    async with cockpit(theme="ansi") as tui:
        await tui.on(41)
        await tui.press("K")
        await tui.shows("Kill this job?")
        assert "127.0.0.1:23450" in tui.words and "tiles-cls" in tui.words
        await tui.press("escape", "n")
        await tui.shows("esc cancel")
        placeholder = next(iter(tui.app.screen.query_one("#name", Input).render_line(0)))
        assert placeholder.style is not None and placeholder.style.color is not None
        assert "from the model" in placeholder.text and placeholder.style.color.is_default and placeholder.style.dim
