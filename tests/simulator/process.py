"""An attempt as it really is: a trainer or a command that lives, speaks, obeys or not, and ends, whoever watches."""

import json
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from broker.engines.base import Exit, Launch
from broker.protocol.states import EndReason
from broker.protocol.training import (
    CONFIG_NAME,
    EVENTS_NAME,
    EXIT_STOPPED,
    LEASE_ENV,
    LEASE_S_ENV,
    RESULT_NAME,
    TrainConfig,
)
from tests.simulator.fence import Fence
from tests.simulator.loop import Bell, VirtualLoop

Fate = Literal["complete", "fail", "die", "killed", "oom", "no result"]
_FATES: tuple[Fate, ...] = ("complete",) * 8 + ("fail", "die", "die", "killed", "oom", "no result")


@dataclass(slots=True)
class Mood:
    """How all processes behave. `calm`: they go to their good end at once."""

    calm: bool = False
    paused: bool = False  # they do nothing by themselves
    silence: float = 0.1  # how likely an event is not seen in the log
    deafness: float = 0.15  # how likely a process ignores SIGTERM
    epoch_s: float = 4.0


class Process:
    def __init__(
        self, loop: VirtualLoop, launch: Launch, mood: Mood, damaged: set[str], witness: Callable[["Process"], None]
    ) -> None:
        """`damaged`: checkpoints that cannot be gone on from. `witness` is shown it when it begins to do something: one
        that fences itself has heard of its broker by then."""
        self._loop = loop
        self._mood = mood
        config = launch.directory / CONFIG_NAME
        self.config = TrainConfig.model_validate_json(config.read_bytes()) if config.exists() else None
        self.ref = launch.ref
        self.launch = launch
        self.exit: Exit | None = None
        self.succeeded = False  # as its work is meant
        self.output = bytearray()
        self.said = 0  # events
        self.values: dict[int, float] = {}  # of each epoch that it finished
        self.bell = Bell(loop)
        self.files: dict[str, bytes] = {}
        self._directory = str(launch.directory)
        self._begun = False
        self._told_to_stop = False
        self._left_by_itself = False
        self._witness = witness
        self._fence: Fence | None = None
        self._may_work = LEASE_ENV not in launch.env
        self._fate: Fate = loop.random.choice(_FATES)
        self._deaf = loop.random.random() < mood.deafness
        if self.config is None:
            self._left = loop.random.randint(0, 3)
            self._first = 1
        else:
            good = [each.epoch for each in self.config.resume if each.path not in damaged]
            self._epochs = self.config.epochs or self.config.args["epochs"]
            self._first = (good[0] if good else 0) + 1
            self._left = max(0, self._epochs - self._first + 1)
        self._doomed_at = loop.random.randint(0, self._left)  # steps left when its fate comes
        self.epoch = self._first - 1
        self._loop.call_later(self._pause(), self._live)

    def start(self) -> None:
        if self._may_work:
            return self._witness(self)
        env = self.launch.env
        self._fence = Fence(
            self._loop, Path(env[LEASE_ENV]), float(env[LEASE_S_ENV]),
            granted=self._granted, leave=self._is_cut_off, end=self._is_alarmed,
        )  # fmt: skip

    @property
    def alive(self) -> bool:
        return self.exit is None

    @property
    def working(self) -> bool:
        """It does something: what only waits for a word of its broker does not."""
        return self.alive and self._may_work

    @property
    def fenced(self) -> bool:
        return self._fence is not None

    # --- what it does by itself ---

    def _pause(self) -> float:
        return self._loop.random.random() * (0.3 if self._mood.calm else self._mood.epoch_s)

    def _live(self) -> None:
        if not self.alive:
            return
        if self._mood.paused or not self._may_work:
            pass
        elif not self._begun:
            self._begin()
        elif self._fate != "complete" and not self._mood.calm and self._left <= self._doomed_at:
            return self.meet(self._fate)
        elif self._left:
            self.work()
        else:
            return self.meet("complete")
        self._loop.call_later(self._pause(), self._live)

    def _begin(self) -> None:
        self._begun = True
        self._log("hello")
        if self.config is not None:
            self._say(
                "started", versions={}, device="cpu", task="detect", batch=16, imgsz=64, epochs=self._epochs,
                first_epoch=self._first, train_images=1, val_images=1, classes=1, parameters=1,
                save_dir=self._directory, fitness_name="mAP50",
            )  # fmt: skip

    def work(self) -> None:
        """One more epoch, or line."""
        if not self.alive or not self._begun or not self._left:
            return
        self._left -= 1
        if self.config is None:
            return self._log(f"{self._left} to go")
        self.epoch += 1
        value = self.values[self.epoch] = self.ref.fence + self.epoch / 1000
        path = f"{self._directory}/{self.epoch}.pt"
        kept = {"path": path, "epoch": self.epoch, "sha256": "0", "attempt": self.ref.fence, "at": self._now()}
        self._say("checkpoint", checkpoint=kept)
        self._say("epoch", epoch=self.epoch, epochs=self._epochs, values={"loss": value}, fitness=value, seconds=1.0)
        self._log(f"epoch {self.epoch}")

    def meet(self, fate: Fate) -> None:
        if not self.alive or (not self._may_work and fate in {"complete", "fail", "no result"}):
            return
        match fate:
            case "complete":
                if not self._begun:
                    self._begin()
                while self._left:
                    self.work()
                if self.config is not None:
                    self._say("finished", values={"loss": 0.0}, seconds=1.0)
                    self._result(EndReason.COMPLETED)
                self.succeeded = True
                self._end(Exit(0))
            case "no result":
                self.succeeded = self.config is None
                self._end(Exit(0))
            case "fail":
                if self.config is not None:
                    self._say("failed", reason=EndReason.OOM_CUDA.value, message="it does not fit")
                    self._result(EndReason.OOM_CUDA)
                self._end(Exit(1))
            case "die":
                self._end(Exit(None))
            case "killed":
                self._end(Exit(137))
            case "oom":
                self._end(Exit(137, oom_killed=True))

    # --- what is done to it ---

    def terminate(self) -> None:
        """SIGTERM."""
        if self.alive and not self._told_to_stop and not self._deaf:
            self._told_to_stop = True
            self._loop.call_later(self._pause() / 2, self._leave)

    def kill(self) -> None:
        if self.alive:
            self._end(Exit(137))

    def _granted(self) -> None:
        self._may_work = True
        self._witness(self)

    def _is_cut_off(self) -> None:
        """Nothing is heard of its broker, or that it was given up. One that hangs does not hear this either."""
        if not self._told_to_stop and not self._deaf:
            self._left_by_itself = True
            self.terminate()

    def _is_alarmed(self) -> None:
        """By the kernel: its lease is over."""
        self._end(Exit(128 + signal.SIGALRM))

    def _leave(self) -> None:
        if not self.alive:
            return
        if self.config is None:
            return self._end(Exit(143))
        self._result(EndReason.INTERRUPTED if self._left_by_itself else EndReason.USER_STOP)
        self._end(Exit(EXIT_STOPPED))

    # --- how it speaks ---

    def _now(self) -> str:
        return self._loop.utc().isoformat()

    def _say(self, event: str, **fields: Any) -> None:
        self.said += 1
        line = json.dumps({"n": self.said, "at": self._now(), "event": event, **fields}).encode()
        self._write(EVENTS_NAME, self.files.get(EVENTS_NAME, b"") + line + b"\n")
        if self._loop.random.random() >= self._mood.silence:
            self.output += b"\x1e" + line + b"\n"
            self.bell.ring()

    def _log(self, text: str) -> None:
        self.output += text.encode() + b"\n"
        self.bell.ring()

    def _result(self, reason: EndReason) -> None:
        ok = reason is EndReason.COMPLETED
        said = {"fence": self.ref.fence, "ok": ok, "reason": reason, "epoch": self.epoch, "events": self.said}
        self._write(RESULT_NAME, json.dumps(said).encode())

    def _write(self, name: str, content: bytes) -> None:
        """Its node has it; where trainings fence themselves, the broker sees it too."""
        self.files[name] = content
        if self.fenced:
            with suppress(OSError):  # its job was removed
                (self.launch.directory / name).write_bytes(content)

    def _end(self, exit: Exit) -> None:
        self.exit = exit
        if self._fence is not None:
            self._fence.lift()
        self.bell.ring()
