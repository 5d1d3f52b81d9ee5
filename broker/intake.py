"""Takes what other programs put into `training_queue`. A message is acknowledged only once the ledger has the job;
one that nobody can use goes to `training_queue:dead` with the reason.
"""

import asyncio
import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import orjson

from broker.control import Control
from broker.dataset.files import read_text
from broker.errors import BadInput, IdempotencyConflict, LedgerFull, NotFound, QueueDown
from broker.intake_message import IntakeMessage
from broker.protocol.api import ErrorCode, Finding, SubmitRequest
from broker.protocol.document import MAX_BYTES
from broker.protocol.findings import near
from broker.protocol.states import Priority
from broker.queue import Queue

WHO = "training_queue"
PAUSE_S = 1.0  # after Redis did not answer, or the ledger could take nothing
_PRIORITIES = {priority.value: priority for priority in Priority} | {
    "medium": Priority.NORMAL,
    "debug": Priority.HIGH,
}  # older programs have four

_log = logging.getLogger(__name__)


class Intake:
    def __init__(self, queue: Queue, control: Control) -> None:
        self._queue = queue
        self._control = control

    async def run(self) -> None:
        """Runs for ever."""
        while True:
            try:
                messages = await self._queue.intake()
                taken = await asyncio.gather(*(self._take(message) for message in messages))
                await self._queue.ack([message.id for message, done in zip(messages, taken, strict=True) if done])
                if all(taken):
                    continue
            except QueueDown as error:
                _log.debug("intake: %s", error)
            await asyncio.sleep(PAUSE_S)

    async def _take(self, message: IntakeMessage) -> bool:
        """Whether it is in the ledger, or among the dead."""
        key, digest = f"{WHO}:{message.id}", _digest(message.fields)
        try:
            request, trial = await asyncio.to_thread(read, message.fields)
            job, fresh = await self._control.submit(request, key, WHO, trial, digest)
        except BadInput as error:
            return await self._refused(message, key, digest, str(error))
        except IdempotencyConflict as error:
            return await self._buried(message, str(error))
        except ValueError as error:  # a value that nobody foresaw: the messages behind it must not wait for a person
            _log.exception("intake: message %s cannot be read", message.id)
            return await self._refused(message, key, digest, f"it cannot be read: {type(error).__name__}: {error}")
        except NotFound:  # taken before, and removed since
            return True
        except LedgerFull as error:
            _log.warning("intake: message %s waits: %s", message.id, error)
            return False
        _log.info("intake: message %s is job %d%s", message.id, job.id, "" if fresh else " already")
        return True

    async def _refused(self, message: IntakeMessage, key: str, digest: str, why: str) -> bool:
        """One that was taken before is done with: what it names may be gone by now."""
        try:
            taken = await self._control.answered(key, digest)
        except IdempotencyConflict as error:
            return await self._buried(message, str(error))
        if taken is None:
            return await self._buried(message, why)
        _log.info("intake: message %s is job %d already", message.id, taken[0])
        return True

    async def _buried(self, message: IntakeMessage, why: str) -> bool:
        _log.warning("intake: message %s is of no use: %s", message.id, why)
        await self._queue.bury(message, why)
        return True


def read(fields: Mapping[str, str]) -> tuple[SubmitRequest, int | None]:
    """The submission and the trial's number. Blocking: it may read a file. Raises BadInput."""
    given = {name: value.strip() for name, value in fields.items() if value.strip()}
    config, base_dir = given.get("config"), None
    if config is None and "config_path" in given:
        config, base_dir = _file(Path(given["config_path"]))
    if config is None:
        raise _bad("", "neither `config` nor `config_path` is in it", f"it has: {', '.join(given) or 'nothing'}")
    if len(config) > MAX_BYTES:
        raise _bad("config", f"has {len(config):,} characters, at most {MAX_BYTES:,} are read")
    trial = given.get("trial_number")
    if trial is not None and not (trial.isascii() and trial.isdecimal()):
        raise _bad("trial_number", f"`{trial[:40]}` is no whole number")
    request = SubmitRequest(
        config=config,
        base_dir=base_dir,
        user=given.get("user_code") or given.get("user"),
        task_id=given.get("task_id"),
        priority=_priority(given.get("priority")),
    )
    return request, None if trial is None else int(trial[:18])


def _file(path: Path) -> tuple[str, str]:
    """A configuration's text and the folder it lies in."""
    if not path.is_absolute():
        raise _bad("config_path", f"{path} is a relative path", "write it whole")
    try:
        return read_text(path, MAX_BYTES), str(path.parent)
    except OSError as error:
        raise _bad("config_path", f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise _bad("config_path", f"{path} is not UTF-8 (byte {error.start})") from error
    except ValueError as error:  # a pipe, a folder, a file too large, a name with a NUL
        raise _bad("config_path", f"{path} cannot be read: {error}") from error


def _digest(fields: Mapping[str, str]) -> str:
    """Of the message as it was sent, whatever the file that it names says by now."""
    return hashlib.sha256(orjson.dumps(sorted(fields.items()))).hexdigest()


def _priority(text: str | None) -> Priority | None:
    if text is None:
        return None
    if text.lower() not in _PRIORITIES:
        raise _bad("priority", f"`{text[:40]}` is none", near(text, _PRIORITIES) or "high, normal or low")
    return _PRIORITIES[text.lower()]


def _bad(where: str, message: str, hint: str = "") -> BadInput:
    findings: Sequence[Finding] = [Finding(where=where, message=message, hint=hint)]
    return BadInput(findings, ErrorCode.BAD_REQUEST)
