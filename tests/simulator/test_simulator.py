"""Every promise about a job, under every order of crashes, lost answers, dead nodes and changed minds that there is
time for. A failure prints its steps and the broker's log, and is found again by its seed."""

import os
import random
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.simulator.life import make_template
from tests.simulator.machine import Simulator, Tally

MEMORY = Path("/dev/shm")  # where fsync costs nothing; it is real there too
QUICK = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large),
)
LONG = settings(QUICK, max_examples=int(os.environ.get("WYOLO_INTERLEAVINGS", "5000")), stateful_step_count=60)


def run(how: settings, number: int, capsys: pytest.CaptureFixture[str]) -> None:
    Simulator.tally = Tally()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="wyolo-", dir=MEMORY if MEMORY.is_dir() else None) as room:
        Simulator.room = Path(room)
        make_template(Simulator.template())
        try:
            run_state_machine_as_test(seed(number)(Simulator), settings=how)
        finally:
            with capsys.disabled():
                print(f"\nseed {number}: {Simulator.tally.told(time.monotonic() - began)}")


@pytest.mark.timeout(900)  # a failure is made small
def test_whatever_happens_nothing_is_lost_run_twice_or_orphaned(capsys: pytest.CaptureFixture[str]) -> None:
    run(QUICK, 1, capsys)


@pytest.mark.faults
@pytest.mark.long
@pytest.mark.timeout(0)
def test_whatever_happens_for_long_nothing_is_lost_run_twice_or_orphaned(capsys: pytest.CaptureFixture[str]) -> None:
    run(LONG, int(os.environ.get("WYOLO_SEED", random.SystemRandom().randrange(1 << 30))), capsys)
