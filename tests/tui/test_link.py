"""The broker comes and goes; the screen stays, says since when, and comes back by itself."""

import asyncio

from broker.protocol.event import EpochDone, Progressed, QueueChanged, Resync
from broker.protocol.states import JobState
from tests.tui.cockpit import app_of, cockpit
from tests.tui.fake_link import NOW, FakeLink
from wyolo_tui.feed import LinkDown, LinkUp


async def test_progress_is_seen_as_it_happens() -> None:
    async with cockpit() as tui:
        tui.link.put(Progressed(at=NOW, job_id=41, epoch=39, epochs=100, epoch_progress=0.5, eta_s=60.0))
        await tui.shows("38/100")
        await tui.shows("1m 00s")
        tui.link.put(EpochDone(at=NOW, seq=101, job_id=41, attempt=1, epoch=39, values={"metrics/mAP50-95(B)": 0.99}))
        await tui.shows("39/100")
        await tui.shows("0.9900")


async def test_the_totals_follow_the_queue() -> None:
    async with cockpit() as tui:
        tui.link.put(QueueChanged(at=NOW, counts={JobState.QUEUED: 77}, failed_today=9, drain_s=60))
        await tui.shows("queue 77")
        await tui.shows("failed today 9")


async def test_out_of_reach_the_screen_stays_and_says_as_of_when() -> None:
    async with cockpit() as tui:
        tui.link.put(LinkDown("no broker answers", 0.2))
        await tui.shows("out of reach, as of 14:02:11")
        assert "tiles-cls" in tui.words
        tui.link.put(LinkUp())
        await tui.until(lambda: tui.app.link_state.up)
        assert "as of" not in tui.words
        assert any("answers again" in toast for toast in tui.toasts)


async def test_what_was_missed_is_read_after_a_reconnect() -> None:
    async with cockpit() as tui:
        tui.link.put(LinkDown("the connection was lost", 0.2))
        await tui.shows("as of")
        tui.link.held[41] = tui.link.held[41].model_copy(update={"name": "renamed-meanwhile"})
        tui.link.put(LinkUp())
        await tui.shows("renamed-meanwhile")


async def test_a_resync_reads_the_snapshot_again() -> None:
    async with cockpit() as tui:
        tui.link.held[41] = tui.link.held[41].model_copy(update={"name": "seen-after-resync"})
        tui.link.put(Resync(at=NOW))
        await tui.shows("seen-after-resync")


async def test_a_broker_that_is_not_there_yet_is_waited_for() -> None:
    link = FakeLink()
    link.out = True
    async with cockpit(link) as tui:
        await tui.shows("no broker answers")
        link.out = False
        await tui.shows("tiles-cls")


async def test_ctrl_r_reads_everything_again() -> None:
    async with cockpit() as tui:
        before = len(tui.asked("jobs"))
        await tui.press("ctrl+r")
        await tui.until(lambda: len(tui.asked("jobs")) > before)
        await tui.until(lambda: tui.app.link_state.up)


async def test_ctrl_r_keeps_the_history_of_the_gauges() -> None:
    link = FakeLink()
    async with cockpit(link) as tui:
        known = tui.app.board.nodes["local"].history
        link.fleet = [node.model_copy(update={"history": [], "cpus": 99}) for node in link.fleet]
        await tui.press("ctrl+r")
        await tui.until(lambda: tui.app.board.nodes["local"].cpus == 99)
        assert tui.app.board.nodes["local"].history == known


async def test_the_first_frame_does_not_wait_for_the_broker() -> None:
    link = FakeLink()

    async def never() -> FakeLink:
        await asyncio.Event().wait()
        return link

    app = app_of(link)
    app._connect = never  # pyright: ignore[reportPrivateUsage]
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("question_mark")
        assert "HelpDialog" in str(app.screen)
        await pilot.press("escape")


async def test_leaving_closes_the_link_and_stops_nothing() -> None:
    async with cockpit() as tui:
        await tui.press("q")
    assert ("close", ()) in tui.link.calls
    assert not tui.asked("stop") and not tui.asked("kill")
