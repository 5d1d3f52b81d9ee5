"""`wyolo-train` and TrainerWrapper: a training in the foreground, without a broker."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from broker.protocol.states import EndReason
from broker.protocol.training import EXIT_OK, TrainerResult
from trainer.wrapper import EXIT_BAD_INPUT
from wyolo_tui import shapes

pytestmark = pytest.mark.train

CONFIG = """
model: yolov8n.yaml
type: detect
task_id: old-task
mlflow: {{uri: "http://127.0.0.1:1", experiment_name: x}}
train: {{data: {data}, epochs: 1, imgsz: 32, batch: 4, plots: false, device: cpu}}
"""
SCRIPT = """
from trainer.wrapper import TrainerWrapper
import yaml
config = yaml.safe_load(open("config.yaml"))
trainer = TrainerWrapper(config)
trainer.create_model(config["model"], config["type"])
config["train"]["batch"] = trainer.get_better_batch(batch_to_use=0.5)
print("values", sorted(trainer.train(config["train"])))
print("directory", trainer.directory)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wrapper")
    data = shapes.make(folder / "shapes", "detect", images=4, val=2, size=32)
    (folder / "config.yaml").write_text(CONFIG.format(data=data.relative_to(folder)), encoding="utf-8")
    return folder


def here(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "CUDA_VISIBLE_DEVICES": "", "YOLO_OFFLINE": "1"}
    root = str(Path(__file__).parents[2])
    return subprocess.run(
        [sys.executable, *argv],
        cwd=folder,
        env={**env, "PYTHONPATH": root},
        check=False,
        capture_output=True,
        text=True,
        timeout=150,
    )


def test_the_command_trains_an_older_configuration_and_prints_the_fitness(folder: Path) -> None:
    argv = ("--config_path", "config.yaml", "--trial_number", "3", "--fitness", "metrics/mAP50(B)")
    done = here(folder, "-m", "trainer.wrapper", *argv)
    assert done.returncode == EXIT_OK, done.stderr
    assert "metrics/mAP50(B): " in done.stdout.splitlines()[-1]
    assert "\x1e" not in done.stdout
    assert "mlflow" in done.stderr
    directory = folder / "runs" / "wyolo" / "yolov8n-trial-3-1"
    result = TrainerResult.model_validate_json((directory / "result.json").read_bytes())
    assert (result.ok, result.reason, result.epoch) == (True, EndReason.COMPLETED, 1)
    assert (directory / "run" / "weights" / "best.pt").is_file()


def test_a_script_for_older_wyolo_still_trains(folder: Path) -> None:
    done = here(folder, "-c", SCRIPT)
    assert done.returncode == EXIT_OK, done.stderr
    assert "metrics/mAP50-95(B)" in done.stdout
    assert f"directory {folder / 'runs' / 'wyolo' / 'yolov8n-1'}" in done.stdout


def test_what_is_wrong_in_the_file_is_said_before_anything_is_loaded(folder: Path) -> None:
    (folder / "wrong.yaml").write_text("model: yolov8n.yaml\ntrain: {data: shapes, epocs: 3}\n", encoding="utf-8")
    done = here(folder, "-m", "trainer.wrapper", "--config_path", "wrong.yaml")
    assert done.returncode == EXIT_BAD_INPUT
    assert "epochs" in done.stderr
