"""What a package loads when it is imported, asked of a fresh interpreter."""

import json
import subprocess
import sys

import pytest

HEAVY = {"torch", "ultralytics", "mlflow", "cv2", "pandas"}


def loaded(statement: str) -> set[str]:
    """Names of the modules that are loaded after `statement`."""
    program = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def broker() -> set[str]:
    return loaded("import broker.daemon, broker.assembly, broker.admission.reading, broker.__main__")


@pytest.fixture(scope="module")
def cockpit() -> set[str]:
    return loaded("import wyolo_tui.app")


@pytest.fixture(scope="module")
def command_line() -> set[str]:
    return loaded("import wyolo_tui.__main__")


def test_nothing_but_the_trainer_starts_with_torch(broker: set[str], cockpit: set[str], command_line: set[str]) -> None:
    assert not (broker | cockpit | command_line) & HEAVY


def test_the_broker_does_not_load_the_cockpit_or_the_trainer(broker: set[str]) -> None:
    assert not {name for name in broker if name.split(".")[0] in {"wyolo_tui", "trainer", "dind", "textual"}}


def test_the_cockpit_knows_the_broker_only_by_its_protocol(cockpit: set[str]) -> None:
    ours = {name for name in cockpit if name.split(".")[0] in {"broker", "trainer", "dind"}}
    assert {name for name in ours if not name.startswith("broker.protocol")} <= {"broker"}


def test_the_first_frame_waits_neither_for_the_models_nor_for_the_http_library(cockpit: set[str]) -> None:
    assert not cockpit & {"pydantic", "httpx", "numpy", "textual_plot"}


def test_the_command_line_does_not_load_the_cockpit(command_line: set[str]) -> None:
    assert "textual" not in command_line
