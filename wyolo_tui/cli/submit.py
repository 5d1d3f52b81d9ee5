"""wyolo submit: queue trainings described by YAML files."""

from collections.abc import Sequence
from typing import Annotated

import typer

from broker.protocol.api import ErrorCode, Problem, SubmitRequest, Validation
from broker.protocol.job import Job
from wyolo_tui.cli.following import wait_for
from wyolo_tui.cli.reporting import state_line, warn
from wyolo_tui.cli.requests import Follow, Hold, Image, Labels, Level, Name, Network, Set, TaskId, User, Wait, from_file
from wyolo_tui.cli.session import BadUse, Exit, Session, finding_line
from wyolo_tui.cli.verb import verb
from wyolo_tui.client import BrokerClient
from wyolo_tui.unanswered import ProblemError

PATIENCE_S = 10.0  # a submission whose answer was lost is sent again, with the same key


@verb
async def command(
    cli: Session,
    *,
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="YAML files; - is standard input.", show_default=False)
    ],
    set: Set = None,
    priority: Level = None,
    name: Name = None,
    user: User = None,
    task_id: TaskId = None,
    image: Image = None,
    network: Network = None,
    label: Labels = None,
    hold: Hold = False,
    wait: Wait = False,
    follow: Follow = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, queue nothing, and say what would run.")
    ] = False,
) -> Exit:
    """Queue a training for each file: all of them, or none when one is wrong."""
    if len(files) > 1 and (name or task_id):
        raise BadUse("--name and --task-id are for one file", "leave them out, or submit one by one")
    requests = [
        from_file(
            file,
            set,
            name=name,
            user=user,
            priority=priority,
            task_id=task_id,
            hold=hold,
            image=image,
            network=network,
            labels=label,
        )
        for file in files
    ]
    async with cli.broker(PATIENCE_S) as broker:
        if dry_run:
            return await _dry_run(cli, broker, files, requests)
        jobs = await _queued(broker, files, requests)
        if wait or follow:
            for job in jobs:
                warn(cli, job)
            return await wait_for(cli, broker, jobs, log=follow)
    for job in jobs:
        if cli.json:
            cli.emit(job)
        else:
            cli.say(state_line(job))
            warn(cli, job)
    return Exit.OK


async def _queued(broker: BrokerClient, files: Sequence[str], requests: Sequence[SubmitRequest]) -> list[Job]:
    if len(requests) == 1:
        return [(await broker.submit(requests[0]))[0]]
    await _check_all(broker, files, requests)
    return [await broker.job(job_id) for job_id in await broker.submit_many(requests)]


async def _check_all(broker: BrokerClient, files: Sequence[str], requests: Sequence[SubmitRequest]) -> None:
    """Raises ProblemError with what is wrong in all files, each finding under its file's name."""
    answers = [await broker.validate(request) for request in requests]
    findings = [
        finding.model_copy(update={"where": f"{file}: {finding.where}" if finding.where else file})
        for file, answer in zip(files, answers, strict=True)
        if not answer.ok
        for finding in answer.findings
        if finding.level == "error"
    ]
    if findings:
        said = "; ".join(f"{finding.where}: {finding.message}" for finding in findings)
        raise ProblemError(
            Problem(title="refused", status=422, detail=said, code=ErrorCode.BAD_CONFIG, findings=findings)
        )


async def _dry_run(cli: Session, broker: BrokerClient, files: Sequence[str], requests: Sequence[SubmitRequest]) -> Exit:
    good = True
    for file, request in zip(files, requests, strict=True):
        answer = await broker.validate(request)
        good = good and answer.ok
        if cli.json:
            cli.emit(answer)
        else:
            _show(cli, file, answer)
    return Exit.OK if good else Exit.BAD_INPUT


def _show(cli: Session, file: str, answer: Validation) -> None:
    from wyolo_tui.cli.effective import spec_lines
    from wyolo_tui.cli.tables import pairs, text
    from wyolo_tui.forecast import memory_words, time_words

    cli.say(f"{file}: {'would be queued' if answer.ok else 'would be refused'}")
    for finding in answer.findings:
        cli.say(f"  {finding_line(finding)}")
    data, spec = answer.data, answer.spec
    rows = [("start", answer.would_start)]
    if data is not None:
        kinds = f"{data.classes} classes" + (f" ({', '.join(data.names[:8])})" if data.names else "")
        rows += [("data", data.path), ("images", f"{data.train_images} train, {data.val_images} val; {kinds}")]
        rows += [("checked", f"{data.checked_images} images in {data.seconds:.1f} s")] if data.checked_images else []
    if spec is not None:
        needs = spec.resources
        gpu = "node's default" if needs.gpu is None else f"{needs.gpu.count} GPU" if needs.gpu.count else "CPU only"
        rows += [
            (
                "needs",
                f"{needs.cpus:g} {'core' if needs.cpus == 1 else 'cores'}, {gpu}"
                + (f", node {needs.node}" if needs.node else "")
                + "".join(f", {name}={value}" for name, value in needs.labels.items()),
            ),
            ("time", time_words(spec, answer.pace)),
            ("memory", memory_words(needs)),
        ]
    cli.show(pairs(rows))
    if spec is not None:
        cli.say()
        cli.show(text(line) for line in spec_lines(spec))
