"""wyolo exec: a shell in a job's container, or a program there."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from broker.protocol.api import TerminalRequest, TerminalSize
from broker.protocol.job import Attempt, CommandWork, Job
from broker.protocol.states import ACTIVE
from wyolo_tui.cli.session import BadUse, Exit, Session
from wyolo_tui.cli.targets import OneJob, one
from wyolo_tui.cli.verb import verb
from wyolo_tui.client import BrokerClient

NOT_STARTED = 127


@verb
async def command(
    cli: Session,
    *,
    job: OneJob,
    argv: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- COMMAND...]", help="A shell if none is given.", show_default=False),
    ] = None,
) -> Exit | int:
    """Open a shell in a running job's container, or run a command there: wyolo exec 12 -- nvidia-smi"""
    tty = sys.stdin.isatty() and sys.stdout.isatty()
    if not argv and not tty:
        raise BadUse("a shell needs a terminal", f"give it a command: wyolo exec {job} -- ls")
    async with cli.broker() as broker:
        found = await one(broker, job)
        if found.state not in ACTIVE:
            raise BadUse(
                f"job {found.id} is {found.state}: nothing of it runs", f"what it left: wyolo files {found.id}"
            )
        attempt = (await broker.attempts(found.id))[-1]
        node = await broker.node(attempt.node)
        local = node.engine == "local"
        if local:
            _same_machine(broker, attempt)
        if not argv:
            cli.note(_opened(found, attempt, local))
        if local:
            return beside(found, attempt, argv or [])
        size = shutil.get_terminal_size()
        wanted = TerminalRequest(
            argv=argv or [],
            tty=tty,
            hears=not sys.stdin.isatty(),
            term=os.environ.get("TERM", ""),
            size=TerminalSize(columns=size.columns or 80, lines=size.lines or 24) if tty else None,
        )
        from wyolo_tui.cli.far_terminal import talk

        return await talk(broker, found.id, wanted)


def _opened(job: Job, attempt: Attempt, local: bool) -> str:
    """Where a person is now, and how they come back."""
    where = f"of this machine, in {attempt.directory}" if local else f"in its container on {attempt.node}"
    return f"job {job.id} {job.name}: a shell {where}; `exit` or ctrl+d leaves it, and the job goes on"


def _same_machine(broker: BrokerClient, attempt: Attempt) -> None:
    """Raises BadUse."""
    host = urlsplit(broker.url).hostname or ""
    if host not in {"127.0.0.1", "localhost", "::1"} or not Path(attempt.directory).is_dir():
        raise BadUse(
            f"job {attempt.job_id} is a process of the broker's machine, and has no container",
            f"there: wyolo exec {attempt.job_id}",
        )


def beside(job: Job, attempt: Attempt, argv: list[str]) -> int:
    """A program of this machine in the job's directory, with the job's environment. Its exit code."""
    own = job.spec.work.env if job.spec is not None and isinstance(job.spec.work, CommandWork) else {}
    env = os.environ | own | {"CUDA_VISIBLE_DEVICES": ",".join(attempt.gpus)}
    command = argv or [os.environ.get("SHELL") or "/bin/sh"]
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl+c is the program's
    try:
        done = subprocess.run(
            command,
            cwd=attempt.directory,
            env=env,
            check=False,
            preexec_fn=_hears_interrupts,
        )
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return NOT_STARTED
    finally:
        signal.signal(signal.SIGINT, before)
    return done.returncode if done.returncode >= 0 else 128 - done.returncode


def _hears_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
