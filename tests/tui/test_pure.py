"""The parts without a screen: what is folded, ordered, formatted, read and written."""

from collections.abc import Sequence
from datetime import UTC, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.color import Color as RichColor
from textual.color import Color
from textual.theme import Theme

from broker.protocol.api import Finding, MetricTable, Pace
from broker.protocol.event import (
    AuditEntry,
    EpochDone,
    FollowerEvent,
    JobChanged,
    JobRemoved,
    Progressed,
    QueueChanged,
    Sampled,
)
from broker.protocol.job import CommandWork, GpuRequest, JobSpec, Resources, TrainWork
from broker.protocol.states import JobState, Priority
from tests.tui.fake_link import NOW, fleet, nodes, sample
from wyolo_tui.ascii import ascii_only
from wyolo_tui.board import Board, more
from wyolo_tui.cli.tables import STYLES
from wyolo_tui.columns import USUAL, layout
from wyolo_tui.commands import CommandError, complete, parse
from wyolo_tui.export import as_csv
from wyolo_tui.folding import HISTORY, fold, renewed, snapshot
from wyolo_tui.forecast import line_of, memory_words, time_words
from wyolo_tui.order import SORTS, Order
from wyolo_tui.present import ASCII, UNICODE, ago, bar, duration, fit, number, spark, width_of
from wyolo_tui.prose import audit_line, yaml_cell
from wyolo_tui.rush import Rush
from wyolo_tui.series import charts, reduce, smooth, with_epoch
from wyolo_tui.themes import ROLES, THEMES, Palette
from wyolo_tui.ticks import roomy, ticks
from wyolo_tui.verbs import done, lost, neighbours, next_priority, queue_of, split, undo_of

JOBS = {job.id: job for job in fleet()}


def test_a_fold_leaves_the_board_before_as_it_was() -> None:
    before = snapshot(fleet(), nodes(), None, 100)
    stopped = JOBS[41].model_copy(update={"state": JobState.STOPPED, "ended_at": NOW})
    after, change = fold(before, [JobChanged(seq=101, at=NOW, job=stopped), JobRemoved(seq=102, at=NOW, job_id=40)])
    assert before.jobs[41].state is JobState.RUNNING and 40 in before.jobs
    assert after.jobs[41].state is JobState.STOPPED and 40 not in after.jobs
    assert change.jobs == {40, 41} and [job.id for job in change.ended] == [41] and after.seq == 102


def test_while_many_end_they_are_told_together() -> None:
    rush, (a, b, c, d) = Rush(), [JOBS[number] for number in (40, 39, 41, 43)]
    assert rush.single([a, b, c, d], 0.0) == [a, b, c]
    assert rush.single([a], 2.0) == [] and rush.together(3.9) is None
    assert rush.together(4.0) == ("2 more jobs ended, 1 of them failed", True)
    assert rush.single([a], 5.0) == [] and rush.together(7.9) is None
    assert rush.together(8.0) == ("1 more job ended", False)
    assert rush.together(12.0) is None and rush.single([d], 12.0) == [d]


def test_events_of_a_job_that_is_not_held_change_nothing() -> None:
    board = snapshot(fleet(), [], None, 0)
    after, change = fold(
        board,
        [
            JobRemoved(at=NOW, job_id=999),
            Progressed(at=NOW, job_id=999, epoch=1, epochs=2, epoch_progress=0.5),
            EpochDone(at=NOW, job_id=999, attempt=1, epoch=1, values={}),
        ],
    )
    assert after.jobs is board.jobs and not change.jobs


def test_an_epoch_told_twice_counts_once() -> None:
    board = snapshot(fleet(), [], None, 0)
    epoch = EpochDone(at=NOW, job_id=41, attempt=1, epoch=38, values={"metrics/mAP50-95(B)": 0.9})
    once, _ = fold(board, [epoch])
    twice, _ = fold(once, [epoch])
    assert once.jobs[41].best_fitness == 0.9 and once.jobs[41].best_epoch == 38
    assert twice.jobs[41].spark == once.jobs[41].spark


def test_no_epoch_is_missing_in_a_sparkline_whatever_is_heard_before_its_value() -> None:
    new = JOBS[45].model_copy(update={"state": JobState.RUNNING, "fitness_name": "map"})
    done = [EpochDone(at=NOW, seq=n, job_id=45, attempt=1, epoch=n, values={"map": n / 10}) for n in (1, 2, 3)]
    ahead = [Progressed(at=NOW, job_id=45, epoch=n + 1, epochs=40, epoch_progress=0.1) for n in (1, 2, 3)]
    best = {"fitness": 0.3, "best_fitness": 0.3, "best_epoch": 3}
    row = JobChanged(seq=9, at=NOW, job=new.model_copy(update={"epoch": 3, **best}), verb="epoch")
    board = snapshot([new], [], None, 0)
    for events in (
        [ahead[0], done[0], ahead[1], done[1], ahead[2], done[2], done[2]],
        [*ahead, *done, row],
        [row, *done],
        [*done, row, *ahead],
    ):
        for after in (fold(board, events)[0], _one_by_one(board, events)):
            assert after.jobs[45].spark == [0.1, 0.2, 0.3] and after.jobs[45].epoch == 3
            assert (after.jobs[45].fitness, after.jobs[45].best_epoch) == (0.3, 3) and not after.sparked
    read_again, _ = fold(snapshot([row.job.model_copy(update={"spark": [0.1, 0.2, 0.3]})], [], None, 0), done)
    assert read_again.jobs[45].spark == [0.1, 0.2, 0.3]


def test_a_sparkline_goes_on_from_an_earlier_checkpoint_with_the_epochs_before_it() -> None:
    trained = [n / 10 for n in range(1, 6)]
    known = JOBS[45].model_copy(update={"state": JobState.RUNNING, "fitness_name": "map", "epoch": 5, "spark": trained})
    again = [EpochDone(at=NOW, seq=2 * n, job_id=45, attempt=2, epoch=n, values={"map": 0.9}) for n in (3, 4)]
    rows = [known.model_copy(update={"epoch": n, "spark": [], "fitness": 0.9}) for n in (3, 4)]
    told = [JobChanged(seq=2 * n + 1, at=NOW, job=row, verb="epoch") for n, row in zip((3, 4), rows, strict=True)]
    board = snapshot([known], [], None, 0)
    events = [again[0], told[0], again[1], told[1]]
    for after in (fold(board, events)[0], _one_by_one(board, events)):
        assert after.jobs[45].spark == [0.1, 0.2, 0.9, 0.9] and not after.sparked
    gone = told[0].model_copy(update={"job": rows[0].model_copy(update={"epoch": 1, "fitness": None})})
    assert fold(board, [gone])[0].jobs[45].spark == []


def _one_by_one(board: Board, events: Sequence[FollowerEvent]) -> Board:
    for event in events:
        board, _ = fold(board, [event])
    return board


def test_why_a_job_waits_stays_known_when_its_priority_is_changed() -> None:
    board = snapshot(fleet(), [], None, 0)
    raised = JOBS[47].model_copy(update={"waits_for": "", "priority": Priority.HIGH})
    board, _ = fold(board, [JobChanged(seq=1, at=NOW, job=raised, verb="priority")])
    assert board.jobs[47].waits_for == "behind 46" and board.jobs[47].priority is Priority.HIGH
    held = raised.model_copy(update={"state": JobState.HELD})
    board, _ = fold(board, [JobChanged(seq=2, at=NOW, job=held, verb="hold")])
    assert board.jobs[47].waits_for == ""


def test_reading_everything_again_keeps_what_each_node_has_measured() -> None:
    before = snapshot([], nodes(), None, 0)
    bare = [node.model_copy(update={"history": []}) for node in nodes()]
    after = renewed(before, snapshot([], [bare[0], bare[1].model_copy(update={"name": "new"})], None, 9))
    assert after.nodes["local"].history == before.nodes["local"].history and after.seq == 9
    assert after.nodes["new"].history == [] and "attic" not in after.nodes


def test_the_history_of_a_node_is_bounded() -> None:
    board = snapshot([], nodes(), None, 0)
    board, change = fold(board, [Sampled(at=NOW, sample=sample("local", n, True)) for n in range(300)])
    assert len(board.nodes["local"].history) == HISTORY and change.nodes == {"local"}


def test_waits_and_totals_come_with_the_queue() -> None:
    board = snapshot(fleet(), [], None, 0)
    board, change = fold(board, [QueueChanged(at=NOW, counts={JobState.QUEUED: 4}, waits={47: "quota", 41: "no"})])
    assert board.jobs[47].waits_for == "quota" and change.jobs == {47} and change.totals


def test_older_jobs_do_not_overwrite_what_the_stream_said() -> None:
    board = snapshot([JOBS[40].model_copy(update={"name": "newer"})], [], None, 0, "cursor")
    board, change = more(board, [JOBS[40], JOBS[39]], None)
    assert board.jobs[40].name == "newer" and change.jobs == {39} and board.cursor is None


@pytest.mark.parametrize("column", SORTS)
@pytest.mark.parametrize("descending", [False, True])
def test_an_order_kept_up_to_date_is_the_order_made_anew(column: str, descending: bool) -> None:
    kept = Order(column=column, descending=descending)
    kept.rebuild(JOBS)
    changed = {
        41: JOBS[41].model_copy(update={"state": JobState.COMPLETED, "ended_at": NOW, "epoch": 100, "eta_s": None}),
        47: JOBS[47].model_copy(update={"priority": Priority.HIGH, "name": "aaa"}),
        99: JOBS[48].model_copy(update={"id": 99, "rank": 0.5}),
    }
    jobs = {**JOBS, **changed}
    del jobs[50]
    kept.update(jobs, {41, 47, 50, 99})
    anew = Order(column=column, descending=descending)
    anew.rebuild(jobs)
    assert kept.ids == anew.ids
    assert [kept.position(id) for id in kept.ids] == list(range(len(kept)))
    assert kept.position(50) is None


@pytest.mark.parametrize("width", [40, 77, 93, 117, 157, 197, 400])
def test_columns_fill_the_width_and_never_exceed_it(width: int) -> None:
    shown = layout(width, USUAL)
    assert sum(column.width + 2 for column in shown) - 2 <= max(width, shown[0].width)
    assert shown[0].id == "id"


def test_on_a_usual_screen_the_priority_is_a_column_and_names_and_reasons_have_room() -> None:
    shown = {column.id: column.width for column in layout(114, USUAL, id_digits=2)}
    assert "priority" in shown and shown["name"] >= 22 and shown["why"] >= 20


def test_without_trainings_their_columns_leave_the_room_to_the_others() -> None:
    shown = {column.id: column.width for column in layout(115, USUAL, trainings=False)}
    assert not {"epoch", "fitness", "eta"} & set(shown) and set(shown) >= {"user", "priority", "model"}
    assert shown["why"] >= 25
    assert {column.id: column.width for column in layout(77, USUAL, trainings=False)}["why"] >= 20


def test_the_trail_of_a_job_says_which_epoch_was_done_how_well_and_how_fast() -> None:
    def told(verb: str, **data: Any) -> str:
        entry = AuditEntry(seq=1, at=NOW, job_id=41, attempt=2, verb=verb, data=data)
        return "".join(text for text, _ in audit_line(entry, NOW, UTC, UNICODE, str)).strip()

    done = told("epoch", epoch=12, seconds=84.2, fitness=0.8123)
    assert done == "14:02:11     epoch      12: fitness 0.8123, took 1m 24s  attempt 2"
    assert told("epoch", epoch=12, seconds=None, fitness=None) == "14:02:11     epoch      12  attempt 2"
    assert told("checkpoint", epoch=12, path="/x.pt") == "14:02:11     checkpoint of epoch 12  attempt 2"
    assert told("started", model="yolov8n.pt") == "14:02:11     started    attempt 2"
    assert told("expire", message="its files go") == "14:02:11     expire     its files go  attempt 2"


def test_a_change_of_priority_says_which_it_is_now() -> None:
    assert done("priority", [JOBS[47]], Priority.HIGH) == "#47 has high priority now"
    assert done("priority", [JOBS[47], JOBS[48]], Priority.LOW) == "#47, #48 have low priority now"


def test_what_is_lost_of_a_command_says_nothing_of_epochs() -> None:
    assert "epoch" not in lost("remove", JOBS[49]) and "epoch" in lost("remove", JOBS[47])


def luminance(colour: Color) -> float:
    """Of sRGB, as WCAG 2 has it: https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    parts = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in colour.normalized]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))


def contrast(one: Color, other: Color) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


NO_TEXT = ("bar.", "gauge.", "line.", "track", "history", "spark", "axis")


@pytest.mark.parametrize("theme", [theme for theme in THEMES if not theme.ansi], ids=lambda theme: theme.name)
def test_text_can_be_read_on_whatever_it_stands_in_each_theme(theme: Theme) -> None:
    def colour(found: RichColor | None) -> Color | None:
        return None if found is None else Color.parse(found.name)

    palette = Palette(theme.name)
    unders = [Color.parse(text) for text in (theme.background, theme.surface) if text]
    unders += [found for row in ("cursor", "cursor.away", "marked") if (found := colour(palette[row].bgcolor))]
    assert len(unders) == 5
    faint: list[str] = []
    for role in ROLES[theme.name]:
        text, own = colour(palette[role].color), colour(palette[role].bgcolor)
        if text is not None and not role.startswith(NO_TEXT):
            least = min(contrast(text, under) for under in ([own] if own else unders))
            faint += [f"{role} {least:.2f}"] if least < 4.5 else []
    assert not faint
    for text in (theme.secondary, theme.foreground):
        assert text is not None and min(contrast(Color.parse(text), under) for under in unders[:2]) >= 4.5


def test_no_text_has_the_colour_that_is_the_ground_in_some_terminals() -> None:
    """Of Solarized's sixteen bright black is the ground: https://ethanschoonover.com/solarized/#the-values."""
    theme = next(theme for theme in THEMES if theme.ansi)
    text = [role for role in ROLES[theme.name] if not role.startswith(NO_TEXT)]
    assert not [role for role in text if "bright_black" in Palette(theme.name).css(role)]
    assert not [role for role, style in STYLES.items() if not role.startswith(NO_TEXT) and "bright_black" in style]
    assert "bright_black" not in (theme.secondary or "")


@given(low=st.floats(-1e6, 1e6), span=st.floats(1e-6, 1e6), most=st.integers(2, 12), whole=st.booleans())
@settings(deadline=None)
def test_the_numbers_of_an_axis_are_evenly_spaced_on_it_and_few(
    low: float, span: float, most: int, whole: bool
) -> None:
    found = ticks(low, low + span, most, whole)
    assert len(found) <= most + 1
    near = span * 1e-6 + 1e-9 * abs(low)
    assert all(low - near <= tick <= low + span + near for tick in found)
    steps = [after - before for before, after in pairwise(found)]
    assert all(abs(step - steps[0]) <= near for step in steps)
    assert not whole or all(tick == round(tick) for tick in found)


def test_a_short_run_has_no_numbers_between_its_epochs_and_a_value_axis_leaves_none_out() -> None:
    assert ticks(1.0, 2.0, 8, whole=True) == [1.0, 2.0] and ticks(1.0, 3.0, 4, whole=True) == [1.0, 2.0, 3.0]
    assert roomy(0.0, 0.45, lambda y: round(y * 40), 2) == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert roomy(0.0, 0.45, lambda y: round(y * 16), 2) == pytest.approx([0.0, 0.2, 0.4])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (0, "0s"), (59.4, "59s"), (60, "1m 00s"), (3661, "1h 01m"), (90_000, "1d 01h"), (float("inf"), "")],
)
def test_durations_are_short(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_ages_numbers_and_texts_have_their_width() -> None:
    assert ago(NOW - timedelta(hours=3, minutes=5), NOW) == "3h"
    assert [number(v) for v in (None, 0.5, 12.3456, 1234.5, 1e-9, float("nan"))] == [
        "",
        "0.5000",
        "12.346",
        "1234.5",
        "1.00e-09",
        "nan",
    ]
    assert [cell_len(fit("naïve 日本語 text", width)) for width in (3, 8, 9, 30)] == [3, 8, 9, 30]


@pytest.mark.parametrize("glyphs", [UNICODE, ASCII])
@pytest.mark.parametrize("fraction", [-1, 0, 0.01, 0.5, 0.999, 1, 7])
def test_a_bar_is_as_wide_as_asked(glyphs: object, fraction: float) -> None:
    assert width_of(bar(fraction, 10, glyphs)) == 10  # pyright: ignore[reportArgumentType]


def test_a_sparkline_shows_the_newest_and_survives_what_is_no_number() -> None:
    assert spark([1, 2, 3], 5, UNICODE) == "  ▁▅█"
    assert spark([float("nan")], 3, UNICODE) == "   "
    assert spark([5, 5], 2, UNICODE) == "▄▄"


def test_ascii_keeps_the_width() -> None:
    assert ascii_only("╭─ ▶ running … ⣿ 日本 é") == "+- * running ~ # ???? e"
    assert ascii_only("🔎 search 📁 fruit 📄 a.yaml 🍎") == ">  search /  fruit    a.yaml ??"


def test_yaml_parts_put_together_are_the_line() -> None:
    for line in ("a: 1", "  - b: text # x", "# note", "url: http://x:80", "- [1, 2]", "", "  key:"):
        assert "".join(text for text, _ in yaml_cell(line)) == line


def test_charts_keep_train_and_val_together() -> None:
    table = MetricTable(
        job_id=1,
        epochs=[1, 2, 3],
        seconds=[60.0, None, 60.0],
        columns={
            "val/box_loss": [3.0, 2.0, 1.0],
            "train/box_loss": [3.0, None, float("nan")],
            "metrics/mAP50(B)": [0.1, 0.2, 0.3],
            "metrics/mAP50(M)": [0.1, 0.2, 0.3],
            "empty": [None, None, None],
        },
    )
    found = charts(table, by_time=True)
    assert [(c.title, [line.label for line in c.lines]) for c in found] == [
        ("metrics", ["mAP50", "mAP50 M"]),
        ("box loss", ["train", "val"]),
    ]
    assert found[1].lines[1].points == [(1.0, 3.0), (1.0, 2.0), (2.0, 1.0)]


def test_reducing_keeps_peaks_and_the_end() -> None:
    points = [(float(n), 0.0) for n in range(1000)]
    points[500] = (500.0, 9.0)
    points[999] = (999.0, 5.0)
    small = reduce(points, 40)
    assert len(small) <= 80 and (500.0, 9.0) in small and small[-1] == (999.0, 5.0)


def test_smoothing_keeps_a_constant_and_its_start() -> None:
    assert smooth([(0, 2.0), (1, 2.0)], 0.9) == [(0, pytest.approx(2.0)), (1, pytest.approx(2.0))]


def test_an_epoch_after_going_back_replaces_what_came_after_it() -> None:
    table = MetricTable(
        job_id=1, epochs=[1, 2, 3], seconds=[1.0, 1.0, 1.0], attempts=[1, 1, 1], columns={"a": [1, 2, 3]}
    )
    again = with_epoch(table, EpochDone(at=NOW, job_id=1, attempt=2, epoch=2, values={"a": 9, "b": 1}, seconds=2.0))
    assert again.epochs == [1, 2] and again.columns == {"a": [1, 9], "b": [None, 1]} and again.attempts == [1, 2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stop 3 4", ("stop", (3, 4), ())),
        ("kill #3", ("kill", (3,), ())),
        ("hold 3-5", ("hold", (3, 4, 5), ())),
        ("priority high 3", ("priority", (3,), ("high",))),
        ("rm 4 --files", ("remove", (4,), ())),
        ("submit my file.yaml", ("submit", (), ("my", "file.yaml"))),
        ("submit 'my file.yaml'", ("submit", (), ("my file.yaml",))),
    ],
)
def test_commands_are_read(text: str, said: tuple[object, ...]) -> None:
    command = parse(text)
    assert (command.name, command.ids, command.words) == said


@pytest.mark.parametrize(
    "text", ["stpo 3", "priority urgent 3", "stop now", "resume 3 --epochs many", "submit 'open", "quit now", "job a"]
)
def test_wrong_commands_say_what_is_wrong(text: str) -> None:
    with pytest.raises(CommandError):
        parse(text)


def test_completion_offers_what_can_come_next() -> None:
    assert [c.text for c in complete("pri", [], lambda _: [])] == ["priority "]
    assert [c.label for c in complete("priority ", [], lambda _: [])] == ["high", "normal", "low"]
    assert [c.text for c in complete("stop 3 4", [41, 42, 7], lambda _: [])] == ["stop 3 41 ", "stop 3 42 "]
    assert [c.label for c in complete("submit /d", [], lambda start: [f"{start}ata/"])] == ["/data/"]
    assert "state:failed" in [c.label for c in complete("filter user:ana st", [], lambda _: [])]


def test_verbs_know_what_they_fit_and_what_they_lose() -> None:
    able, why_not = split("hold", [JOBS[47], JOBS[41]])
    assert [job.id for job in able] == [47] and why_not == "#41 is not queued"
    assert lost("kill", JOBS[47]) == "waits: nothing is lost"
    assert "epoch 38 (42% done)" in lost("kill", JOBS[41])


def test_an_undo_is_the_inverse() -> None:
    queue = queue_of(JOBS)
    move = undo_of("move", [JOBS[47]], queue)
    assert move is not None and move.steps == (("move", 47, {"before": 48}),)
    assert undo_of("stop", [JOBS[41]], queue) is None
    assert [job and job.id for job in neighbours(JOBS[48], queue)] == [47, None]
    assert next_priority(Priority.HIGH, 1) is None and next_priority(Priority.LOW, 1) is Priority.NORMAL


def test_a_spreadsheet_computes_nothing_of_what_others_wrote() -> None:
    evil = JOBS[41].model_copy(update={"name": '=HYPERLINK("http://x")', "user": "a,b\n"})
    assert "'=HYPERLINK" in as_csv([evil])


@pytest.mark.parametrize(
    ("where", "row"),
    [("line 3, column 7", 2), ("train.epoks (line 12, column 3)", 11), ("labels/0042.txt:3", None), ("", None)],
)
def test_a_finding_is_about_the_line_that_it_names(where: str, row: int | None) -> None:
    assert line_of(Finding(where=where, message="wrong")) == row


@pytest.mark.parametrize(
    ("spec", "pace", "takes", "memory"),
    [
        (
            JobSpec(work=TrainWork(model="yolov8n.pt", args={"epochs": 20})),
            Pace(job_id=7, epoch_s=90),
            "about 30m 00s: 20 epochs of 1m 30s, as job 7",
            "unknown: it asks for none",
        ),
        (
            JobSpec(
                work=TrainWork(model="yolov8n.pt", args={"time": 1.5}),
                resources=Resources(memory_mib=8192, gpu=GpuRequest(memory_fraction=0.5)),
            ),
            None,
            "about 1h 30m, as train.time says",
            "8.0G of the machine's and 50% of a GPU's kept for it",
        ),
        (
            JobSpec(work=TrainWork(model="yolov8n.pt"), resources=Resources(memory_mib=512)),
            None,
            "unknown: nothing like it has run",
            "512M of the machine's kept for it",
        ),
        (
            JobSpec(work=CommandWork(argv=["true"])),
            None,
            "unknown: a command says nothing of its end",
            "unknown: it asks for none",
        ),
    ],
)
def test_what_nobody_knows_of_a_job_before_it_runs_is_called_unknown(
    spec: JobSpec, pace: Pace | None, takes: str, memory: str
) -> None:
    assert (time_words(spec, pace), memory_words(spec.resources)) == (takes, memory)
