"""wyolo demo: the whole path once, small and for real, in a folder of its own."""

import asyncio
import importlib.util
import os
import shutil
import sys
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from broker.protocol.job import Job
from broker.protocol.states import FINAL, JobState
from wyolo_tui import discovery
from wyolo_tui.cli.cockpit import open_cockpit
from wyolo_tui.cli.following import wait_for
from wyolo_tui.cli.requests import from_file
from wyolo_tui.cli.session import BadUse, Exit, Session
from wyolo_tui.cli.targets import all_pages
from wyolo_tui.cli.verb import verb_without_broker
from wyolo_tui.cli.watching import all_ended
from wyolo_tui.client import BrokerClient
from wyolo_tui.present import number

NAME = "demo"
TRAIN_IMAGES, VAL_IMAGES, PIXELS = 128, 32, 96
METRIC = "metrics/mAP50(B)"
OF_ANOTHER_BROKER = ("WYOLO_URL", "WYOLO_KEY", "WYOLO_DATA_DIR", "WYOLO_REDIS_URL", "WYOLO_HOST", "WYOLO_PORT")


@verb_without_broker
async def command(
    cli: Session,
    *,
    folder: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="Where everything of it goes; delete it when you are done.")
    ] = Path(".wyolo-demo"),
    watch: Annotated[
        bool | None, typer.Option("--cockpit/--no-cockpit", help="Watch it there; the default on a terminal.")
    ] = None,
) -> Exit:
    """Really train a small detector on drawn shapes, with a broker of its own, and watch it in the cockpit."""
    _check_trainer()
    for name in OF_ANOTHER_BROKER:
        os.environ.pop(name, None)
    folder = folder.absolute()
    terminal = sys.stdin.isatty() and sys.stdout.isatty() and not cli.json
    config = await asyncio.to_thread(_prepare, cli, folder)
    where, started = await discovery.start(folder, ["--port", "0"])
    cli.note(f"broker: {where.url}, process {where.pid}, its files in {folder}")
    async with where.client(patience_s=10.0) as broker:
        job = await _job(broker, config)
        cli.note(f"job {job.id}: {job.state}")
        if not (terminal if watch is None else watch):
            try:
                return await _to_its_end(cli, broker, job)
            finally:
                if started:
                    await asyncio.shield(_end(cli, broker, job, where))
    text = f"This broker goes on when you leave. To end it: wyolo --data-dir {folder} broker stop"
    code = await open_cockpit(data_dir=folder, notice=text)
    cli.note(text)
    return Exit(code)


def _check_trainer() -> None:
    """Raises BadUse: better now than as a failed job."""
    if "WYOLO_TRAINER_PYTHON" not in os.environ and importlib.util.find_spec("ultralytics") is None:
        raise BadUse("Ultralytics is not installed, and it is what trains", "pip install 'wyolo[train]'")


def _prepare(cli: Session, folder: Path) -> str:
    """The configuration and its data set, drawn unless they are there. Raises BadUse."""
    from wyolo_tui.shapes import make

    shapes, config = folder / "shapes", folder / "demo.yaml"
    drawn = folder / ".drawn"  # the last thing written: half a data set is drawn again
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not drawn.exists():
            cli.note(f"drawing {TRAIN_IMAGES} + {VAL_IMAGES} images of shapes")
            shutil.rmtree(shapes, ignore_errors=True)
            make(shapes, "detect", images=TRAIN_IMAGES, val=VAL_IMAGES, size=PIXELS)
            drawn.touch()
        config.write_text(resources.files("wyolo_tui").joinpath("demo.yaml").read_text(encoding="utf-8"))
    except OSError as error:
        raise BadUse(f"{folder} cannot be written ({error.strerror})", "name another place with --dir") from error
    return str(config)


async def _job(broker: BrokerClient, config: str) -> Job:
    """The demo's job that has not ended, the one that was stopped, resumed, or a new one."""
    earlier = [job async for job in all_pages(broker, f"name:{NAME}") if job.name == NAME]
    newest = max(earlier, key=lambda job: job.id, default=None)
    if newest is not None and newest.state not in FINAL:
        return newest
    if newest is not None and newest.state is JobState.STOPPED and newest.epoch < newest.epochs:
        return await broker.resume(newest.id)
    return (await broker.submit(from_file(config)))[0]


async def _to_its_end(cli: Session, broker: BrokerClient, job: Job) -> Exit:
    code = await wait_for(cli, broker, [job], lines=True)
    if code is not Exit.OK:
        cli.note(f"→ what it wrote: {(await broker.attempts(job.id))[-1].directory}")
        return code
    table = await broker.metrics(job.id, [METRIC])
    measured = [
        (epoch, value) for epoch, value in zip(table.epochs, table.columns[METRIC], strict=True) if value is not None
    ]
    if not cli.json:
        epoch, value = measured[-1]
        cli.say(f"validation mAP50 {number(value)} after {epoch} epochs")
    return code


async def _end(cli: Session, broker: BrokerClient, job: Job, where: discovery.Address) -> None:
    """Nothing of a demo that nobody watches is left running."""
    if (await broker.job(job.id)).state not in FINAL:
        await broker.stop(job.id)
        await all_ended(cli, broker, [job.id])
        cli.on_interrupt = "the training was stopped with a checkpoint, and its broker has ended; `wyolo demo` goes on"
    await discovery.stop(where)
