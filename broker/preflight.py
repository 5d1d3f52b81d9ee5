"""Checks a data set before a job is queued: paths, data.yaml, labels, images. It only reads."""

from pathlib import Path

from broker.protocol.api import DataSummary, Finding
from broker.protocol.job import TrainWork


def check(work: TrainWork, images_to_open: int) -> tuple[DataSummary | None, list[Finding]]:
    """Blocking: call it in a thread. Findings with level error refuse the job; results are cached by the folder's
    newest change. Data set names of Ultralytics (coco8.yaml) without a file are not checked."""
    raise NotImplementedError


def forget(path: Path) -> None:
    """Drop what is cached about a data set."""
    raise NotImplementedError
