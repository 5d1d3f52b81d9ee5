"""The command line where no broker is asked: what it understands, refuses and documents."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import pytest
import typer

from broker import settings
from broker.protocol.api import Problem
from broker.protocol.event import EpochDone
from broker.protocol.filter import SORTS
from broker.protocol.job import Job
from broker.protocol.states import JobState
from tests.running import broker_environment
from wyolo_tui import discovery
from wyolo_tui.__main__ import main
from wyolo_tui.cli import app
from wyolo_tui.cli.logs import moment
from wyolo_tui.cli.reporting import epoch_line
from wyolo_tui.cli.requests import MOST_BYTES, assignments, from_file
from wyolo_tui.cli.session import BadUse, Session
from wyolo_tui.cli.tables import grid, jobs_lines
from wyolo_tui.cli.targets import confirm
from wyolo_tui.columns import USUAL
from wyolo_tui.present import UNICODE

ROOT = Path(__file__).parents[2]
NOW = datetime(2025, 1, 31, 12, 0, tzinfo=UTC)
EVERYWHERE = {"--json", "--url", "--data-dir", "--help", "-h"}


def surroundings(env: Mapping[str, str] | None) -> dict[str, str]:
    """With no broker in sight."""
    return broker_environment(**{"WYOLO_DATA_DIR": "/nonexistent/wyolo"} | dict(env or {}))


def run(*arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    """The command as a person runs it."""
    command = [sys.executable, "-P", "-m", "wyolo_tui", *arguments]
    return subprocess.run(command, input=b"", capture_output=True, env=surroundings(env), timeout=60, check=False)


def wyolo(*arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    """The same in this interpreter: to start one takes longer than most of what is asked here."""
    said, told = TextIOWrapper(BytesIO(), write_through=True), TextIOWrapper(BytesIO(), write_through=True)
    with (
        patch.dict(os.environ, surroundings(env), clear=True),
        patch.object(sys, "argv", ["wyolo", *arguments]),
        patch.object(sys, "stdin", StringIO()),
        patch.object(sys, "stdout", said),
        patch.object(sys, "stderr", told),
        pytest.raises(SystemExit) as end,
    ):
        main()
    assert isinstance(end.value.code, int)
    return subprocess.CompletedProcess(arguments, end.value.code, said.buffer.getvalue(), told.buffer.getvalue())


def options(command: Any) -> set[str]:
    """Its own, and those of the verbs that it has."""
    below = set[str]().union(*(options(each) for each in getattr(command, "commands", {}).values()))
    own = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return (own | below) - EVERYWHERE


def test_the_manual_names_every_verb_and_option_and_no_other() -> None:
    manual = (ROOT / "docs" / "cli.md").read_text()
    sections = dict(re.findall(r"^### wyolo (\S+)\n(.*?)(?=^##|\Z)", manual, re.MULTILINE | re.DOTALL))
    commands: dict[str, Any] = cast(Any, typer.main.get_command(app.build())).commands
    assert set(sections) == set(commands)
    for name, command in commands.items():
        documented = set(
            re.findall(r"`(--?[a-zA-Z][a-z-]*)`", "\n".join(re.findall(r"^\|.*", sections[name], re.MULTILINE)))
        )
        flags = {flag for flag in options(command) if flag.startswith("-")}
        assert documented == flags, f"wyolo {name}"
        assert f"wyolo {name}" in sections[name].partition("```")[2], f"wyolo {name} has an example"


def test_every_verb_is_a_file_of_its_own() -> None:
    texts = {path.stem: path.read_text() for path in (ROOT / "wyolo_tui" / "cli").glob("*.py")}
    files = {
        name for name, text in texts.items() if re.search(r"^(async )?def command\(|^command = ", text, re.MULTILINE)
    }
    assert files == set(app.PANELS)


def test_set_reads_values_as_yaml() -> None:
    assert assignments(["train.epochs=3", "train.lr0=1e-3", "train.imgsz=[640, 480]", "name=a=b", "x= "]) == {
        "train.epochs": 3,
        "train.lr0": 0.001,
        "train.imgsz": [640, 480],
        "name": "a=b",
        "x": None,
    }


def test_labels_are_keys_beside_those_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "train.yaml"
    file.write_text("model: yolov8n.pt\nresources: {labels: {rack: 7}}\n")
    request = from_file(str(file), ["train.epochs=3"], labels=["zone=lab", "owner=ann=b"])
    assert request.set == {"train.epochs": 3, "resources.labels.zone": "lab", "resources.labels.owner": "ann=b"}
    for wrong in ("zone", "=lab", "zone=", "a.b=c"):
        with pytest.raises(BadUse, match=re.escape("--label")):
            from_file(str(file), labels=[wrong])


@pytest.mark.parametrize("wrong", ["train.epochs", "=3", "a=[1", "a=&x 1"])
def test_set_refuses_what_is_no_assignment(wrong: str) -> None:
    with pytest.raises(BadUse, match=re.escape(f"--set {wrong}")):
        assignments([wrong])


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("10m", NOW - timedelta(minutes=10)),
        ("1.5h", NOW - timedelta(minutes=90)),
        ("2d", NOW - timedelta(days=2)),
        ("2025-01-30T08:00:00+00:00", datetime(2025, 1, 30, 8, 0, tzinfo=UTC)),
    ],
)
def test_since_is_a_duration_or_a_time(text: str, when: datetime) -> None:
    assert moment(text, NOW) == when


def test_since_refuses_other_words() -> None:
    with pytest.raises(BadUse, match="yesterday"):
        moment("yesterday", NOW)


def test_a_configuration_is_read_with_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "train.yaml"
    file.write_text("model: yolov8n.yaml\n")
    request = from_file(str(file), ["train.epochs=3"], hold=True)
    assert (request.config, request.base_dir) == ("model: yolov8n.yaml\n", str(tmp_path))
    assert (request.set, request.hold) == ({"train.epochs": 3}, True)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"a: \xff\xfe\n", "line 1: not UTF-8"), (b"x" * (MOST_BYTES + 1), "256 KiB"), (None, "there is no file")],
)
def test_a_file_that_is_no_configuration_is_refused_by_name(content: bytes | None, said: str, tmp_path: Path) -> None:
    file = tmp_path / "train.yaml"
    if content is not None:
        file.write_bytes(content)
    done = wyolo("submit", str(file))
    assert done.returncode == 2
    assert str(file) in done.stderr.decode() and said in done.stderr.decode()


@pytest.mark.parametrize(
    "arguments",
    [
        ["sumbit"],
        ["jobs", "--limit", "many"],
        ["jobs", "--colour"],
        ["stop"],
        ["show"],
        ["run", "--"],
        ["priority", "12", "urgent"],
        ["move", "12"],
        ["resolve", "12", "perhaps"],
        ["submit", "/nonexistent.yaml"],
        ["submit", "a.yaml", "b.yaml", "--name", "one"],
        ["jobs", "--columns", "colour"],
        ["run", "--name", "x" * 300, "--", "true"],
        ["run", "--task-id", "x" * 300, "--", "true"],
        ["run", "--cwd", "/" + "x" * 300, "--", "true"],
        ["run", "--cpus", "1e9", "--", "true"],
        ["run", "--", *["true"] * 5000],
        ["logs", "9", "--since", "99999999999999d"],
        ["show", "\udce6"],
    ],
    ids=lambda words: " ".join(words)[:40].encode("ascii", "replace").decode(),
)
def test_bad_input_exits_2_with_a_line_and_a_problem_for_programs(arguments: list[str]) -> None:
    people = wyolo(*arguments)
    assert (people.returncode, people.stdout) == (2, b"")
    assert people.stderr.startswith(b"error: ") and b"Traceback" not in people.stderr
    assert people.stderr.count(b"\n") <= 2
    at = arguments.index("--") if "--" in arguments else len(arguments)
    programs = wyolo(*arguments[:at], "--json", *arguments[at:])
    assert (programs.returncode, programs.stderr) == (2, b"")
    problem = Problem.model_validate_json(programs.stdout)
    assert problem.code == "bad_request"
    hints = [finding.hint for finding in problem.findings]
    assert all(hint in people.stderr.decode() for hint in hints), "what to do is said to programs too"
    assert any(hints) == ("→".encode() in people.stderr)


@pytest.mark.parametrize("verb", [["jobs"], ["nodes"], ["show", "1"], ["wait", "1"], ["events"], ["broker", "status"]])
def test_without_a_broker_a_verb_exits_3_and_says_how_to_start_one(verb: list[str]) -> None:
    people = wyolo(*verb)
    assert (people.returncode, people.stdout) == (3, b"")
    assert b"wyolo broker start" in people.stderr
    programs = wyolo(*verb, "--json")
    assert programs.returncode == 3
    problem = Problem.model_validate_json(programs.stdout)
    assert problem.code == "broker_out" and "wyolo broker start" in problem.findings[0].hint


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:99999", "http://[::1", "ftp://here", "here", "http://", f"http://{'a' * 70}.com"],
)
def test_what_is_no_address_of_a_broker_is_called_so(url: str) -> None:
    done = wyolo("jobs", "--url", url)
    assert (done.returncode, done.stdout) == (3, b"")
    assert f"{url} is no address of a broker" in done.stderr.decode()


def test_a_key_with_something_else_in_it_is_refused_by_where_it_was(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"one\ntwo\n")
    (tmp_path / "broker.json").write_text(json.dumps({"url": "http://127.0.0.1:1", "pid": os.getpid()}))
    here = {"WYOLO_DATA_DIR": str(tmp_path)}
    for env, where in (
        (here, str(tmp_path / "key")),
        (here | {"WYOLO_URL": "http://127.0.0.1:1"}, str(tmp_path / "key")),
        (here | {"WYOLO_URL": "http://127.0.0.1:1", "WYOLO_KEY": "a\x1bb"}, "WYOLO_KEY"),
    ):
        done = wyolo("jobs", env=env)
        assert (done.returncode, done.stdout) == (2, b"")
        assert done.stderr.decode().startswith(f"error: {where}: holds more than a key")


@pytest.mark.parametrize("key", ["secret\n", " secret \r\n", "secret"])
def test_what_an_editor_leaves_at_the_end_of_a_key_is_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    (tmp_path / "key").write_text("\n")
    monkeypatch.setenv("WYOLO_KEY", key)
    assert discovery.find("http://127.0.0.1:1", tmp_path).key == "secret"
    monkeypatch.delenv("WYOLO_KEY")
    (tmp_path / "key").write_bytes(key.encode())
    assert discovery.find("http://127.0.0.1:1", tmp_path).key == "secret"


def test_a_user_whom_the_system_does_not_know_by_name_can_queue_commands_too() -> None:
    with patch("getpass.getuser", side_effect=KeyError("getpwuid(): uid not found: 4321")):
        done = wyolo("run", "--", "true")
    assert (done.returncode, b"no broker runs on" in done.stderr) == (3, True)


def test_an_answer_that_cannot_be_written_is_told_apart_from_a_failed_job() -> None:
    """With --json the error itself goes to standard output."""
    command = [sys.executable, "-P", "-m", "wyolo_tui", "jobs", "--json"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=-1, env=surroundings(None), timeout=60, check=False)
    assert done.returncode == 3
    assert done.stderr.startswith(b"error: the answer cannot be written (No space left on device)")
    assert b"Traceback" not in done.stderr


def test_without_standard_output_nothing_is_begun() -> None:
    command = ["sh", "-c", 'exec "$0" "$@" >&-', sys.executable, "-P", "-m", "wyolo_tui", "jobs"]
    done = subprocess.run(command, capture_output=True, env=surroundings(None), timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: standard output is closed")


def test_an_address_where_nobody_listens_is_named() -> None:
    done = run("--url", "http://127.0.0.1:1", "jobs")
    assert done.returncode == 3
    assert b"no broker answers at http://127.0.0.1:1" in done.stderr


def test_a_broker_that_died_is_told_from_one_that_never_was(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    (tmp_path / "broker.json").write_text(json.dumps({"url": "http://127.0.0.1:1", "pid": child.pid}))
    done = run("jobs", env={"WYOLO_DATA_DIR": str(tmp_path)})
    assert done.returncode == 3
    assert b"has died; its jobs go on" in done.stderr


def test_the_cockpit_needs_a_terminal_and_says_so() -> None:
    done = run()
    assert done.returncode == 2
    assert b"the cockpit needs a terminal" in done.stderr


def test_the_version_is_said() -> None:
    assert re.fullmatch(rb"wyolo \d+\.\d+\.\d+\S*\n", run("--version").stdout)


def test_verbs_and_options_complete_in_the_shell() -> None:
    asked = {"_WYOLO_COMPLETE": "complete_bash", "COMP_WORDS": "wyolo pr", "COMP_CWORD": "1"}
    assert sorted(run(env=asked).stdout.split()) == [b"preempt", b"priority"]


def test_verbs_load_neither_the_cockpit_nor_torch() -> None:
    code = (
        "import sys; sys.argv = ['wyolo', 'jobs']\n"
        "from wyolo_tui.__main__ import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([m for m in ('textual', 'torch', 'ultralytics', 'rich.console', 'psutil') if m in sys.modules])"
    )
    env = broker_environment(WYOLO_DATA_DIR="/nonexistent/wyolo")
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, env=env, timeout=60, check=True)
    assert done.stdout == b"[]\n"


def test_the_data_directory_is_the_one_that_the_broker_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("WYOLO_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert discovery.data_directory() == settings.load(None).data_dir == tmp_path / ".local" / "state" / "wyolo"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert discovery.data_directory() == settings.load(None).data_dir == tmp_path / "state" / "wyolo"
    (tmp_path / ".config" / "wyolo").mkdir(parents=True)
    (tmp_path / ".config" / "wyolo" / "wyolo.toml").write_text('data_dir = "~/elsewhere"\n')
    assert discovery.data_directory() == settings.load(None).data_dir == tmp_path / "elsewhere"
    monkeypatch.setenv("WYOLO_DATA_DIR", str(tmp_path / "named"))
    assert discovery.data_directory() == settings.load(None).data_dir == tmp_path / "named"


def test_the_demo_trains_the_sample_configuration() -> None:
    assert (ROOT / "wyolo_tui" / "demo.yaml").read_text() == (ROOT / "sample_configs" / "demo.yaml").read_text()


def job(job_id: int) -> Job:
    return Job(id=job_id, name=f"fruit-{job_id}", kind="train", state=JobState.QUEUED, submitted_at=NOW)


def test_more_than_three_jobs_are_not_stopped_unasked() -> None:
    confirm(Session(), [job(1), job(2), job(3)], "stop", yes=False)
    confirm(Session(), [job(i) for i in range(9)], "stop", yes=True)
    with pytest.raises(BadUse, match=r"stop 4 jobs \(1 fruit-1, 2 fruit-2, 3 fruit-3 and 1 more\)"):
        confirm(Session(json=True), [job(1), job(2), job(3), job(4)], "stop", yes=False)


def test_a_name_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b]52;c;cGF3bmVk\x07\x9b2J\u202eevil"
    Session().say(evil)
    Session(json=True).emit(job(1).model_copy(update={"name": evil}))
    said = capsys.readouterr().out
    assert said.isprintable() or not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", said)
    assert json.loads(said.splitlines()[1])["name"] == evil


def test_a_table_fits_the_terminal_and_is_whole_in_a_pipe() -> None:
    jobs = [job(1).model_copy(update={"name": "long " * 30, "waits_for": "behind others " * 20})]
    for width in (40, 80, 200):
        lines = list(jobs_lines(jobs, width=width, glyphs=UNICODE, chosen=USUAL, now=NOW))
        assert max(line.cell_len for line in lines) <= width
    whole = [line.plain for line in jobs_lines(jobs, width=None, glyphs=UNICODE, chosen=USUAL, now=NOW)]
    assert jobs[0].name.strip() in whole[1] and whole[1].endswith(jobs[0].waits_for.strip())


def test_columns_with_nothing_in_them_are_left_out() -> None:
    assert [line.plain for line in grid(["A", "B", "C"], [["1", "", "x"], ["22", "", "y"]], right={0})] == [
        " A  C",
        " 1  x",
        "22  y",
    ]


def test_an_epoch_is_a_line_with_losses_map_and_the_time_left() -> None:
    values = {
        "train/box_loss": 1.25,
        "train/cls_loss": 2.0,
        "metrics/mAP50(B)": 0.5,
        "lr/pg0": 0.01,
        "val/box_loss": 3.0,
    }
    done = EpochDone(at=NOW, job_id=1, attempt=1, epoch=3, values=values, seconds=2.0)
    assert epoch_line(job(1).model_copy(update={"epochs": 10}), done) == (
        "1 fruit-1: epoch 3/10  box 1.250  cls 2.000  mAP50 0.5000  2s, left 14s"
    )


def test_the_manual_names_what_jobs_can_be_sorted_by() -> None:
    assert f"| {', '.join(SORTS)}; -BY" in (ROOT / "docs" / "cli.md").read_text()
