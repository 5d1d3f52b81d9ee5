"""`python -m tests.train.told MOMENT train.json`: the real trainer, told to stop at an exact moment of its training, or
broken there.

A stop is a real signal. Where a copy of a checkpoint is what it meets, the copy goes on once the trainer
waits for it: what it would lose there it loses every time.
"""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainer import durable, stop
from trainer.__main__ import leave, main
from trainer.callbacks import Watch

_MARK = "told"  # in the attempt's directory: it was told to stop


def tell() -> None:
    (Path(sys.argv[1]).parent / _MARK).touch()
    os.kill(os.getpid(), signal.SIGTERM)


def told_at(directory: Path) -> float:
    """By the clock of the file system."""
    return (directory / _MARK).stat().st_mtime


def in_validation(training: bool) -> None:
    """Of the second epoch, or (not `training`) the final one."""
    hook = Watch.on_val_batch_end

    def on_val_batch_end(self: Watch, validator: Any) -> None:
        if validator.training is training and self.epoch >= 1:
            tell()
        hook(self, validator)

    Watch.on_val_batch_end = on_val_batch_end


def in_copy(epoch: int, met: str = "") -> None:
    """While that epoch's checkpoint is copied; with `met`, once the main thread waits for it there. And again later, as
    by a broker that was started again."""
    keep = durable.keep

    def slow(source: Path, target: Path) -> str:
        if f"epoch-{epoch:04d}" in target.name:
            if met:
                _until_main_waits_in(met)
            tell()
            _until_main_waits_in("stopped")
            tell()
        return keep(source, target)

    durable.keep = slow


def broken_in_copy() -> None:
    """The second epoch breaks while the first one's checkpoint is copied."""
    keep, hook, copied = durable.keep, Watch.on_train_batch_start, threading.Event()

    def slow(source: Path, target: Path) -> str:
        copied.set()
        _until_main_waits_in("settle")
        return keep(source, target)

    def on_train_batch_start(self: Watch, _trainer: Any) -> None:
        hook(self, _trainer)
        if self.epoch == 1:
            copied.wait()
            raise RuntimeError(BROKEN)

    durable.keep, Watch.on_train_batch_start = slow, on_train_batch_start


def _until_main_waits_in(function: str) -> None:
    main_thread = threading.main_thread().ident
    assert main_thread is not None
    while True:
        stack = [frame.f_code.co_name for frame, _ in traceback.walk_stack(sys._current_frames()[main_thread])]  # pyright: ignore[reportPrivateUsage]
        if stack[0] == "wait" and function in stack:
            return
        time.sleep(0.01)


MOMENTS: dict[str, Callable[[], None]] = {
    "in the validation of an epoch": lambda: in_validation(True),
    "in the final validation": lambda: in_validation(False),
    "while a checkpoint is copied": lambda: in_copy(2),
    "while the next epoch waits for a copy": lambda: in_copy(1, "save_model"),
}
BROKEN = "something broke"

if __name__ == "__main__":
    {**MOMENTS, BROKEN: broken_in_copy}[sys.argv.pop(1)]()
    stop.ECHO_S = -1.0  # a signal is never the echo of another
    leave(main())
