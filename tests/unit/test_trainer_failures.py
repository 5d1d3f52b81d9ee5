"""What was raised, and what a person is told."""

import errno

import pytest

from broker.protocol.states import EndReason
from trainer.failures import TRACEBACK_CHARACTERS, TrainingError, classify

KEPT = "The checkpoint of epoch 7 is kept."


@pytest.mark.parametrize(
    ("error", "reason", "remedy"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), EndReason.DISK_FULL, "Free space"),
        (RuntimeError("PytorchStreamWriter failed: No space left on device"), EndReason.DISK_FULL, "Free space"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), EndReason.OOM_CUDA, "train.batch"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), EndReason.OOM_CUDA, "train.batch"),
        (MemoryError(), EndReason.OOM_HOST, "train.batch"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried"), EndReason.OOM_HOST, "batch"),
        (RuntimeError("DataLoader worker (pid 41) is killed by signal: Killed. "), EndReason.OOM_HOST, "train.workers"),
        (
            RuntimeError("DataLoader worker (pid 41) is killed by signal: Bus error. It is possible that ..."),
            EndReason.SHM,
            "--shm-size",
        ),
        (RuntimeError("unable to open shared memory object </torch_1> in read-write mode"), EndReason.SHM, "shm"),
        (RuntimeError("Training failed: NaN persisted for 4 epochs"), EndReason.NAN, "train.lr0"),
        (ValueError("matrix contains invalid numeric entries"), EndReason.NAN, "train.amp"),
        (SyntaxError("'epochz' is not a valid YOLO argument."), EndReason.BAD_CONFIG, "configuration"),
        (TypeError("'lr0=fast' is of invalid type str."), EndReason.BAD_CONFIG, "configuration"),
        (ValueError("Invalid CUDA 'device=7' requested."), EndReason.BAD_CONFIG, "configuration"),
        (RuntimeError("Dataset '/data/x.yaml' error ❌ images not found"), EndReason.BAD_DATA, "data set"),
        (FileNotFoundError("train: No images found in /data/x"), EndReason.BAD_DATA, "data set"),
        (ConnectionError("Download failed. Environment is offline."), EndReason.WEIGHTS_MISSING, "weights folder"),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), EndReason.INTERRUPTED, "nvidia-smi"),
        (ZeroDivisionError("division by zero"), EndReason.EXIT_CODE, "traceback"),
    ],
)
def test_the_reason_and_what_to_do_next(error: Exception, reason: EndReason, remedy: str) -> None:
    failure = classify(error, KEPT)
    assert failure.reason is reason
    assert remedy in failure.message
    assert KEPT in failure.message


def test_the_cause_counts_and_not_only_what_was_raised_last() -> None:
    outer = RuntimeError("Dataset 'x' error")
    outer.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert classify(outer, KEPT).reason is EndReason.DISK_FULL


def test_our_own_errors_carry_their_reason() -> None:
    error = TrainingError(EndReason.BAD_DATA, "data set /x: no data.yaml", "correct train.data and rerun")
    failure = classify(error, KEPT)
    assert failure.reason is EndReason.BAD_DATA
    assert failure.message == f"Data set /x: no data.yaml. {KEPT} Correct train.data and rerun."
    assert failure.traceback == ""


def test_a_message_is_one_short_line_without_colours() -> None:
    error = RuntimeError("\n\x1b[31mCUDA out of memory\x1b[0m" + "x" * 1000 + "\nsecond line")
    message = classify(error, KEPT).message
    assert "\x1b" not in message
    assert "second line" not in message
    assert len(message) < 700


def test_a_traceback_is_bounded_and_keeps_its_end() -> None:
    failure = classify(ValueError("y" * 100_000 + "the end"), KEPT)
    assert len(failure.traceback) <= TRACEBACK_CHARACTERS
    assert "the end" in failure.traceback
