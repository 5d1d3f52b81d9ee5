"""What the submit form says of a configuration: what would run, when, and what is wrong with it. Pure."""

import re
import shlex

from broker.protocol.api import Finding, Pace, Validation
from broker.protocol.job import CommandWork, JobSpec, Resources
from wyolo_tui.present import Cell, duration, mib, plain


def forecast(checked: Validation) -> list[Cell]:
    """A line each."""
    lines: list[Cell] = []
    if checked.ok and checked.spec is not None:
        lines.append([("would run ", "good"), (_words(checked.spec), "strong")])
        if checked.would_start:
            lines.append([("starts ", "dim"), (plain(checked.would_start), "")])
        takes, needs = time_words(checked.spec, checked.pace), memory_words(checked.spec.resources)
        lines.append([("takes ", "dim"), (takes, ""), ("   memory ", "dim"), (needs, "")])
    if checked.data is not None and checked.data.train_images:
        data = checked.data
        counts = f"{data.train_images} training and {data.val_images} validation images, {data.classes} classes"
        lines.append([("data ", "dim"), (counts, "")])
    for finding in checked.findings:
        lines += _finding_lines(finding)
    return lines


def time_words(spec: JobSpec, pace: Pace | None) -> str:
    """How long it would work, once it has started."""
    work = spec.work
    if isinstance(work, CommandWork):
        return "unknown: a command says nothing of its end"
    if (hours := work.args.get("time")) is not None:
        return f"about {duration(hours * 3600)}, as train.time says"
    if pace is None:
        return "unknown: nothing like it has run"
    whole = duration(work.epochs * pace.epoch_s)
    return f"about {whole}: {work.epochs} epochs of {duration(pace.epoch_s)}, as job {pace.job_id}"


def memory_words(needs: Resources) -> str:
    """What is kept for it. What it will really take, nobody has measured."""
    kept = [f"{mib(needs.memory_mib)} of the machine's"] if needs.memory_mib else []
    if needs.gpu is not None and needs.gpu.memory_fraction is not None:
        kept.append(f"{needs.gpu.memory_fraction:.0%} of a GPU's")
    return f"{' and '.join(kept)} kept for it" if kept else "unknown: it asks for none"


def line_of(finding: Finding) -> int | None:
    """The line, from 0, that a finding is about."""
    found = re.search(r"line (\d+), column", finding.where)
    return int(found[1]) - 1 if found else None


def _finding_lines(finding: Finding) -> list[Cell]:
    role = "bad" if finding.level == "error" else "warn"
    cell: Cell = [(f"{finding.level} ", role)]
    if finding.where:
        cell.append((f"{plain(finding.where)}: ", "strong"))
    cell.append((plain(finding.message), ""))
    return [cell, [(f"  {plain(finding.hint)}", "accent")]] if finding.hint else [cell]


def _words(spec: JobSpec) -> str:
    """'yolov8n.pt for 50 epochs at 640 px, batch 16'."""
    work = spec.work
    if isinstance(work, CommandWork):
        return plain(shlex.join(work.argv))
    words = f"{work.model} for {work.epochs} epochs"
    if "imgsz" in work.args:
        words += f" at {work.args['imgsz']} px"
    if "batch" in work.args:
        words += f", batch {work.args['batch']}"
    return plain(words)
