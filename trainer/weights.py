"""A model's name or path -> a file that Ultralytics can open without asking anyone."""

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from broker.protocol.document import DocumentError, parse
from broker.protocol.states import EndReason
from broker.protocol.ultralytics_keys import MODELS
from trainer.failures import TrainingError

STOCK = frozenset[str]().union(*MODELS.values())
# What a model's yaml may say under `activation:`, which Ultralytics evaluates as Python.
_ACTIVATION = re.compile(
    r"(torch\.)?nn\.[A-Za-z0-9]+\(((inplace|negative_slope|alpha|beta|num_parameters)?[=0-9.A-Za-z, -]*)\)"
)


@dataclass(frozen=True, slots=True)
class Found:
    """`path` is a file, or the name of an architecture that Ultralytics brings."""

    path: str
    missing: str | None = None  # the weights that have to be downloaded to `path` first


def find(model: str, folders: list[Path]) -> Found:
    """Looks in `folders` for a model without a path. Raises TrainingError(bad_config or weights_missing)."""
    if "://" in model:
        raise TrainingError(EndReason.BAD_CONFIG, f"model {model}: addresses are not fetched", "give a name or a path")
    name = model if Path(model).suffix or f"{model}.pt" not in STOCK else f"{model}.pt"
    path = Path(name).expanduser()
    if path.suffix in {".yaml", ".yml"}:
        if path.is_file():
            check_activation(_document(path), str(path))
            return Found(str(path.resolve()))
        if name in STOCK:
            return Found(name)
    elif path.suffix == ".pt":
        if path.is_file():
            return Found(str(path.resolve()))
        if os.sep not in name:
            for folder in folders:
                if (folder / name).is_file():
                    return Found(str((folder / name).resolve()))
            if name in STOCK:
                return Found(str(folders[0] / name), missing=name)
    else:
        raise TrainingError(
            EndReason.BAD_CONFIG, f"model {model}: only .pt and .yaml files can be trained", _hint(name)
        )
    raise TrainingError(EndReason.WEIGHTS_MISSING, f"model {model}: there is no such file or stock model", _hint(name))


def _hint(name: str) -> str:
    near = difflib.get_close_matches(Path(name).name, STOCK, n=3)
    return f"give a path, or a stock model such as {', '.join(near or ['yolov8n.pt', 'yolo11n.yaml'])}"


def refuse_download(name: str, folders: list[Path]) -> TrainingError:
    places = ", ".join(str(folder) for folder in folders)
    return TrainingError(
        EndReason.WEIGHTS_MISSING,
        f"weights {name} are not here (looked in {places}) and this trainer is offline",
        f"put {name} into {folders[0]}, or train from scratch with {Path(name).stem}.yaml",
    )


def download(name: str, target: Path) -> Path:
    """Fetch published weights. Complete or not there. Raises TrainingError(weights_missing), OSError."""
    downloads: Any = import_module("ultralytics.utils.downloads")
    partial = target.with_name(f".{os.getpid()}-{name}")
    target.parent.mkdir(parents=True, exist_ok=True)
    address = f"https://github.com/{downloads.GITHUB_ASSETS_REPO}/releases/download/v8.4.0/{name}"
    try:
        downloads.safe_download(url=address, file=partial, min_bytes=1e5, unzip=False)
    except (OSError, RuntimeError) as error:  # ConnectionError is an OSError
        partial.unlink(missing_ok=True)
        said = next(iter(str(error).splitlines()), "")[:200].rstrip(".")
        raise TrainingError(
            EndReason.WEIGHTS_MISSING,
            f"weights {name} could not be downloaded ({type(error).__name__}: {said})",
            f"put {name} into {target.parent}, or train from scratch with {Path(name).stem}.yaml",
        ) from error
    partial.replace(target)
    return target


def check_activation(architecture: Mapping[str, Any], where: str) -> None:
    """Raises TrainingError(bad_config) for an activation that is anything but a layer of torch.nn."""
    value = architecture.get("activation")
    if value is not None and not _ACTIVATION.fullmatch(str(value)):
        raise TrainingError(
            EndReason.BAD_CONFIG, f"{where}: activation {value!r} is not a layer of torch.nn", "write it like nn.SiLU()"
        )


def _document(path: Path) -> dict[str, Any]:
    try:
        return parse(path.read_text(encoding="utf-8", errors="ignore"))
    except DocumentError as error:
        raise TrainingError(EndReason.BAD_CONFIG, f"{path}: {error}", "correct it and rerun") from error
