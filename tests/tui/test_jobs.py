"""The jobs screen: what it shows, and that each key does what it says to the marked jobs or the cursor's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from broker.protocol.event import JobChanged
from broker.protocol.job import Job
from broker.protocol.states import EndReason, JobState, Priority
from tests.tui.cockpit import cockpit
from tests.tui.fake_link import NOW, FakeLink, fleet, job
from wyolo_tui import app, rush
from wyolo_tui.screens.confirm import ConfirmDialog
from wyolo_tui.widgets.log_view import LogView


async def test_each_state_is_shown_as_glyph_and_word() -> None:
    async with cockpit() as tui:
        words = tui.words
    for text in ("▶ running", "◔ starting", "○ queued", "‖ held", "? unknown", "✓ completed", "✗ failed", "■ stopped"):
        assert text in words


async def test_the_header_says_how_the_fleet_stands() -> None:
    async with cockpit() as tui:
        header = tui.words.splitlines()[0]
    for text in ("127.0.0.1:23450", "4/4", "queue 4", "+1 held", "failed today 1", "drains in 2h 14m", "1 unknown"):
        assert text in header


async def test_running_jobs_come_first_then_the_queue_in_its_order_then_the_newest_ended() -> None:
    async with cockpit() as tui:
        order = tui.table.order.ids
    assert order == [45, 44, 42, 41, 36, 46, 47, 48, 49, 50, 43, 40, 39]


async def test_on_80_columns_the_table_and_the_keys_remain() -> None:
    async with cockpit(size=(80, 24)) as tui:
        lines = tui.words.splitlines()
        assert "fruit-yolov8m-640" in tui.words
        assert "EPOCH" in tui.words
        assert "? help" in lines[-1]
        assert max(len(line) for line in lines) <= 80
        await tui.press("l")
        await tui.shows("Starting training")
        await tui.press("escape")
        await tui.shows("EPOCH")


async def test_an_empty_cockpit_says_what_to_press() -> None:
    async with cockpit(FakeLink(jobs=[])) as tui:
        await tui.shows("There are no jobs yet.")
        await tui.shows("submit a job from a file")


async def test_stop_acts_on_the_job_under_the_cursor() -> None:
    async with cockpit() as tui:
        await tui.on(42)
        await tui.press("s")
        await tui.until(lambda: tui.asked("stop") == [(42,)])
        await tui.shows("stopping")


async def test_stop_acts_on_every_marked_job_and_says_which_it_could_not() -> None:
    async with cockpit() as tui:
        await tui.on(47)
        await tui.press("space", "space")
        await tui.on(40)
        await tui.press("space", "s")
        await tui.until(lambda: tui.asked("stop") == [(47,), (48,)])
        assert any("#40 has ended" in toast for toast in tui.toasts)


async def test_a_verb_never_acts_on_a_job_that_is_not_marked_while_the_filter_hides_those_that_are() -> None:
    async with cockpit() as tui:
        await tui.on(42)
        await tui.press("space")
        await tui.press_at_once(":filter state:queued", "enter", "g")
        await tui.until(lambda: tui.table.current is not None and tui.table.current.id == 46)
        await tui.shows("0 marked, 1 more hidden")
        await tui.press("s")
        await tui.until(lambda: any("the filter hides all 1 marked: nothing was done" in toast for toast in tui.toasts))
        assert not tui.asked("stop")
        await tui.press("space", "s")
        await tui.until(lambda: tui.asked("stop") == [(46,)])
        await tui.press("backslash", "s")
        await tui.until(lambda: tui.asked("stop") == [(46,), (47,)])


async def test_a_range_is_marked_from_v_to_v() -> None:
    async with cockpit() as tui:
        await tui.on(46)
        await tui.press("v", "j", "j", "v")
        assert tui.table.marks == {46, 47, 48}
        await tui.press("backslash")
        assert not tui.table.marks


async def test_kill_names_what_would_be_lost_and_enter_never_confirms() -> None:
    async with cockpit() as tui:
        await tui.on(41)
        await tui.press("K")
        await tui.shows("loses epoch 38 (42% done); 37 finished epochs stay")
        await tui.press("enter")
        await tui.until(lambda: not isinstance(tui.app.screen, ConfirmDialog))
        assert not tui.asked("kill")
        await tui.press("K")
        await tui.shows("Kill this job?")
        await tui.press("y")
        await tui.until(lambda: tui.asked("kill") == [(41,)])


async def test_more_than_three_jobs_want_their_number_typed() -> None:
    async with cockpit() as tui:
        await tui.on(45)
        await tui.press("space", "space", "space", "space", "K")
        await tui.shows("Kill these 4 jobs?")
        await tui.press("y", "enter")
        await tui.until(lambda: not isinstance(tui.app.screen, ConfirmDialog))
        assert not tui.asked("kill")
        await tui.press("K")
        await tui.shows("Kill these 4 jobs?")
        await tui.press("4", "enter")
        await tui.until(lambda: len(tui.asked("kill")) == 4)


async def test_deleting_keeps_the_files_unless_told_otherwise() -> None:
    async with cockpit() as tui:
        await tui.on(43)
        await tui.press("X")
        await tui.shows("Delete this job from the list?")
        await tui.press("y")
        await tui.until(lambda: tui.asked("remove") == [(43, False)])
        await tui.until(lambda: 43 not in tui.app.board.jobs)
        await tui.on(39)
        await tui.press("X")
        await tui.shows("their files too")
        await tui.press("f", "y")
        await tui.until(lambda: tui.asked("remove")[-1] == (39, True))


async def test_the_files_of_many_jobs_can_be_deleted_too() -> None:
    async with cockpit() as tui:
        await tui.on(46)
        await tui.press("space", "space", "space", "space", "X")
        await tui.shows("[ ] their files too")
        await tui.press("f")
        await tui.shows("[x] their files too")
        await tui.press("4", "enter")
        await tui.until(lambda: {call[1] for call in tui.asked("remove")} == {True} and len(tui.asked("remove")) == 4)


async def test_a_running_job_cannot_be_deleted_and_it_says_so() -> None:
    async with cockpit() as tui:
        await tui.on(41)
        await tui.press("X")
        await tui.until(lambda: any("stop it first" in toast for toast in tui.toasts))
        assert not isinstance(tui.app.screen, ConfirmDialog)


@pytest.mark.parametrize(
    ("job_id", "key", "call", "back"),
    [
        (47, "h", ("hold", (47,)), ("release", (47,))),
        (50, "h", ("release", (50,)), ("hold", (50,))),
        (47, "greater_than_sign", ("priority", (47, Priority.HIGH)), ("priority", (47, Priority.NORMAL))),
        (47, "less_than_sign", ("priority", (47, Priority.LOW)), ("priority", (47, Priority.NORMAL))),
        (48, "ctrl+up", ("move", (48, 47, None, None)), ("move", (48, None, 47, None))),
    ],
)
async def test_an_edit_of_the_queue_is_taken_back_by_z(
    job_id: int, key: str, call: tuple[str, object], back: tuple[str, object]
) -> None:
    async with cockpit() as tui:
        await tui.on(job_id)
        await tui.press(key)
        await tui.until(lambda: call in tui.link.calls, str(tui.link.calls))
        await tui.until(lambda: any("takes it back" in toast for toast in tui.toasts))
        before = len(tui.link.calls)
        await tui.press("z")
        await tui.until(lambda: back in tui.link.calls[before:], str(tui.link.calls))


async def test_resume_rerun_and_preempt_reach_the_broker() -> None:
    async with cockpit() as tui:
        await tui.on(39)
        await tui.press("r")
        await tui.until(lambda: tui.asked("resume") == [(39, None)])
        await tui.on(43)
        await tui.press("R")
        await tui.until(lambda: tui.asked("rerun") == [(43,)])
        await tui.on(41)
        await tui.press("P")
        await tui.shows("It is queued again")
        await tui.press("y")
        await tui.until(lambda: tui.asked("preempt") == [(41,)])


async def test_resuming_a_completed_job_asks_for_more_epochs() -> None:
    async with cockpit() as tui:
        await tui.on(40)
        await tui.press("r")
        await tui.shows("resume 40 --epochs 200")
        await tui.press("enter")
        await tui.until(lambda: tui.asked("resume") == [(40, 200)])


async def test_what_the_broker_refuses_is_said() -> None:
    link = FakeLink()
    link.refuses["stop"] = "job 41 is being adopted: try again in a second"
    async with cockpit(link) as tui:
        await tui.on(41)
        await tui.press("s")
        await tui.until(lambda: any("being adopted" in toast for toast in tui.toasts))


async def test_the_filter_previews_as_it_is_typed_and_escape_puts_it_back() -> None:
    async with cockpit() as tui:
        await tui.press("slash")
        await tui.type("user:mei state:active")
        await tui.until(lambda: tui.table.order.ids == [45, 44])
        await tui.press("escape")
        await tui.until(lambda: len(tui.table.order.ids) == 13)
        await tui.press("slash")
        await tui.type("@attic")
        await tui.press("enter")
        await tui.until(lambda: tui.table.order.ids == [36])
        await tui.press("escape")
        await tui.until(lambda: len(tui.table.order.ids) == 13)


async def test_a_wrong_filter_says_what_is_wrong_and_changes_nothing() -> None:
    async with cockpit() as tui:
        await tui.press("slash")
        await tui.type("state:faild")
        await tui.shows("did you mean failed?")
        assert len(tui.table.order.ids) == 13


async def test_a_refused_filter_leaves_no_part_of_itself() -> None:
    async with cockpit() as tui:
        await tui.press("slash")
        await tui.type("user:mei")
        await tui.press("enter")
        await tui.until(lambda: tui.jobs.filter_text == "user:mei")
        shown = list(tui.table.order.ids)
        await tui.press_at_once("/", *["backspace"] * 8, "fruit foo:bar", "enter")
        await tui.until(lambda: any("foo" in toast for toast in tui.toasts))
        assert (tui.jobs.filter_text, list(tui.table.order.ids)) == ("user:mei", shown)


async def test_the_last_line_names_the_keys_of_an_open_prompt_and_no_others() -> None:
    async with cockpit() as tui:
        await tui.on(41)
        await tui.press("colon")
        keys = "enter do it  tab complete  up said before  esc leave"
        await tui.until(lambda: tui.words.splitlines()[-1].strip() == keys)
        await tui.press("escape")
        await tui.shows("s stop")


async def test_a_filter_on_a_metric_is_answered_by_the_broker() -> None:
    async with cockpit() as tui:
        await tui.press("slash")
        await tui.type("map50>0.6")
        await tui.press("enter")
        best = {job.id for job in fleet() if (job.best_fitness or 0) > 0.6}
        await tui.until(lambda: set(tui.table.order.ids) == best, str(tui.table.order.ids))


async def test_every_verb_can_be_said_on_the_command_line() -> None:
    async with cockpit() as tui:
        for line, call in (
            ("stop 47 48", ("stop", (48,))),
            ("priority high 49", ("priority", (49, Priority.HIGH))),
            ("move first 49", ("move", (49, None, None, "first"))),
            ("resolve gone 36", ("resolve", (36, "gone"))),
            ("rerun 40", ("rerun", (40,))),
        ):
            await tui.press("colon")
            await tui.type(line)
            await tui.press("enter")
            await tui.until(lambda call=call: call in tui.link.calls, f"{line}: {tui.link.calls}")


async def test_keys_behind_the_enter_of_a_command_are_not_part_of_it() -> None:
    async with cockpit() as tui:
        await tui.on(41)
        await tui.press_at_once(":stop 42", "enter", "jj")
        await tui.until(lambda: tui.asked("stop") == [(42,)])
        await tui.until(lambda: tui.table.current is not None and tui.table.current.id == 46)
        await tui.press_at_once(":filter state:held", "enter", "j:stop 47", "left", "backspace", "4", "enter", "5")
        await tui.shows("Compare is not built yet.")
        await tui.until(lambda: tui.asked("stop") == [(42,), (47,)])
        await tui.press("1")
        await tui.shows(" state:held ")


async def test_keys_behind_the_escape_of_a_prompt_go_where_they_should() -> None:
    async with cockpit() as tui:
        await tui.on(41)
        await tui.press_at_once("/fruit", "escape", "j")
        await tui.until(lambda: tui.table.current is not None and tui.table.current.id == 36)
        assert not tui.jobs.filter_text


async def test_keys_behind_the_enter_of_a_dialog_are_not_part_of_what_was_typed_there() -> None:
    async with cockpit() as tui:
        await tui.on(45)
        await tui.press("space", "space", "space", "space", "K")
        await tui.shows("Kill these 4 jobs?")
        await tui.press_at_once("4", "enter", "2")
        await tui.until(lambda: len(tui.asked("kill")) == 4)
        await tui.shows("● local")
        await tui.press("p")
        await tui.shows("paused until 15:02")
        await tui.press_at_once("7s", "backspace", "x", "enter", "backspace", "h", "enter", "j", "d")
        await tui.until(lambda: tui.asked("pause_node") == [("local", 7 * 3600.0, None, False)])
        await tui.until(lambda: tui.asked("drain_node") == [("attic", False)])


async def test_keys_behind_the_escape_of_a_dialog_are_for_the_page() -> None:
    async with cockpit() as tui:
        await tui.on(45)
        await tui.press("space", "space", "space", "space", "K")
        await tui.shows("Kill these 4 jobs?")
        await tui.press_at_once("escape", "2")
        await tui.shows("● local")
        assert not tui.asked("kill")


async def test_the_command_line_completes_and_remembers() -> None:
    async with cockpit() as tui:
        await tui.press("colon")
        await tui.type("prio")
        await tui.press("tab")
        await tui.type("hi")
        await tui.press("tab")
        await tui.type("47")
        await tui.press("enter")
        await tui.until(lambda: tui.asked("priority") == [(47, Priority.HIGH)])
        await tui.press("colon", "up")
        await tui.shows(": priority high 47")


async def test_an_unknown_command_names_the_nearest() -> None:
    async with cockpit() as tui:
        await tui.press("colon")
        await tui.type("stpo 3")
        await tui.press("enter")
        await tui.shows("did you mean stop?")


async def test_columns_sort_reverse_and_are_chosen() -> None:
    async with cockpit(size=(160, 40)) as tui:
        await tui.press("full_stop")
        assert tui.table.order.column == "id"
        assert tui.table.order.ids[0] == 36
        await tui.press("O")
        assert tui.table.order.ids[0] == 50
        await tui.press("W")
        await tui.shows("[x] STATE")
        await tui.press("j", "j", "j", "space", "enter")
        await tui.until(lambda: "MODEL" not in tui.words)


async def test_copy_takes_the_ids_of_the_marked() -> None:
    async with cockpit() as tui:
        await tui.on(47)
        await tui.press("space", "space", "y")
        assert tui.app.clipboard == "47 48"


async def test_the_cursor_stays_on_its_job_when_rows_move() -> None:
    async with cockpit() as tui:
        await tui.on(42)
        done = tui.link.held[42].model_copy(
            update={"state": JobState.COMPLETED, "reason": EndReason.COMPLETED, "ended_at": NOW}
        )
        tui.link.put(JobChanged(seq=200, at=NOW, job=done, verb="complete"))
        await tui.until(lambda: tui.app.board.jobs[42].state is JobState.COMPLETED)
        await tui.pilot.pause()
        assert tui.table.current is not None and tui.table.current.id == 42
        assert any("#42 harbour-rtdetr-l completed" in toast for toast in tui.toasts)


def changed(jobs: Sequence[Job], **what: Any) -> list[JobChanged]:
    return [JobChanged(seq=200, at=NOW, job=each.model_copy(update=what)) for each in jobs]


async def test_a_rush_of_ends_does_not_fill_the_screen_with_toasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rush, "WITHIN_S", 0.5)
    many = [job(number, f"job-{number}", JobState.RUNNING) for number in range(100, 143)]
    async with cockpit() as tui:
        tui.link.put(*changed(many))
        await tui.until(lambda: 142 in tui.app.board.jobs)
        tui.link.put(*changed(many[:41], state=JobState.COMPLETED), *changed(many[41:], state=JobState.FAILED))
        await tui.until(lambda: len(tui.toasts) > rush.MOST)
        assert len(tui.toasts) == rush.MOST + 1
        assert "40 more jobs ended, 2 of them failed" in tui.toasts


async def test_jobs_whose_end_was_seen_are_not_held_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "MOST_ENDED", 3)
    many = [job(number, f"job-{number}", JobState.RUNNING) for number in range(100, 104)]
    async with cockpit() as tui:
        tui.link.put(*changed(many))
        await tui.until(lambda: 103 in tui.app.board.jobs)
        tui.link.put(*changed(many, state=JobState.COMPLETED))  # and the broker has so many newer ones
        await tui.until(lambda: set(tui.app.board.jobs) == set(tui.link.held))
        tui.link.put(*changed(many[:1]))
        await tui.until(lambda: 100 in tui.app.board.jobs)


async def test_why_says_it_in_full_and_what_can_be_done() -> None:
    async with cockpit() as tui:
        await tui.on(43)
        await tui.press("w")
        await tui.shows("out of memory (GPU): CUDA out of memory at batch 64")
        await tui.shows("resumes it from its newest good checkpoint")


async def test_where_only_commands_are_queued_the_reason_has_the_room_of_the_epochs() -> None:
    link = FakeLink([job(n, f"c{n}", JobState.QUEUED, kind="command", waits_for=WAITS) for n in (1, 2)])
    async with cockpit(link) as tui:
        await tui.until(lambda: any(" c1 " in row and WAITS[:24] in row for row in tui.words.splitlines()))
        assert "EPOCH" not in tui.words and "PRIO" in tui.words and "USER" in tui.words
        await tui.link.submit_named("fruit")
        await tui.shows("EPOCH")


WAITS = "waits for a slot: local runs 1 of 1 (job 1)"


async def test_the_choice_of_columns_says_which_of_them_have_no_room() -> None:
    async with cockpit() as tui:
        await tui.press("W")
        await tui.shows("[x] PRIO")
        rows = {row.split("] ")[1].split()[0]: row for row in tui.words.splitlines() if "[x] " in row}
        assert "no room for it now" in rows["MODEL"] and "no room for it now" not in rows["PRIO"]


async def test_a_key_that_changes_the_priority_says_which_it_is() -> None:
    async with cockpit() as tui:
        await tui.on(47)
        await tui.press(">")
        await tui.until(lambda: any("#47 has high priority now" in toast for toast in tui.toasts))


async def test_why_says_for_a_job_without_a_reason_what_is_true_of_its_state() -> None:
    link = FakeLink()
    silent = {"waits_for": "", "message": "", "best_epoch": None}
    for id in (42, 47, 40):
        link.held[id] = link.held[id].model_copy(update=silent)
    async with cockpit(link) as tui:
        for id, words in (
            (42, "it runs; nothing holds it up"),
            (47, "it waits; the broker has not said yet for what"),
            (40, "it ran to its end"),
        ):
            await tui.on(id)
            await tui.press("w")
            await tui.shows(words)
            await tui.press("escape")


async def test_a_remedy_names_the_key_and_not_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "keys.toml").write_text('"job.resume" = "f2"\n')
    link = FakeLink()
    message = "stopped; the checkpoint of epoch 37 is kept: `wyolo resume 41` goes on from there"
    async with cockpit(link, config_dir=tmp_path) as tui:
        await tui.on(41)
        told = {"state": JobState.STOPPED, "reason": EndReason.USER_STOP, "ended_at": NOW, "message": message}
        link.put(JobChanged(seq=101, at=NOW, job=link.held[41].model_copy(update=told), verb="stop"))
        await tui.shows("stopped; the checkpoint of epoch 37 is kept: f2 goes on from there")
        said = "#41 fruit-yolov8m-640 stopped; the checkpoint of epoch 37 is kept: f2 goes on from there"
        await tui.until(lambda: said in tui.toasts)
        await tui.press("w")
        await tui.shows("kept: f2 goes on")
        assert "wyolo resume" not in tui.words


async def test_what_can_be_done_about_it_names_the_keys_as_they_are_mapped(tmp_path: Path) -> None:
    (tmp_path / "keys.toml").write_text('"job.hold" = "f4"\n"make.clone" = "f5"\n')
    link = FakeLink()
    link.held[47] = link.held[47].model_copy(update={"state": JobState.HELD, "waits_for": ""})
    async with cockpit(link, config_dir=tmp_path) as tui:
        await tui.on(47)
        await tui.press("w")
        await tui.shows("f4 releases it")
        assert tui.words.count("f4 releases it") >= 2
        await tui.press("escape")
        await tui.on(43)
        await tui.press("w")
        await tui.shows("R runs it again, f5 clones")


async def test_a_key_that_wants_a_job_says_so_where_there_is_none() -> None:
    async with cockpit(FakeLink(jobs=[])) as tui:
        await tui.shows("There are no jobs yet")
        for n, key in enumerate(("w", "c", "e", "E", "y", "l", "enter", "s", "h", ">"), start=1):
            await tui.press(key)
            await tui.until(lambda said=n: tui.toasts.count("no job is selected") == said, key)


async def test_the_diff_shows_only_what_differs() -> None:
    async with cockpit() as tui:
        await tui.on(44)
        await tui.press("space", "space", "D")
        await tui.shows("What differs")
        words = tui.words
    assert "yolov8x-seg.pt" in words and "rtdetr-l.pt" in words
    assert "cos_lr" not in words


async def test_tabs_show_the_configuration_and_the_events_of_the_job() -> None:
    async with cockpit() as tui:
        await tui.on(41)
        await tui.press("right_square_bracket", "right_square_bracket")
        await tui.shows("imgsz: 640")
        await tui.press("right_square_bracket")
        await tui.shows("starting → ▶ running")


async def test_what_others_wrote_cannot_draw_on_the_screen() -> None:
    evil = fleet()[0].model_copy(update={"name": "[bold red]x[/] \x1b[2Jboo\u202e", "message": "[@click=app.exit]y[/]"})
    async with cockpit(FakeLink(jobs=[evil])) as tui:
        await tui.shows("[bold red]x[/] boo")
        assert "\x1b" not in tui.words and "\u202e" not in tui.words
        await tui.press("w")
        await tui.shows("[@click=app.exit]y[/]")


async def test_enter_opens_the_job_full_size_and_escape_leaves_it() -> None:
    async with cockpit() as tui:
        await tui.on(41)
        await tui.press("enter")
        assert not tui.table.display
        assert isinstance(tui.app.focused, LogView)
        await tui.press("escape")
        assert tui.table.display and tui.app.focused is tui.table


async def test_the_palette_knows_every_verb() -> None:
    async with cockpit() as tui:
        await tui.on(47)
        await tui.press("ctrl+p")
        await tui.type("rerun")
        await tui.shows("run again as a new job")
        await tui.press("enter", "enter")
        await tui.until(lambda: tui.asked("rerun") == [(47,)])
