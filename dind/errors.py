"""What can go wrong with a sandbox, each with what to do about it.

SandboxError
├── EngineAway        the daemon does not answer, or does not let us in
├── EngineRefused     it answered that it cannot, for a reason that has no name of its own here
├── WrongCertificate  it does not take our certificate, or we do not take its
├── OldEngine         its API is older, or newer, than this program speaks
├── PortTaken
├── NoImage           it is not there, and there is no way to get it
├── BuildFailed       a step of a Dockerfile failed
├── DiskFull
├── NoGpuRuntime      GPUs were asked for, and the daemon cannot hand any on
├── MissingPath       a folder to be mounted does not exist
├── NotOurs           a container of that name was made by somebody else
├── NoSandbox
├── JobsRunning       nothing was changed
└── Unhealthy         it was started and does not answer
"""

import re
import ssl
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import aiohttp
from aiodocker.exceptions import DockerError


class SandboxError(Exception):
    """`message` says what happened and what was kept, `remedy` what to do next."""

    remedy = ""

    def __init__(self, message: str, remedy: str = "") -> None:
        self.remedy = remedy or self.remedy
        super().__init__(message)


class EngineAway(SandboxError):
    remedy = "start it (systemctl start docker), or name another: --engine unix:///path/docker.sock"


class EngineRefused(SandboxError):
    pass


class WrongCertificate(SandboxError):
    remedy = "wyolo sandbox up makes certificates that fit and starts the sandbox with them"


class OldEngine(SandboxError):
    remedy = "Docker 20.10 or newer is needed"


class PortTaken(SandboxError):
    remedy = "end what listens there (ss -ltnp shows it), or choose another: --port NUMBER, or 0 for any free one"


class NoImage(SandboxError):
    remedy = "load one (docker load) and name it: --base IMAGE, or let the daemon reach a registry"


class BuildFailed(SandboxError):
    pass


class DiskFull(SandboxError):
    remedy = "make room where that daemon keeps its data (docker system df, docker system prune), then try again"


class NoGpuRuntime(SandboxError):
    remedy = "install nvidia-container-toolkit there and restart its daemon, or do without: --gpus none"


class MissingPath(SandboxError):
    remedy = "make it, or name another folder"


class NotOurs(SandboxError):
    pass


class NoSandbox(SandboxError):
    remedy = "raise it: wyolo sandbox up"


class JobsRunning(SandboxError):
    remedy = "stop them (wyolo stop), wait, or say --force: they are then interrupted and go on elsewhere"


class Unhealthy(SandboxError):
    pass


_NEVER_ANSWERED = 900  # aiodocker's own status
_KNOWN: tuple[tuple[str, type[SandboxError]], ...] = (
    (r"port is already allocated|address already in use", PortTaken),
    (r"no space left on device|disk quota exceeded", DiskFull),
    (r"could not select device driver|nvidia-container-cli|unknown or invalid runtime name: nvidia", NoGpuRuntime),
    (r"bind source path does not exist", MissingPath),
    (r"client version .* is too (old|new)|requires API version", OldEngine),
    (
        r"pull access denied|manifest (for .* not found|unknown)|no such image|registry|failed to resolve|"
        r"lookup .*: |Get \"https?:|dial tcp|requested access to the resource is denied",
        NoImage,
    ),
)


@contextmanager
def told(doing: str, where: str) -> Generator[None]:
    """Turns whatever a daemon or the way to it says into a SandboxError. `doing`: "start dind_api"."""
    try:
        yield
    except DockerError as error:
        if error.status == _NEVER_ANSWERED:
            raise _away(error, doing, where) from error
        raise named(error.message, doing, where) from error
    except TimeoutError as error:
        raise EngineAway(f"cannot {doing}: {where} did not answer in time") from error
    except (aiohttp.ClientError, OSError) as error:
        raise _away(error, doing, where) from error


def _away(error: BaseException, doing: str, where: str) -> SandboxError:
    below = list(_causes(error))
    for cause in below:
        if isinstance(cause, ssl.SSLError | aiohttp.ClientConnectorCertificateError):
            said = getattr(cause, "verify_message", None) or getattr(cause, "reason", None) or cause
            return WrongCertificate(f"cannot {doing}: {where} and this side do not trust each other ({said})")
        if isinstance(cause, PermissionError):
            return EngineAway(
                f"cannot {doing}: this user may not speak to {where}", "join the group docker, or run this as root"
            )
    reason = next((cause.strerror for cause in below if isinstance(cause, OSError) and cause.strerror), str(error))
    return EngineAway(f"cannot {doing}: no Docker daemon answers at {where} ({reason})")


def named(message: str, doing: str, where: str) -> SandboxError:
    """The error that a daemon's words mean."""
    said = " ".join(message.split())
    for pattern, kind in _KNOWN:
        if re.search(pattern, said, re.IGNORECASE):
            return kind(f"cannot {doing} on {where}: {said}")
    return EngineRefused(f"cannot {doing} on {where}: {said}")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
