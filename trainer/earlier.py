"""What earlier attempts left in their job's directory, `<job>/<fence>`: none of them runs any more."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from broker.protocol.training import CHECKPOINTS_NAME, RESULT_NAME
from trainer.durable import PARTIAL


def half_written(directory: Path, fence: int) -> list[Path]:
    """Before this attempt, `directory`. Whoever wrote these was killed."""
    found: list[Path] = []
    for folder in _checkpoints(directory, fence):
        found += [folder.with_name(f"{RESULT_NAME}{PARTIAL}"), *folder.glob(f"*{PARTIAL}")]
    return found


def superseded(directory: Path, fence: int, resumed: Path) -> list[Path]:
    """Checkpoints that are of no use once this attempt, which goes on from `resumed`, has one of its own: should that
    turn out bad, there is `resumed`."""
    found = [path for folder in _checkpoints(directory, fence) for path in folder.glob("epoch-*.pt")]
    return [path for path in found if path != resumed] if resumed in found else []


def remove(paths: Iterable[Path]) -> None:
    """As far as it can be done: in a container they may not be ours to remove."""
    for path in paths:
        with suppress(OSError):
            path.unlink()


def _checkpoints(directory: Path, fence: int) -> list[Path]:
    """Their folders. None for a training without a broker, whose directory is not called after its number."""
    if directory.name != str(fence):
        return []
    found = (directory.with_name(str(number)) / CHECKPOINTS_NAME for number in range(1, fence))
    return [folder for folder in found if _is_plain(folder)]


def _is_plain(folder: Path) -> bool:
    try:
        return not folder.is_symlink() and folder.is_dir()
    except OSError:
        return False
