"""The few lines of shell between the broker and a job: they outlive the broker and write down how the job ended.

The shim leads its own session. It claims the attempt by creating `pid` (noclobber is O_EXCL: of two starts one wins),
ignores what is meant for the job, runs it in the foreground and writes its exit code to `exit`. Only shell builtins,
so that it costs one exec. (With a trap that does something, the fork that is to become the job would run it too: a
signal in that instant ended it with success.)
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from broker.engines.proc import MARK
from broker.errors import EngineError

PID_NAME = "pid"  # "<pid> <start time> <boot id>", or TOMBSTONE
EXIT_NAME = "exit"  # the exit code in decimal
LOG_NAME = "output.log"
TOMBSTONE = "never\n"  # the attempt was given up before it started, and can never start

SCRIPT = """\
set -C
directory=$1 boot=$2 cwd=$3
shift 3
IFS= read -r stat < /proc/$$/stat
born() { start=${20}; }
born ${stat##*) }
printf '%s %s %s\\n' $$ "$start" "$boot" > "$directory/pid" || exit 125
cd "$cwd" || exit 126
trap '' TERM INT HUP
(trap - TERM INT HUP; exec "$@")
code=$?
printf '%s\\n' $code >| "$directory/exit"
exit $code
"""

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


def command(name: str, directory: Path, boot_id: str, cwd: Path, argv: Sequence[str]) -> list[str]:
    """What starts the shim, in whatever directory; the job itself runs in `cwd`."""
    return ["/bin/sh", "-c", SCRIPT, name, str(directory), boot_id, str(cwd), *argv]


def environment(
    base: Mapping[str, str], wanted: Mapping[str, str], gpus: Sequence[str], attempt: str
) -> dict[str, str]:
    """A job's: the base, what the job asks for, then what is ours to say."""
    return {**base, **wanted, "CUDA_VISIBLE_DEVICES": ",".join(gpus), MARK: attempt}


def program(name: str, path: str, cwd: Path) -> str:
    """The file that `name` means, with a slash in it, so that the shell never takes it for a builtin.

    Raises EngineError when there is none."""
    if "/" in name:
        found = name if (cwd / name).exists() else None
    else:
        found = shutil.which(name, path=path)
        if found is not None and not found.startswith("/"):
            found = f"{Path.cwd()}/{found}"
    if found is None:
        where = f"in {cwd}" if "/" in name else f"on PATH ({path})"
        raise EngineError(f"there is no program {name} {where}; nothing was started: correct the command and rerun it")
    return found
