"""Runs the real trainer as a process, as an engine does, and reads what it left."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from broker.protocol.job import Checkpoint
from broker.protocol.training import (
    CONFIG_NAME,
    EVENTS_NAME,
    RESULT_NAME,
    TRAINER_EVENT,
    Epoch,
    Note,
    Saved,
    TrainConfig,
    TrainerEvent,
    TrainerResult,
)
from tests.waiting import until_sync

E = TypeVar("E", bound=TrainerEvent)
PATIENCE_S = 150.0


class Attempt:
    """One process in its own session. Always ended by `close`, which the `attempts` fixture calls."""

    def __init__(
        self, directory: Path, fence: int, config: dict[str, Any], *, home: Path, gpus: str, program: Sequence[str]
    ) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        defaults: dict[str, Any] = {"job_id": 7, "fence": fence, "directory": str(directory), "model": "yolov8n.yaml"}
        self.config = TrainConfig.model_validate({"offline": True, **defaults, **config})
        path = directory / CONFIG_NAME
        path.write_text(self.config.model_dump_json(), encoding="utf-8")
        # No Ultralytics of this user, no proxy that would let a download through.
        env = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
        env |= {"HOME": str(home), "CUDA_VISIBLE_DEVICES": gpus, "https_proxy": "http://127.0.0.1:9"}
        self._log = (directory / "output.log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", *program, str(path)],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,
        )

    def wait(self) -> int:
        return self.process.wait(PATIENCE_S)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def until(self, probe: Callable[[list[TrainerEvent]], bool], what: str) -> None:
        """Until the events so far are as wanted. Fails at once when the process ends without that."""

        def seen() -> bool:
            ended = self.process.poll() is not None
            return probe(self.events()) or ended

        until_sync(seen, PATIENCE_S, what)
        assert probe(self.events()), f"it ended with {self.process.returncode} before {what}:\n{self.log()[-2000:]}"

    def events(self) -> list[TrainerEvent]:
        path = self.directory / EVENTS_NAME
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        return [TRAINER_EVENT.validate_json(line) for line in lines]

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events() if isinstance(event, kind)]

    def only(self, kind: type[E]) -> E:
        found = self.of(kind)
        assert len(found) == 1, found
        return found[0]

    def epochs(self) -> list[int]:
        return [event.epoch for event in self.of(Epoch)]

    def notes(self) -> str:
        return "\n".join(event.text for event in self.of(Note))

    def checkpoints(self) -> list[Checkpoint]:
        """Newest first, as a resume is given them."""
        return [event.checkpoint for event in reversed(self.of(Saved))]

    def result(self) -> TrainerResult:
        return TrainerResult.model_validate_json((self.directory / RESULT_NAME).read_bytes())

    def series(self) -> list[dict[str, str]]:
        """Rows of results.csv."""
        header, *rows = (self.directory / "run" / "results.csv").read_text(encoding="utf-8").splitlines()
        return [dict(zip(header.split(","), row.split(","), strict=True)) for row in rows]

    def log(self) -> str:
        return (self.directory / "output.log").read_text(encoding="utf-8", errors="replace")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(30)
        self._log.close()


class Attempts:
    """Starts attempts in one folder, with one small data set for each task."""

    def __init__(self, folder: Path, gpus: str = "") -> None:
        self.folder = folder
        self._gpus = gpus
        self._started: list[Attempt] = []

    def start(
        self,
        *,
        args: dict[str, Any] | None = None,
        directory: Path | None = None,
        program: Sequence[str] = ("trainer",),
        **config: Any,
    ) -> Attempt:
        """`program`: a module and its arguments, which runs the trainer."""
        fence = len(self._started) + 1
        small = {"epochs": 1, "imgsz": 32, "batch": 4, "plots": False}
        config = {**config, "args": {**small, **(args or {})}}
        where = directory or self.folder / str(fence)
        attempt = Attempt(where, fence, config, home=self.folder, gpus=self._gpus, program=program)
        self._started.append(attempt)
        return attempt

    def run(self, **config: Any) -> Attempt:
        attempt = self.start(**config)
        attempt.wait()
        return attempt

    def close(self) -> None:
        for attempt in self._started:
            attempt.close()
