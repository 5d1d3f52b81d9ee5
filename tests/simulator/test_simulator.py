"""Every promise about a job, under every order of crashes, lost answers, dead nodes and changed minds that there is
time for. A failure prints its steps and the broker's log, and is the same each time."""

import time

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.simulator.machine import Simulator

QUICK = settings(
    max_examples=120, stateful_step_count=40, deadline=None, database=None, derandomize=True, print_blob=True,
    suppress_health_check=list(HealthCheck), phases=(Phase.generate, Phase.shrink),
)  # fmt: skip
LONG = settings(QUICK, max_examples=20_000, stateful_step_count=60, derandomize=False)


def run(how: settings, capsys: pytest.CaptureFixture[str]) -> None:
    Simulator.interleavings = Simulator.crashes = Simulator.started = 0
    Simulator.seconds = 0.0
    began = time.monotonic()
    try:
        run_state_machine_as_test(Simulator, settings=how)
    finally:
        took = time.monotonic() - began
        with capsys.disabled():
            print(
                f"\n{Simulator.interleavings:,} interleavings in {took:.0f} s ({Simulator.interleavings * 60 / took:,.0f} "
                f"a minute): {Simulator.started:,} processes, {Simulator.crashes:,} brokers killed, "
                f"{Simulator.seconds / 3600:,.0f} hours of virtual time"
            )


def test_whatever_happens_nothing_is_lost_run_twice_or_orphaned(capsys: pytest.CaptureFixture[str]) -> None:
    run(QUICK, capsys)


@pytest.mark.faults
@pytest.mark.long
@pytest.mark.timeout(0)
def test_whatever_happens_for_long_nothing_is_lost_run_twice_or_orphaned(capsys: pytest.CaptureFixture[str]) -> None:
    run(LONG, capsys)
