"""Where a setting comes from, and that each is documented."""

import gc
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import pytest
from pydantic import ValidationError

from broker import daemon, settings
from broker.__main__ import main
from broker.protocol.mistakes import mistakes
from broker.setting_sources import misspelt
from broker.settings import NodeSettings, Settings, load, reference
from tests.running import broker_environment, run_broker

DOCUMENT = Path(__file__).parents[2] / "docs" / "settings.md"


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # pyright: ignore[reportUnusedFunction]
    """Without what is set on this machine."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"WYOLO_{name.upper()}", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_a_flag_goes_before_the_environment_before_the_file_before_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "wyolo.toml"
    file.write_text('port = 1\nhost = "127.0.0.2"\ngrace_s = 5\n')
    monkeypatch.setenv("WYOLO_PORT", "2")
    monkeypatch.setenv("WYOLO_HOST", "127.0.0.3")
    found = load(file, port=3, host=None)
    assert (found.port, found.host, found.grace_s, found.backoff_s) == (3, "127.0.0.3", 5, 15)


def test_the_file_in_the_home_directory_is_read_where_none_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "config" / "wyolo"
    folder.mkdir(parents=True)
    (folder / "wyolo.toml").write_text("port = 7\n")
    assert load(None).port == 7


def test_variables_of_the_command_line_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WYOLO_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("WYOLO_KEY", "secret")
    assert load(None).port == 23450


def test_nodes_and_path_maps_can_be_given_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WYOLO_NODES", '[{"name": "left", "slots": 2}]')
    monkeypatch.setenv("WYOLO_PATH_MAP", '{"/datasets": "/mnt/data"}')
    found = load(None)
    assert [(node.name, node.slots) for node in found.nodes] == [("left", 2)]
    assert found.path_map == {"/datasets": "/mnt/data"}


def test_sandboxes_are_nodes_unless_the_file_names_them_itself(tmp_path: Path) -> None:
    table = '[[nodes]]\nname = "dind_{}"\nengine = "docker"\nurl = "tcp://127.0.0.1:{}"\ntls = "/certs"\n'
    (tmp_path / "sandboxes.toml").write_text(table.format("api", 23403) + table.format("media", 23423))
    assert [node.name for node in load(None, data_dir=tmp_path).nodes] == ["local", "dind_api", "dind_media"]
    file = tmp_path / "wyolo.toml"
    file.write_text(table.format("api", 1))
    found = load(file, data_dir=tmp_path)
    assert [(node.name, node.url) for node in found.nodes] == [
        ("dind_api", "tcp://127.0.0.1:1"),
        ("dind_media", "tcp://127.0.0.1:23423"),
    ]
    file.write_text("nodes = []\n")
    assert [node.name for node in load(file, data_dir=tmp_path).nodes] == ["dind_api", "dind_media"]


def test_an_unknown_setting_is_refused_with_the_nearest_known_one(tmp_path: Path) -> None:
    file = tmp_path / "wyolo.toml"
    file.write_text('prot = 1\n[[nodes]]\nname = "a"\nslot = 2\n')
    with pytest.raises(ValidationError) as caught:
        load(file)
    said = {f.where: f.hint for f in mistakes(caught.value.errors(), Settings, NodeSettings)}
    assert said == {"prot": "did you mean `port`?", "nodes.0.slot": "did you mean `slots`?"}


def test_a_relative_data_directory_does_not_depend_on_where_the_broker_is_later(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(None, data_dir=Path("state")).data_dir == tmp_path / "state"


def test_redis_passwords_are_not_shown() -> None:
    assert "hunter2" not in repr(load(None, redis_url="redis://:hunter2@127.0.0.1/0"))


def test_every_setting_is_described() -> None:
    for model in (Settings, NodeSettings):
        assert all(field.description for field in model.model_fields.values())


def test_the_reference_page_is_what_the_model_says() -> None:
    assert DOCUMENT.read_text() == reference(), "run: python -m broker.settings > docs/settings.md"


def start(*flags: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """As `run_broker` in this interpreter, for starts that end before there is a daemon."""
    said, told = StringIO(), StringIO()
    with (
        patch.dict(os.environ, broker_environment(**(env or {})), clear=True),
        patch.object(sys, "argv", ["wyolo broker", *flags]),
        patch.object(daemon, "main", side_effect=AssertionError("the daemon was started")),
        redirect_stdout(said),
        redirect_stderr(told),
        pytest.raises(SystemExit) as end,
    ):
        main()
    gc.enable()  # a broker has it off until it answers
    assert isinstance(end.value.code, int)
    return subprocess.CompletedProcess(flags, end.value.code, said.getvalue(), told.getvalue())


def test_help_names_every_setting_and_its_variable() -> None:
    shown = start("--help")
    assert shown.returncode == 0
    for setting in settings.described():
        assert setting.env in shown.stdout
        assert setting.description.split()[0] in shown.stdout


NODE = '[[nodes]]\nname = "a"\n'


@pytest.mark.parametrize(
    ("text", "env", "flags", "said"),
    [
        ("port = \n", {}, [], "{file} cannot be read: "),
        ("# caf\xe9\n", {}, [], "{file} cannot be read: not UTF-8 text (byte 6)"),
        ('port = "many"\n', {}, [], "{file}: port: given 'many' (text), expected a valid integer"),
        (NODE + NODE, {}, [], "{file}: nodes: 2 nodes are called `a`"),
        (NODE + "slots = -1\n", {}, [], "{file}: nodes.0.slots: given -1"),
        ("", {"WYOLO_PORT": "many"}, [], "WYOLO_PORT: port: given 'many' (text), expected a valid integer"),
        ("port = 1\n", {"WYOLO_PATH_MAP": "{bad"}, [], "WYOLO_PATH_MAP: is not JSON: "),
        ("", {"WYOLO_NODES": '[{"name": "a", "slots": "x"}]'}, [], "WYOLO_NODES: nodes.0.slots: given 'x' (text)"),
        ("", {"WYOLO_PORT": "1"}, ["--port", "99999"], "--port: port: given 99999"),
    ],
)
def test_wrong_settings_end_the_start_with_a_line_that_says_whose_they_are_and_exit_code_2(
    tmp_path: Path, text: str, env: dict[str, str], flags: list[str], said: str
) -> None:
    file = tmp_path / "wyolo.toml"
    file.write_text(text, encoding="latin-1")
    shown = start("--config", str(file), "--data-dir", str(tmp_path / "data"), *flags, env=env)
    assert shown.returncode == 2
    assert f"wyolo broker: {said.format(file=file)}" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_a_secret_is_not_repeated_when_it_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "wyolo.toml"
    file.write_text("redis_url = ['redis://:hunter2@127.0.0.1']\n")
    shown = start("--config", str(file))
    assert shown.returncode == 2 and "redis_url" in shown.stderr
    assert "hunter2" not in shown.stderr


def test_a_misspelt_variable_looks_like_a_setting() -> None:
    assert list(misspelt(["WYOLO_PREFLITE", "WYOLO_NODSE__0__SLOTS", "WYOLO_FOO", "PATH"], Settings.model_fields)) == [
        ("WYOLO_PREFLITE", "WYOLO_PREFLIGHT"),
        ("WYOLO_NODSE__0__SLOTS", "WYOLO_NODES"),
    ]


def test_a_start_tells_of_a_misspelt_variable_and_ends_at_what_only_the_client_of_redis_finds_wrong(
    tmp_path: Path,
) -> None:
    flags = ("--redis-url", "foo", "--port", "0", "--data-dir", str(tmp_path))
    shown = run_broker(*flags, env={"WYOLO_PREFLITE": "false"})
    assert shown.returncode == 2
    assert "WYOLO_PREFLITE is no setting, and nobody reads it: did you mean WYOLO_PREFLIGHT?" in shown.stderr
    assert "wyolo broker: redis_url: that url does not name a Redis" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_variables_of_other_parts_are_not_taken_for_misspelt_settings() -> None:
    root = Path(__file__).parents[2]
    texts = [
        path.read_text(errors="replace")
        for folder in ("broker", "wyolo_tui", "trainer", "dind")
        for path in (root / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    named = {name for text in texts for name in re.findall(r"\bWYOLO_[A-Z_]+\b", text)}
    assert {"WYOLO_URL", "WYOLO_CRASH_AT", "WYOLO_SETS"} < named
    assert list(misspelt(named, Settings.model_fields)) == []
