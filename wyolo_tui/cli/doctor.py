"""wyolo doctor: is this machine ready? One line for each thing, with what to do about it."""

import asyncio
import json
import sys

from wyolo_tui import discovery
from wyolo_tui.cli.checks import CHECKS, Check, Place
from wyolo_tui.cli.session import Exit, Session
from wyolo_tui.cli.verb import verb

MARKS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}


@verb
async def command(cli: Session) -> Exit:
    """Check Python, Redis, data directory, broker, GPU, torch, Docker, /dev/shm, disk, clock, limits and terminal."""
    place = Place(discovery.data_directory(cli.data_dir), cli.url)
    running = [(name, asyncio.create_task(check(place), name=name)) for name, check in CHECKS.items()]
    checks = list[Check]()
    for name, task in running:
        checks.append(await _awaited(cli, name, task))
        if not cli.json:
            _show(cli, checks[-1])
    if cli.json:
        print(json.dumps([check.model_dump() for check in checks]))
    return Exit.FAILED if any(check.level == "fail" for check in checks) else Exit.OK


async def _awaited(cli: Session, name: str, task: "asyncio.Task[Check]") -> Check:
    if cli.json or task.done() or not sys.stderr.isatty():
        return await task
    with cli.console(stderr=True).status(f"{name} ..."):
        return await task


def _show(cli: Session, check: Check) -> None:
    from rich.text import Text

    glyph, colour = MARKS[check.level]
    line = Text(end="").append(glyph, colour).append(f" {check.name:<15} {check.detail}")
    if check.remedy:
        line.append(f" → {check.remedy}", "bright_black" if check.level == "ok" else colour)
    cli.show([line])
