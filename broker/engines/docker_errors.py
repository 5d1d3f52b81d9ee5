"""What a Docker daemon, or the way to it, answers -> the broker's errors, each with its remedy. Pure."""

import ssl
from collections.abc import Iterator

import aiohttp

from broker.errors import AttemptGone, EngineError, EngineUnreachable

REFUSED = ("denied", "unauthorized", "forbidden", "authentication")  # words of a registry
ABSENT = ("not found", "manifest unknown", "name unknown", "does not exist", "invalid reference")


class Refused(Exception):
    """The daemon's own answer: no. Who asked knows what that means. Never leaves the Docker engine."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        self.message = message
        super().__init__(f"{message} [{status}]")


def unreachable(node: str, error: BaseException) -> EngineUnreachable:
    """Nobody answered, or nobody that can be believed."""
    return EngineUnreachable(f"{node} cannot be reached: {_reason(error)}")


def is_missing(refused: Refused) -> bool:
    """It is the image that is not there."""
    lower = refused.message.lower()
    return "no such image" in lower or (refused.status == 404 and "image" in lower)


def not_started(node: str, image: str, refused: Refused) -> EngineError:
    """Why a container could not be made or started: AttemptGone where waiting may help."""
    said = refused.message.strip()
    lower = said.lower()
    if is_missing(refused):
        remedy = f"bring it there with `wyolo images push`, or correct the node's `image`; then resume the job ({said})"
        return EngineError(f"{node} has no image {image}; nothing was started: {remedy}")
    if "no space left on device" in lower:
        return AttemptGone(f"the disk of {node} is full; nothing was started: make room there ({said})")
    if "could not select device driver" in lower or ("nvidia" in lower and "hook" in lower):
        remedy = 'install the NVIDIA container toolkit there, or give the node gpus = "none"'
        return EngineError(f"{node} has GPUs in its settings, but its daemon cannot give them out; {remedy} ({said})")
    if "bind source path does not exist" in lower:
        path = said.rpartition(":")[2].strip()
        remedy = "correct the node's `path_map` or `reads`, or mount it there"
        return EngineError(f"{node} has no {path}; nothing was started: {remedy}")
    if "executable file not found" in lower or ("exec:" in lower and "no such file" in lower):
        return EngineError(f"image {image} has no such program; nothing was started: correct the command ({said})")
    if "network" in lower and "not found" in lower:
        return EngineError(f"{node} has no such network; nothing was started: correct the node's `network` ({said})")
    return EngineError(f"{node} refused to start it: {said}; nothing was started")


def not_pulled(node: str, image: str, said: str, tries: int) -> EngineError:
    """Why an image that a node lacks could not be brought there by its daemon."""
    lower, said = said.lower(), said.strip()
    lacks = f"{node} has no image {image}"
    if "no space left" in lower:
        return EngineError(f"the disk of {node} is full; {image} was not pulled: make room there, then resume ({said})")
    if any(word in lower for word in REFUSED):
        remedy = f"correct the name, or `docker login {image.partition('/')[0]}` as the broker's user; then resume"
        return EngineError(f"{lacks}, and its registry does not give it out; nothing was started: {remedy} ({said})")
    if any(word in lower for word in ABSENT):
        remedy = "correct the name, or bring it there with `wyolo images push`; then resume"
        return EngineError(f"{lacks}, and its registry has none; nothing was started: {remedy} ({said})")
    remedy = f"see whether {node} reaches the registry, or bring it with `wyolo images push`; then resume"
    cut = f"the pull broke off {tries} times" if tries > 1 else "the pull broke off"
    return EngineError(f"{lacks}, and {cut}; nothing was started, whole layers are kept: {remedy} ({said})")


def _reason(error: BaseException) -> str:
    chain = list(_chain(error))
    for each in chain:
        if isinstance(each, ssl.SSLCertVerificationError | aiohttp.ClientConnectorCertificateError):
            return f"its certificate is not of our authority or not for this name ({each}): see the node's `tls` folder"
    for each in chain:
        if isinstance(each, ssl.SSLError):
            return f"TLS failed ({each}): it wants a client certificate that it knows; see the node's `tls` folder"
    for each in chain:
        if isinstance(each, PermissionError):
            return f"{each.strerror}: this user may not use its socket"
        if isinstance(each, TimeoutError):
            return str(each) or "it does not answer"
    return str(error) or type(error).__name__


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen = 0
    while error is not None and seen < 10:
        yield error
        if isinstance(error, aiohttp.ClientConnectorError):
            yield error.os_error
        error, seen = error.__cause__ or error.__context__, seen + 1
