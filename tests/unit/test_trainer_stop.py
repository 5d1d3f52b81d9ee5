"""The first signal leaves in good order, the second at once, and neither in the middle of what must be whole."""

import signal
import subprocess
import sys

import pytest

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


def test_a_second_signal_ends_it_at_once() -> None:
    assert run(echo=-1.0, again="os.kill(os.getpid(), signal.SIGTERM)") == (EXIT_AT_ONCE, ["whole"])


def test_the_same_wish_said_twice_at_once_is_one() -> None:
    """A signal to the process and one to its group."""
    assert run(echo=10.0, again="os.kill(os.getpid(), signal.SIGTERM)") == (75, ["whole", "stopped"])


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
    assert EXIT_AT_ONCE == 128 + signal.SIGTERM
