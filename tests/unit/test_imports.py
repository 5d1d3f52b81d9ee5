"""What a package loads when it is imported, asked of a fresh interpreter."""

import json
import subprocess
import sys

import pytest

HEAVY = ["torch", "ultralytics", "mlflow", "cv2", "pandas"]


def loaded(statement: str) -> set[str]:
    """Names of the modules that are loaded after `statement`."""
    program = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "module",
    [
        "broker.daemon",
        "broker.assembly",
        "broker.admission.reading",
        "broker.__main__",
        "wyolo_tui.app",
        "wyolo_tui.__main__",
    ],
)
def test_the_broker_and_the_cockpit_start_without_torch(module: str) -> None:
    assert not loaded(f"import {module}") & set(HEAVY)


def test_the_broker_does_not_load_the_cockpit_or_the_trainer() -> None:
    seen = loaded("import broker.daemon, broker.assembly, broker.admission.reading")
    assert not {name for name in seen if name.split(".")[0] in {"wyolo_tui", "trainer", "dind", "textual"}}


def test_the_cockpit_knows_the_broker_only_by_its_protocol() -> None:
    seen = loaded("import wyolo_tui.app")
    ours = {name for name in seen if name.split(".")[0] in {"broker", "trainer", "dind"}}
    assert {name for name in ours if not name.startswith("broker.protocol")} <= {"broker"}


def test_the_command_line_does_not_load_the_cockpit() -> None:
    assert "textual" not in loaded("import wyolo_tui.__main__")
