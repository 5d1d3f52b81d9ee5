"""A stop leaves in good order, however often it is said, and never in the middle of what must be whole."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import until_sync
from trainer.stop import EXIT_AT_ONCE, Stop, Stopped

PROGRAM = """
import os, signal, sys
from trainer import stop
stop.ECHO_S = {echo}
stopper = stop.Stop()
stopper.listen()
try:
    with stopper.held():
        os.kill(os.getpid(), signal.SIGTERM)
        print("whole", flush=True)
        {again}
    print("not reached", flush=True)
except stop.Stopped:
    print("stopped", flush=True)
    sys.exit(75)
"""


def run(echo: float, again: str) -> tuple[int, list[str]]:
    program = PROGRAM.format(echo=echo, again=again)
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout.split()


def test_a_stop_waits_for_what_is_being_written() -> None:
    assert run(echo=1.0, again="pass") == (75, ["whole", "stopped"])


def test_a_stop_that_is_said_again_later_still_waits_for_what_is_being_written() -> None:
    """A broker that was started again repeats it."""
    again = "os.kill(os.getpid(), signal.SIGTERM); print('still', flush=True)"
    assert run(echo=-1.0, again=again) == (75, ["whole", "still", "stopped"])


@pytest.mark.parametrize(
    ("after", "left"), [("SIGTERM", (75, ["whole", "still", "stopped"])), ("SIGINT", (EXIT_AT_ONCE, ["whole"]))]
)
def test_who_presses_ctrl_c_twice_waits_for_nothing(after: str, left: tuple[int, list[str]]) -> None:
    again = f"os.kill(os.getpid(), signal.SIGINT); os.kill(os.getpid(), signal.{after}); print('still', flush=True)"
    assert run(echo=-1.0, again=again) == left


def test_the_same_wish_said_twice_at_once_is_one() -> None:
    """A Ctrl-C goes to the group, and who started the process passes it on."""
    again = "os.kill(os.getpid(), signal.SIGINT); os.kill(os.getpid(), signal.SIGINT)"
    assert run(echo=10.0, again=again) == (75, ["whole", "stopped"])


def test_a_forked_loader_does_not_decide_for_its_parent() -> None:
    child = "(os.kill(os.getpid(), signal.SIGTERM), os._exit(3))"
    again = f"pid = os.fork(); {child} if pid == 0 else print(os.waitpid(pid, 0)[1] >> 8, flush=True)"
    assert run(echo=-1.0, again=again) == (75, ["whole", "3", "stopped"])


def test_held_until_released() -> None:
    stop = Stop()
    stop.check()
    stop.hold()
    stop.requested = True
    stop.check()
    with pytest.raises(Stopped):
        stop.release()


def test_stopped_is_not_caught_by_those_who_catch_errors() -> None:
    assert not issubclass(Stopped, Exception)
    assert EXIT_AT_ONCE == 128 + signal.SIGINT


LEAVE = """
import subprocess, sys
import psutil
from trainer.__main__ import leave
loaders = [psutil.Process(subprocess.Popen(["sleep", "60"]).pid) for _ in range(2)]
def listed(*_, **__):
    loaders[0].kill()
    loaders[0].wait()
    return loaders
psutil.Process.children = listed
print(loaders[1].pid, flush=True)
leave(0)
"""


def test_a_loader_that_ends_by_itself_meanwhile_does_not_make_a_failure_of_a_training_that_is_done() -> None:
    done = subprocess.run([sys.executable, "-c", LEAVE], check=False, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    other = Path("/proc") / done.stdout.strip() / "stat"
    until_sync(lambda: not other.exists() or other.read_text().rpartition(")")[2].split()[0] == "Z", 5, "its end")
