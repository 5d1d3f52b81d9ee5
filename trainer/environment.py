"""The surroundings Ultralytics starts in: private settings, nothing reported to anyone, nothing installed, no download
that was not asked for. Must run before Ultralytics is imported, and imports nothing heavy itself.
"""

import json
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

CONFIG_NAME = "ultralytics"
# Fonts that plots ask for by name. Matplotlib brings one that has the letters of both, so none is downloaded.
_FONTS = ("Arial.ttf", "Arial.Unicode.ttf")
_INTEGRATIONS = ("clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb")


@dataclass(frozen=True, slots=True)
class Folders:
    weights: Path  # where Ultralytics looks for and puts weights
    datasets: Path  # where it looks for and puts data sets that are named without a path


def folders(weights_dir: str | None) -> Folders:
    """Those of this user's own Ultralytics where there is one, so that nothing is downloaded twice."""
    own = _own_settings()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wyolo"
    return Folders(
        weights=Path(weights_dir or own.get("weights_dir") or cache / "weights"),
        datasets=Path(own.get("datasets_dir") or cache / "datasets"),
    )


def _own_settings() -> dict[str, Any]:
    base = os.environ.get("YOLO_CONFIG_DIR") or os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    try:
        read: object = json.loads((Path(base) / "Ultralytics" / "settings.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(key): value for key, value in read.items()} if isinstance(read, dict) else {}  # pyright: ignore


def prepare(directory: Path, places: Folders, *, online: bool) -> None:
    """Environment variables and settings for the Ultralytics of this process. Raises OSError."""
    base = directory / CONFIG_NAME
    settings = base / "Ultralytics"
    settings.mkdir(parents=True, exist_ok=True)
    values = {
        "settings_version": "0.0.8",
        "datasets_dir": str(places.datasets),
        "weights_dir": str(places.weights),
        "runs_dir": str(directory / "runs"),
        "uuid": "",
        "sync": False,
        "api_key": "",
        "openai_api_key": "",
        **dict.fromkeys(_INTEGRATIONS, False),
        "vscode_msg": False,
        "openvino_msg": False,
    }
    (settings / "settings.json").write_text(json.dumps(values, indent=2), encoding="utf-8")
    font = _font()
    for name in _FONTS:
        if font is not None and not (settings / name).exists():
            (settings / name).symlink_to(font)
    os.environ |= {
        "YOLO_CONFIG_DIR": str(base),
        "YOLO_OFFLINE": "0" if online else "1",
        "YOLO_AUTOINSTALL": "0",
        "ULTRALYTICS_SAFE_LOAD": "1",
        "NO_ALBUMENTATIONS_UPDATE": "1",
        "MPLBACKEND": "Agg",
    }


def _font() -> Path | None:
    spec = find_spec("matplotlib")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    return path if path.is_file() else None
