"""The submit form: checked as one types, with findings on their lines, and the same as a command line."""

from pathlib import Path

import pytest

from broker.protocol import document, legacy
from broker.protocol.api import Finding, SubmitRequest, Validation
from broker.protocol.states import Priority
from tests.tui.cockpit import Cockpit, cockpit
from wyolo_tui.feed import LinkDown, LinkUp
from wyolo_tui.screens.dialog import Dialog
from wyolo_tui.screens.submit import SubmitDialog
from wyolo_tui.widgets.yaml_editor import YamlEditor


def editor(tui: Cockpit) -> YamlEditor:
    return tui.app.screen.query_one(YamlEditor)


def sent(tui: Cockpit, what: str = "submit") -> SubmitRequest:
    request = tui.asked(what)[-1][-1]
    assert isinstance(request, SubmitRequest)
    return request


async def test_what_would_run_and_when_is_said_before_it_is_sent() -> None:
    async with cockpit() as tui:
        await tui.press("n")
        await tui.shows("would run yolov8n.pt for 50 epochs at 640 px, batch 16")
        await tui.shows("starts after 3 jobs")
        await tui.shows("takes about 1h 10m: 50 epochs of 1m 24s, as job 41")
        await tui.shows("memory unknown: it asks for none")
        await tui.shows("$ wyolo submit -   which reads what is written above")


async def test_an_error_is_shown_with_its_line_and_nothing_can_be_sent() -> None:
    async with cockpit() as tui:
        await tui.press("n")
        editor(tui).text = "model: yolov8n.pt\ntrain:\n  epoks: 3\n"
        await tui.shows("error line 3, column 3: unknown key train.epoks")
        await tui.shows("did you mean epochs?")
        await tui.press("ctrl+s")
        await tui.until(lambda: any("not yet" in toast for toast in tui.toasts))
        assert not tui.asked("submit")


async def test_a_job_is_submitted_and_the_cursor_goes_to_it() -> None:
    async with cockpit() as tui:
        await tui.press("n")
        await tui.shows("would run")
        await tui.press("ctrl+g", "ctrl+l")
        await tui.shows("$ wyolo submit - --priority high --hold")
        await tui.until(lambda: tui.app.screen._checked is not None)  # pyright: ignore
        await tui.press("ctrl+s")
        await tui.until(lambda: tui.asked("submit"))
        assert sent(tui).priority is Priority.HIGH and sent(tui).hold
        await tui.until(lambda: tui.table.current is not None and tui.table.current.id == 51)


async def test_a_file_is_read_and_its_folder_is_where_paths_begin(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("model: yolov8m.pt\ntrain: {epochs: 3}\n")
    async with cockpit() as tui:
        await tui.press("colon")
        await tui.type(f"submit {path}")
        await tui.press("enter")
        await tui.shows("yolov8m.pt")
        await tui.shows("would run")
        await tui.press("ctrl+s")
        await tui.until(lambda: tui.asked("submit"))
        assert sent(tui).base_dir == str(tmp_path)
        assert sent(tui).config == path.read_text()


async def test_the_command_line_names_the_file_as_long_as_it_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("model: yolov8m.pt\ntrain: {epochs: 3}\n")
    async with cockpit(size=(160, 40)) as tui:
        await tui.press("colon")
        await tui.type(f"submit {path}")
        await tui.press("enter")
        await tui.shows(f"$ wyolo submit {path}")
        editor(tui).insert("# mine\n", (0, 0))
        await tui.shows("$ wyolo submit -   which reads what is written above")


async def test_a_form_that_found_no_broker_checks_again_when_it_answers() -> None:
    async with cockpit() as tui:
        tui.link.out = True
        tui.link.put(LinkDown("no broker answers at http://127.0.0.1:23450", 0.2))
        await tui.press("n")
        await tui.shows("no broker answers")
        tui.link.out = False
        tui.link.put(LinkUp())
        await tui.shows("would run yolov8n.pt")


async def test_what_is_typed_is_not_thrown_away_by_one_key() -> None:
    async with cockpit() as tui:
        await tui.press("n")
        await tui.shows("would run")
        await tui.press("escape")
        await tui.until(lambda: not isinstance(tui.app.screen, SubmitDialog))
        await tui.press("n")
        await tui.shows("would run")
        await tui.type("# mine")
        for key in ("escape", "enter"):
            await tui.press("escape")
            await tui.shows("Discard what is written here?")
            await tui.press(key)
            await tui.until(lambda: isinstance(tui.app.screen, SubmitDialog))
            assert "# mine" in editor(tui).text
        await tui.press("escape")
        await tui.shows("Discard what is written here?")
        await tui.press("y")
        await tui.until(lambda: not isinstance(tui.app.screen, Dialog))


async def test_all_that_was_found_can_be_read_on_a_small_terminal() -> None:
    async with cockpit(size=(80, 24)) as tui:
        many = [Finding(message=f"finding {n}") for n in range(12)]
        tui.link.validation = Validation(ok=False, findings=many)
        await tui.press("n")
        await tui.shows("finding 0")
        assert "esc cancel" in tui.words and "finding 11" not in tui.words
        await tui.shows("more lines: tab, then down")
        await tui.press("tab", "end")
        await tui.shows("finding 11")


async def test_a_file_that_is_not_there_says_so() -> None:
    async with cockpit() as tui:
        await tui.press("colon")
        await tui.type("submit /nonexistent/job.yaml")
        await tui.press("enter")
        await tui.until(lambda: any("No such file" in toast for toast in tui.toasts))


async def test_clone_begins_with_the_configuration_of_the_job() -> None:
    async with cockpit() as tui:
        await tui.on(41)
        await tui.press("c")
        await tui.until(lambda: isinstance(tui.app.screen, SubmitDialog))
        assert "optimizer: AdamW" in editor(tui).text
        assert "New job, from 41" in tui.words
        await tui.shows("$ wyolo submit - --priority high   which reads what is written above")


@pytest.mark.parametrize(("key", "job_id", "asked"), [("c", 49, "submit"), ("e", 49, "edit"), ("c", 41, "submit")])
async def test_what_a_clone_or_an_edit_sends_reads_as_the_same_job(key: str, job_id: int, asked: str) -> None:
    async with cockpit() as tui:
        spec = (await tui.link.job(job_id)).spec
        assert spec is not None
        await tui.on(job_id)
        await tui.press(key)
        await tui.shows("would run")
        await tui.press("ctrl+s")
        await tui.until(lambda: tui.asked(asked))
        request = sent(tui, asked)
        read = legacy.read(document.parse(request.config or ""), {}, request.base_dir)
        assert read.spec is not None, read.findings
        assert (read.spec.work, read.spec.resources) == (spec.work, spec.resources)


async def test_edit_changes_a_job_that_waits_and_refuses_one_that_runs() -> None:
    async with cockpit() as tui:
        await tui.on(41)
        await tui.press("e")
        await tui.until(lambda: any("has started" in toast for toast in tui.toasts))
        await tui.on(47)
        await tui.press("e")
        await tui.shows("Edit job 47")
        await tui.shows("would run")
        await tui.press("ctrl+s")
        await tui.until(lambda: tui.asked("edit"))
        assert tui.asked("edit")[0][0] == 47


async def test_pasted_yaml_fills_the_editor() -> None:
    async with cockpit() as tui:
        tui.app.copy_to_clipboard("model: yolov8l.pt\ntrain:\n  epochs: 9\n")
        await tui.press("N")
        await tui.until(lambda: isinstance(tui.app.screen, SubmitDialog))
        assert "yolov8l.pt" in editor(tui).text


async def test_the_file_picker_opens_and_escape_leaves_the_form_as_it_was() -> None:
    async with cockpit() as tui:
        await tui.press("n")
        await tui.shows("would run")
        await tui.press("ctrl+o")
        await tui.shows("Open a configuration")
        await tui.press("escape")
        await tui.shows("would run")


async def test_a_file_takes_the_place_of_what_is_written_only_when_a_person_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fruit.yaml").write_text("model: yolov8x.pt\n")
    monkeypatch.chdir(tmp_path)

    async def opened(tui: Cockpit) -> None:
        await tui.press("ctrl+o")
        await tui.shows("fruit.yaml")
        picker = tui.app.screen
        picker.dismiss(tmp_path / "fruit.yaml")

    async with cockpit() as tui:
        await tui.press("n")
        await tui.shows("would run")
        await opened(tui)
        await tui.until(lambda: isinstance(tui.app.screen, SubmitDialog) and "yolov8x" in editor(tui).text)
        await tui.type("# mine")
        for key, stays in (("escape", True), ("y", False)):
            await opened(tui)
            await tui.shows("Discard what is written here?")
            await tui.press(key)
            await tui.until(lambda: isinstance(tui.app.screen, SubmitDialog))
            await tui.until(lambda stays=stays: ("# mine" in editor(tui).text) == stays)
