"""A training that hears nothing of its broker for too long leaves, even when it hangs; one that does goes on."""

import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.protocol.training import EXIT_STOPPED

LEASE_S = 1.5
PROGRAM = """
import ctypes, os, sys, time
from trainer.lease import Lease
from trainer.stop import Stop, Stopped
stop = Stop()
stop.listen()
lease = Lease.of(os.environ, stop)
lease.watch()
try:
    lease.await_contact()
    print("begun", flush=True)
    {work}
except Stopped:
    print(stop.why, flush=True)
    {save}
    print("saved", flush=True)
    sys.exit(75)
"""
WORKS = "while True: time.sleep(0.01)"
STUCK = "ctypes.PyDLL(None).sleep(60)"  # with the interpreter's lock in its hand


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "1.lease"
    path.write_text(f"{LEASE_S} first")
    return path


@contextmanager
def training(file: Path, work: str = WORKS, save: str = "pass") -> Generator["subprocess.Popen[str]"]:
    environment = os.environ | {"WYOLO_LEASE": str(file), "WYOLO_LEASE_S": str(LEASE_S)}
    command = [sys.executable, "-c", PROGRAM.format(work=work, save=save)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def touched(file: Path) -> Generator[None]:
    """As by a broker that has contact."""
    over = threading.Event()

    def touch() -> None:
        while not over.wait(LEASE_S / 30):
            file.write_text(f"{LEASE_S} {secrets.token_hex(4)}")

    thread = threading.Thread(target=touch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def said(process: "subprocess.Popen[str]") -> list[str]:
    """After what it said first, to its end."""
    assert process.stdout is not None
    lines = process.stdout.read().split("\n")
    process.wait(30)
    return [line for line in lines if line]


def begun(process: "subprocess.Popen[str]") -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"


def test_it_saves_and_leaves_when_the_broker_is_not_heard_of(file: Path) -> None:
    with training(file) as process:
        with touched(file):
            begun(process)
        assert said(process) == ["nothing was heard of the broker for 1 s", "saved"]
        assert process.returncode == EXIT_STOPPED


def test_it_goes_on_for_as_long_as_there_is_contact_and_whatever_the_time_of_the_file_says(file: Path) -> None:
    with training(file, work=f"time.sleep({1.5 * LEASE_S}); print('trained', flush=True); sys.exit(0)") as process:
        with touched(file):
            begun(process)
            os.utime(file, (0, 0))
            assert said(process) == ["trained"]
        assert process.returncode == 0


def test_it_ends_though_saving_hangs(file: Path) -> None:
    with training(file, save=STUCK) as process:
        with touched(file):
            begun(process)
        assert said(process) == ["nothing was heard of the broker for 1 s"]
        assert process.returncode == -signal.SIGALRM


def test_it_ends_though_the_interpreter_is_stuck(file: Path) -> None:
    with training(file, work=STUCK) as process:
        with touched(file):
            begun(process)
        assert said(process) == []
        assert process.returncode == -signal.SIGALRM


def test_one_that_was_given_up_trains_nothing(file: Path) -> None:
    """Its container may be started long after it was asked for."""
    file.write_text("over")
    with training(file) as process:
        assert "the broker has given this attempt up" in said(process)
        assert process.returncode == EXIT_STOPPED


def test_one_whose_broker_never_had_contact_trains_nothing(file: Path) -> None:
    with training(file) as process:
        assert "saved" in said(process)
        assert process.returncode == EXIT_STOPPED


def test_without_a_lease_nothing_is_watched() -> None:
    program = "import os; from trainer.lease import Lease; from trainer.stop import Stop; print(Lease.of({}, Stop()))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"
