"""The jobs of the fault tests, a program of its own that needs nothing of ours: it keeps a diary that no broker writes.

    python -ES program.py lines DIARY COUNT [PAUSE_S [GATE]]   numbered lines, then waits for the file GATE, if named
    python -ES program.py train PLAN CONFIG                    a trainer, as broker/protocol/training.py wants one

Started in a container, which may write in its own directory alone, it keeps its diary there: PLAN names no folder.

A diary has a line for each instant: what, fence, monotonic nanoseconds, pid, number. Its lock is held while the program
lives, so that a second one beside it is seen by the kernel.
"""

import datetime
import fcntl
import hashlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any


class Diary:
    def __init__(self, path: str, fence: int = 0) -> None:
        self.fence = fence or int(os.environ["WYOLO_ATTEMPT"].rpartition("/")[2])
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.note("overlap")
        self.note("start")

    def note(self, what: str, number: int = 0) -> None:
        line = f"{what} {self.fence} {time.monotonic_ns()} {os.getpid()} {number}\n"
        os.write(self._file, line.encode())


def lines(path: str, count: str, pause_s: str = "0", gate: str = "") -> None:
    diary = Diary(path)
    for number in range(1, int(count) + 1):
        print(f"{diary.fence}:{number}", flush=True)
        diary.note("said", number)
        time.sleep(float(pause_s))
    while gate and not Path(gate).exists():
        time.sleep(0.01)
    diary.note("end")


class Trainer:
    """PLAN is JSON: `folder` (for the diaries, named after the job), `pause_s` for each epoch, and lists of epochs:
    `gates` (waits for `<job>.go.<epoch>` before it), `slow` (waits for `<job>.written.<epoch>` amid its checkpoint).
    `deaf`: no SIGTERM is heard. `bytes`: written to stdout after the first event, in hexadecimal."""

    def __init__(self, plan: str, config: str) -> None:
        self._plan: dict[str, Any] = json.loads(Path(plan).read_text())
        self._config: dict[str, Any] = json.loads(Path(config).read_text())
        self._here = Path(self._config["directory"])
        self._name = f"{self._plan.get('folder', self._here)}/{self._config['job_id']}"
        self._n = 0
        self._stopping = False
        self._diary = Diary(f"{self._name}.diary", self._config["fence"])

    def run(self) -> None:
        if "WYOLO_LEASE" in os.environ:
            self._fence_itself(Path(os.environ["WYOLO_LEASE"]), float(os.environ["WYOLO_LEASE_S"]))
        signal.signal(signal.SIGTERM, signal.SIG_IGN if self._plan.get("deaf") else self._stop)
        epochs: int = self._config["epochs"] or self._config["args"]["epochs"]
        first = self._last_good() + 1
        self._emit(
            "started", versions={}, device="cpu", task="detect", batch=16, imgsz=64, epochs=epochs, first_epoch=first,
            train_images=1, val_images=1, classes=1, parameters=1, save_dir=str(self._here), fitness_name="mAP50",
        )  # fmt: skip
        self._diary.note("first", first)
        sys.stdout.buffer.write(bytes.fromhex(self._plan.get("bytes", "")))
        for epoch in range(first, epochs + 1):
            if epoch in self._plan.get("gates", ()):
                self._wait_for(f"{self._name}.go.{epoch}")
            if not self._stopping:
                self._train(epoch, epochs)
            if self._stopping:
                self._leave(False, "user_stop", 75)
        self._emit("finished", values={"mAP50": 0.9}, seconds=1.0)
        self._leave(True, "completed", 0)

    def _train(self, epoch: int, epochs: int) -> None:
        time.sleep(self._plan.get("pause_s", 0.0))
        print(f"epoch {epoch}", flush=True)
        checkpoint = self._save(epoch)
        self._emit("epoch", epoch=epoch, epochs=epochs, values={"loss": 1 / epoch}, fitness=epoch / 100, seconds=0.01)
        self._emit("checkpoint", checkpoint=checkpoint)
        self._diary.note("epoch", epoch)

    def _save(self, epoch: int) -> dict[str, Any]:
        path, part = self._here / f"{epoch}.pt", self._here / f"{epoch}.part"
        content = f"weights after epoch {epoch} of attempt {self._diary.fence}".encode() * 100
        with part.open("wb") as file:
            file.write(content[:100])
            file.flush()
            if epoch in self._plan.get("slow", ()):
                self._diary.note("writing", epoch)
                while not Path(f"{self._name}.written.{epoch}").exists():
                    time.sleep(0.01)
            file.write(content[100:])
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sha256 = hashlib.sha256(content).hexdigest()
        return {"path": str(path), "epoch": epoch, "sha256": sha256, "attempt": self._diary.fence, "at": utc()}

    def _last_good(self) -> int:
        for kept in self._config["resume"]:
            if hashlib.sha256(Path(kept["path"]).read_bytes()).hexdigest() == kept["sha256"]:
                return kept["epoch"]
            self._emit("note", text=f"the checkpoint of epoch {kept['epoch']} is damaged")
        return 0

    def _fence_itself(self, lease: Path, seconds: float) -> None:
        """Begins when the broker has been heard of, and leaves when it was not for two thirds of the lease."""
        known, heard_at = lease.read_text(), time.monotonic()
        heard = threading.Event()

        def watch() -> None:
            nonlocal known, heard_at
            while True:
                said = lease.read_text()
                if said != known:
                    known, heard_at = said, time.monotonic()
                    heard.set()
                if said.startswith("over") or time.monotonic() - heard_at > seconds * 2 / 3:
                    os._exit(75)
                time.sleep(seconds / 20)

        threading.Thread(target=watch, daemon=True).start()
        heard.wait()

    def _wait_for(self, path: str) -> None:
        while not Path(path).exists() and not self._stopping:
            time.sleep(0.01)

    def _emit(self, event: str, **fields: Any) -> None:
        self._n += 1
        line = json.dumps({"n": self._n, "at": utc(), "event": event, **fields})
        with (self._here / "events.jsonl").open("a") as file:
            file.write(line + "\n")
        print("\x1e" + line, flush=True)

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _leave(self, ok: bool, reason: str, code: int) -> None:
        result = {"fence": self._diary.fence, "ok": ok, "reason": reason, "events": self._n}
        (self._here / "result.json").write_text(json.dumps(result))
        self._diary.note("end")
        sys.exit(code)


def utc() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat()


if __name__ == "__main__":
    if sys.argv[1] == "lines":
        lines(*sys.argv[2:])
    else:
        Trainer(*sys.argv[2:]).run()
