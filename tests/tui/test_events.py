"""The events screen: what happened before it was opened, and since; each once."""

import re
from collections.abc import Sequence

import pytest

from broker.protocol.event import AuditEntry, JobChanged, NodeChanged
from broker.protocol.fleet import NodeState
from tests.tui.cockpit import Cockpit, cockpit
from tests.tui.fake_link import NOW, FakeLink, minutes, nodes
from wyolo_tui.feed import LinkDown, LinkUp
from wyolo_tui.messages import TrailRead
from wyolo_tui.screens.events import EventsScreen
from wyolo_tui.screens.past import PAGE
from wyolo_tui.trail import HEARD, KEPT, Trail
from wyolo_tui.widgets.happened_list import HappenedList


def night(count: int) -> FakeLink:
    """Somebody has changed priorities all night long."""
    link = FakeLink()
    link.told = [
        AuditEntry(seq=n, at=minutes(count - n), job_id=47, verb="priority", by="ann", message=f"number {n}.")
        for n in range(1, count + 1)
    ]
    link.seq = count
    return link


def happened(tui: Cockpit) -> HappenedList:
    assert isinstance(tui.app.page, EventsScreen)
    return tui.app.page.query_one(HappenedList)


def numbers(tui: Cockpit) -> list[int]:
    return [int(found) for found in re.findall(r"number (\d+)\.", tui.words)]


async def test_what_happened_before_the_cockpit_was_opened_is_shown() -> None:
    async with cockpit() as tui:
        await tui.press("8")
        await tui.shows("That is all; the epochs of a job are in its tab Events.")
        for text in ("harbour-yolov8s           failed     ✗ failed  out of memory (GPU): CUDA", "○ queued  by ana"):
            assert text in tui.words


async def test_events_are_listed_newest_first() -> None:
    async with cockpit() as tui:
        await tui.press("8")
        await tui.link.hold(47)
        await tui.link.stop(48)
        await tui.shows("■ stopped  by ann")
        lines = [line for line in tui.words.splitlines() if "fruit-ablation" in line]
        assert "stop" in lines[0] and "hold" in lines[1] and "by ann" in lines[1]
        assert "submit" in lines[2], "what was before comes after it"


async def test_what_was_heard_and_read_is_listed_once() -> None:
    link = night(30)
    async with cockpit(link) as tui:
        await tui.press("8")
        await tui.shows("number 30.")
        asked = len(tui.asked("audit"))
        known = link.write("hold", 47, to_state="held", by="ann")
        link.put(JobChanged(seq=known.seq, at=NOW, job=link.held[47], verb="hold"))
        link.put(JobChanged(seq=30, at=NOW, job=link.held[47], verb="priority"))
        await tui.until(lambda: len(tui.asked("audit")) > asked)
        await tui.shows("‖ held  by ann")
        await tui.still()
        assert tui.words.count("hold ") == 1 and numbers(tui) == list(range(30, 0, -1))
        assert [entry.seq for entry in tui.app.trail.entries] == list(range(31, 0, -1))


async def test_what_a_follower_was_not_told_is_read() -> None:
    """Of several changes of a job that came at once it hears of the newest."""
    link = night(3)
    async with cockpit(link) as tui:
        await tui.press("8")
        await tui.shows("number 3.")
        link.write("submit", 47, by="jonas")
        link.write("hold", 47, by="mei")
        await link.release(47)
        await tui.shows("by jonas")
        words = tui.words
        assert words.index("by ann") < words.index("by mei") < words.index("by jonas") < words.index("number 3.")


async def test_older_ones_are_read_as_one_scrolls_to_the_end() -> None:
    link = night(3 * PAGE)
    async with cockpit(link) as tui:
        await tui.press("8")
        await tui.shows(f"number {3 * PAGE}.")
        await tui.still()
        assert len(tui.app.trail.entries) == PAGE and f"Events {PAGE}+" in tui.words
        await tui.press("G")
        await tui.until(lambda: len(tui.app.trail.entries) == 2 * PAGE)
        await tui.press("j")
        await tui.shows(f"number {2 * PAGE}.")
        await tui.press("G")
        await tui.until(lambda: len(tui.app.trail.entries) == 3 * PAGE)
        await tui.press("G")
        await tui.shows("That is all")
        await tui.shows("number 1.")
        assert f"Events {3 * PAGE} " in tui.words
        asked = len(tui.asked("audit"))
        await tui.press("k", "G", "k", "G")
        assert len(tui.asked("audit")) == asked, "there is no more"


async def test_a_stretch_without_anything_to_show_is_read_over() -> None:
    link = night(40)
    link.told = [entry if entry.seq < 40 else entry.model_copy(update={"seq": 10 * PAGE}) for entry in link.told] + [
        AuditEntry(seq=10 * PAGE + n, at=NOW, job_id=41, verb="epoch", data={"epoch": n}) for n in range(1, 1000)
    ]
    link.seq = 10 * PAGE + 999
    async with cockpit(link) as tui:
        await tui.press("8")
        await tui.shows("number 39.")
        assert numbers(tui)[:2] == [40, 39] and "epoch " not in tui.words


async def test_the_line_under_the_cursor_stays_where_it_is_while_others_come() -> None:
    link = night(PAGE)
    async with cockpit(link) as tui:
        await tui.press("8")
        await tui.shows(f"number {PAGE}.")
        await tui.press(*["ctrl+d"] * 4)
        await tui.still()
        seen, current = numbers(tui), happened(tui).current
        await link.hold(47)
        await link.release(47)
        await tui.until(lambda: len(tui.app.trail.entries) == PAGE + 2)
        await tui.still()
        assert numbers(tui) == seen and happened(tui).current is current
        await tui.press("g")
        await tui.shows("○ queued  by ann")
        await link.hold(48)
        await tui.until(lambda: happened(tui).cursor == 0 and tui.words.count("‖ held") == 2)


async def test_a_broker_that_cannot_tell_is_said_so_and_what_is_heard_is_shown() -> None:
    link = FakeLink()
    link.refuses["audit"] = "there is no such page"
    async with cockpit(link) as tui:
        await tui.press("8")
        await tui.shows("The audit trail cannot be read: there is no such page")
        asked = len(tui.asked("audit"))
        await link.hold(47)
        await tui.link.pause_node("attic", for_s=7200)
        await tui.shows("‖ held")
        await tui.shows("pause      until 16:02:11  by ann")
        assert tui.words.count("cannot be read") == 1 and not tui.toasts
        assert len(tui.asked("audit")) == asked, "it was told once"
        del link.refuses["audit"]
        link.put(LinkDown("the connection was lost", 0.2))
        link.put(LinkUp())
        await tui.shows("That is all")
        assert "cannot be read" not in tui.words and tui.words.count("‖ held  by ann") == 1


async def test_what_was_read_stays_while_the_broker_is_away_and_what_was_missed_is_read_after() -> None:
    link = night(30)
    async with cockpit(link) as tui:
        await tui.press("8")
        await tui.shows("number 30.")
        link.put(LinkDown("no broker answers", 0.2))
        await tui.shows("out of reach")
        link.out = True
        await tui.press("1", "8")
        await tui.shows("The audit trail cannot be read: no broker answers")
        assert numbers(tui) == list(range(30, 0, -1))
        link.out = False
        link.write("hold", 47, by="mei")
        link.put(LinkUp())
        await tui.shows("by mei")
        assert numbers(tui) == list(range(30, 0, -1)) and "cannot be read" not in tui.words


async def test_who_missed_very_much_starts_with_the_newest() -> None:
    link = night(30)
    async with cockpit(link) as tui:
        await tui.press("8")
        await tui.shows("number 30.")
        await tui.press("1")
        link.told = night(20_000).told
        link.seq = 20_000
        await tui.press("ctrl+r")
        await tui.until(lambda: tui.app.board.seq == 20_000)
        await tui.press("8")
        await tui.shows("number 20000.")
        assert len(tui.app.trail.entries) == PAGE


async def test_enter_goes_to_the_job() -> None:
    async with cockpit() as tui:
        await tui.press("8")
        await tui.link.hold(47)
        await tui.shows("‖ held  by ann")
        await tui.press("enter")
        await tui.until(lambda: tui.app.page is not None and tui.app.page.number == 1)
        await tui.until(lambda: tui.table.current is not None and tui.table.current.id == 47)


async def test_enter_goes_to_a_job_that_the_list_does_not_hold_yet() -> None:
    link = night(3)
    old = link.held[40].model_copy(update={"id": 7, "name": "long-ago"})
    async with cockpit(link) as tui:
        link.held[7] = old
        link.write("complete", 7)
        await tui.press("8")
        await tui.shows("complete")
        await tui.press("enter")
        await tui.until(lambda: tui.app.page is not None and tui.app.page.number == 1)
        await tui.until(lambda: tui.table.current is not None and tui.table.current.id == 7)


async def test_enter_goes_to_the_node() -> None:
    async with cockpit() as tui:
        await tui.press("8")
        lost = nodes()[1].model_copy(update={"state": NodeState.UNREACHABLE, "message": "no answer since 13:51"})
        tui.link.write("unreachable", node="attic", message="no answer since 13:51")
        tui.link.put(NodeChanged(at=NOW, node=lost))
        await tui.shows("node  attic")
        await tui.press("enter")
        await tui.shows("20.5G/62.5G")


async def test_a_job_that_is_gone_is_said_to_be() -> None:
    async with cockpit() as tui:
        await tui.press("8")
        await tui.link.remove(40)
        await tui.shows("fruit-yolov8n-640         remove")
        await tui.press("enter")
        await tui.until(lambda: any("there is no job 40" in toast for toast in tui.toasts))
        assert tui.app.page is not None and tui.app.page.number == 8


@pytest.mark.parametrize("size", [(80, 24), (200, 60)])
async def test_in_any_terminal_the_reason_of_an_end_is_read(size: tuple[int, int]) -> None:
    async with cockpit(size=size) as tui:
        await tui.press("8")
        await tui.shows("✗ failed  out of memory (GPU")


def page(after: int, upto: int, entries: Sequence[AuditEntry] | None = None) -> TrailRead:
    made = [AuditEntry(seq=n, at=NOW, job_id=1, verb="hold") for n in range(after + 1, upto + 1)]
    return TrailRead(after, upto, made if entries is None else entries)


def test_the_trail_holds_so_many_and_no_more() -> None:
    trail = Trail()
    trail.take(page(KEPT, 2 * KEPT - 1))
    assert not trail.is_full
    trail.take(page(0, KEPT))
    assert trail.is_full and not trail.is_whole and len(trail.entries) == KEPT
    trail.take(page(2 * KEPT - 1, 2 * KEPT))
    assert len(trail.entries) == KEPT and (trail.entries[0].seq, trail.entries[-1].seq) == (2 * KEPT, KEPT + 1)
    job = FakeLink().held[47]
    changes = [JobChanged(seq=2 * KEPT + n, at=NOW, job=job, verb="hold") for n in range(1, HEARD + 10)]
    assert trail.hear(changes) and not trail.hear(changes)
    assert len(trail.entries) == KEPT + HEARD and trail.entries[0].seq == 2 * KEPT + HEARD + 9
