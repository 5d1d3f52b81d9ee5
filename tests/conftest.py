"""Which tests share a worker: those that share a daemon, a training, a fixture. And what each worker sets up."""

import gc
import signal
from typing import Any

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # of a job in the background, and so of all that it starts
    signal.signal(signal.SIGINT, signal.default_int_handler)

gc.disable()  # what is loaded from here on stays: see pytest_collection_finish

BY_FOLDER = ("tests/containers/", "tests/docker/", "tests/gpu/")
BY_FILE = ("tests/train/", "tests/unit/test_imports.py")


def shares(nodeid: str) -> str:
    """Tests for which this is the same run on one worker, one after the other."""
    for folder in BY_FOLDER:
        if nodeid.startswith(folder):
            return folder
    return nodeid.partition("::")[0] if nodeid.startswith(BY_FILE) else nodeid


def pytest_collection_finish() -> None:
    """A third of the cockpit's tests was spent looking for garbage, most of it among what is loaded for good."""
    gc.freeze()
    gc.enable()
    gc.set_threshold(1_000_000)  # what a few dozen cockpits leave behind


def pytest_unconfigure(config: pytest.Config) -> None:
    """What the tests left behind ends with the worker: to look through it first, as pytest and Python would, takes each
    two seconds, and what is found then reaches no report."""
    if hasattr(config, "workerinput"):
        gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """By name, since xdist 3.8 does not see its own marks under pytest 9.2. The largest groups begin."""
    from xdist.scheduler import LoadScopeScheduling

    class ByDaemon(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return shares(nodeid)

    return ByDaemon(config, log)
