"""What a trainer does on a real GPU. Skipped, with the reason, where there is none."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.protocol.states import EndReason
from broker.protocol.training import EXIT_FAILED, EXIT_OK, Epoch, Failed, GpuReading, Started
from tests.train.attempts import Attempt, Attempts
from trainer.gpu import Nvml
from wyolo_tui import shapes

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module", autouse=True)
def gpu() -> None:
    if not len(Nvml()):
        pytest.skip("no NVIDIA GPU is visible here (NVML)")


@pytest.fixture(scope="module")
def attempts(tmp_path_factory: pytest.TempPathFactory, gpu: None) -> Iterator[Attempts]:
    started = Attempts(tmp_path_factory.mktemp("attempts"), gpus="0")
    yield started
    started.close()


@pytest.fixture(scope="module")
def data(attempts: Attempts) -> Path:
    return shapes.make(attempts.folder / "shapes", "detect", images=64, val=8, size=160)


@pytest.fixture(scope="module")
def trained(attempts: Attempts, data: Path) -> Attempt:
    """With the batch left to the GPU, and half of its memory to use."""
    args = {"data": str(data), "epochs": 2, "imgsz": 160, "batch": -1, "workers": 2}
    attempt = attempts.run(args=args, gpu_memory_fraction=0.5)
    assert attempt.process.returncode == EXIT_OK, attempt.log()
    return attempt


def test_it_trains_on_the_gpu_and_resolves_the_batch(trained: Attempt) -> None:
    started = trained.only(Started)
    assert started.device.startswith("cuda")
    assert started.versions["gpu"]
    assert started.batch >= 1


def test_an_epoch_says_how_much_gpu_memory_it_took(trained: Attempt) -> None:
    total = Nvml().read()[0].memory_total_mib
    for epoch in trained.of(Epoch):
        assert 0 < epoch.memory_mib <= total / 2


def test_the_gpu_is_sampled_while_it_trains(trained: Attempt) -> None:
    readings = trained.of(GpuReading)
    assert readings
    assert {"uuid", "memory_used_mib", "utilisation", "power_w"} <= readings[0].gpus[0].keys()


def test_a_later_attempt_keeps_the_batch(attempts: Attempts, data: Path, trained: Attempt) -> None:
    batch = trained.only(Started).batch
    attempt = attempts.run(args={"data": str(data), "imgsz": 160, "batch": -1, "workers": 2}, batch=batch)
    assert attempt.only(Started).batch == batch
    assert "as in the attempt before" in attempt.notes()


def test_a_stopped_training_resumes_on_the_gpu(attempts: Attempts, data: Path, trained: Attempt) -> None:
    args = {"data": str(data), "epochs": 2, "imgsz": 160, "batch": -1, "workers": 2}
    attempt = attempts.run(args=args, resume=trained.checkpoints(), epochs=3)
    assert attempt.process.returncode == EXIT_OK, attempt.log()
    assert attempt.epochs() == [3]


def test_a_batch_that_does_not_fit_is_halved_and_then_given_up(attempts: Attempts, data: Path) -> None:
    total = Nvml().read()[0].memory_total_mib
    args = {"data": str(data), "imgsz": 640, "batch": 64, "workers": 2}
    attempt = attempts.run(args=args, gpu_memory_fraction=600 / total)
    assert attempt.process.returncode == EXIT_FAILED, attempt.log()
    assert attempt.only(Failed).reason is EndReason.OOM_CUDA
    assert "did not suffice for batch 64: going on with 32" in attempt.notes()
    assert "train.batch" in attempt.result().message
