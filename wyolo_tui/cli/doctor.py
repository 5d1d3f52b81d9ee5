"""wyolo doctor: is this machine ready? One line for each thing, with what to do about it."""

import asyncio
import json
import sys
from typing import Annotated

import typer

from wyolo_tui import discovery
from wyolo_tui.cli.checks import CHECKS, MIB, Check, Place
from wyolo_tui.cli.session import BadUse, Exit, Session
from wyolo_tui.cli.verb import verb
from wyolo_tui.present import mib

MARKS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}


@verb
async def command(
    cli: Session,
    *,
    orphans: Annotated[
        bool, typer.Option("--orphans", help="Instead: what containers, directories and such are left without a job.")
    ] = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="With --orphans: remove them. There is no way back.")
    ] = False,
) -> Exit:
    """Check Python, Redis, data directory, broker, GPU, torch, Docker, /dev/shm, disk, clock, limits and terminal."""
    if orphans:
        return await _orphans(cli, remove)
    if remove:
        raise BadUse("--remove is of --orphans", "wyolo doctor --orphans --remove")
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


async def _orphans(cli: Session, remove: bool) -> Exit:
    """On every node that answers, and on the broker's disk."""
    async with cli.broker() as broker:
        found = await (broker.remove_orphans() if remove else broker.orphans())
    if cli.json:
        cli.emit(found)
    else:
        for orphan in found.orphans:
            size = f", {mib(orphan.size // MIB)}" if orphan.size else ""
            place = f" on {orphan.node}" if orphan.node else ""
            done = "removed" if remove else f"→ {orphan.remedy}"
            cli.say(f"{orphan.kind} {orphan.path or orphan.name}{place}{size}: {orphan.why} {done}")
        for node, why in found.unasked.items():
            cli.note(f"! {node} could not say: {why}")
        if not found.orphans:
            cli.say("nothing was removed" if remove else "nothing is left without a job")
    left = found.unasked or (found.orphans and not remove)
    return Exit.FAILED if left else Exit.OK


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
        line.append(f" → {check.remedy}", "dim" if check.level == "ok" else colour)
    cli.show([line])
