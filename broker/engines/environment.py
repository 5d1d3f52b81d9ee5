"""What a local job finds around it: an environment without the broker's secrets, and the program that it names."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from broker.engines.proc import MARK
from broker.errors import EngineError

# fmt: off
_PASSED_ON = frozenset((
    "PATH", "HOME", "LANG", "LANGUAGE", "USER", "LOGNAME", "SHELL", "TZ", "TMPDIR", "VIRTUAL_ENV",
    "LD_LIBRARY_PATH", "PYTHONPATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "http_proxy",
    "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
))
# fmt: on
_PASSED_ON_PREFIXES = ("LC_", "XDG_", "CUDA_", "NVIDIA_", "OMP_", "MKL_", "OPENBLAS_", "TORCH_", "PYTORCH_", "YOLO_")


def base_environment(own: Mapping[str, str]) -> dict[str, str]:
    """What describes this machine of the broker's own environment. Nothing else comes through, secrets least of all."""
    base = {name: value for name, value in own.items() if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)}
    return {"PATH": os.defpath, **base, "PYTHONUNBUFFERED": "1"}


def environment(
    base: Mapping[str, str], wanted: Mapping[str, str], gpus: Sequence[str], attempt: str
) -> dict[str, str]:
    """A job's: the base, what the job asks for, then what is ours to say."""
    return {**base, **wanted, "CUDA_VISIBLE_DEVICES": ",".join(gpus), MARK: attempt}


def program(name: str, path: str, cwd: Path) -> str:
    """The file that `name` means, with a slash in it. Raises EngineError when there is none."""
    if "/" in name:
        found = name if os.path.exists(os.path.join(cwd, name)) else None  # noqa: PTH110, PTH118 - a third of the time
    else:
        found = shutil.which(name, path=path)
        if found is not None and not found.startswith("/"):
            found = f"{Path.cwd()}/{found}"
    if found is None:
        where = f"in {cwd}" if "/" in name else f"on PATH ({path})"
        raise EngineError(f"there is no program {name} {where}; nothing was started: correct the command and rerun it")
    return found
