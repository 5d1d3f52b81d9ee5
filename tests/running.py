"""`python -m broker` as a child process: to its end, or (tests/flows/daemon.py) for as long as a test needs it."""

import os
import subprocess
import sys
from collections.abc import Mapping


def broker_environment(**more: str) -> dict[str, str]:
    """Of this process, without settings that somebody has made on this machine."""
    base = {name: value for name, value in os.environ.items() if not name.startswith(("WYOLO_", "XDG_"))}
    return base | {"XDG_CONFIG_HOME": "/nonexistent"} | more


def run_broker(
    *flags: str, env: Mapping[str, str] | None = None, timeout: float = 30
) -> subprocess.CompletedProcess[str]:
    """For starts that end by themselves."""
    command = [sys.executable, "-P", "-m", "broker", *flags]
    environment = broker_environment(**(env or {}))
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)
