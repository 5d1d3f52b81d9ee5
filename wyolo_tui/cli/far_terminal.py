"""This terminal, or what is piped to us, joined to a program in a job's container. Whatever happens, a terminal is left
as it was found."""

import asyncio
import os
import shutil
import signal
import sys
import termios
import threading
import tty
from collections.abc import Generator
from contextlib import contextmanager, suppress

from pydantic import ValidationError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from broker.protocol.api import TERMINAL_WINDOW, ErrorCode, Problem, TerminalEnd, TerminalRequest, TerminalSize
from wyolo_tui.client import BrokerClient
from wyolo_tui.unanswered import BrokerOut, ProblemError

READ_BYTES = 65_536
_TAKEN, _ERRORS = b"\x00", b"\x02"  # the first byte of what comes; else it is output
Input = bytes | None  # empty: there is no more; None: the terminal has another size
OPEN_S = 30.0


async def talk(broker: BrokerClient, job_id: int, wanted: TerminalRequest) -> int:
    """The exit code of what ran there. Raises Unanswered."""
    url, headers = broker.socket(f"/jobs/{job_id}/exec")
    try:
        async with connect(
            url,
            additional_headers=headers,
            proxy=None,
            open_timeout=OPEN_S,
            ping_timeout=None,  # while nobody reads our output we do not hear the answer
            max_size=None,
            compression=None,
        ) as line:
            await line.send(wanted.model_dump_json())
            with raw() if wanted.tty else _as_it_is():
                end = await _joined(line, wanted)
    except BrokenPipeError:  # whoever read our output has gone
        raise
    except (OSError, InvalidHandshake, TimeoutError) as error:
        raise BrokerOut(f"the broker at {broker.url} opens no terminal: {error}") from error
    if end.code is None:
        raise ProblemError(Problem(title="no terminal", status=409, detail=end.error, code=ErrorCode.CONFLICT))
    return end.code


async def _joined(line: ClientConnection, wanted: TerminalRequest) -> TerminalEnd:
    loop = asyncio.get_running_loop()
    typed: asyncio.Queue[Input] = asyncio.Queue()
    window = threading.Semaphore(TERMINAL_WINDOW)
    if wanted.tty or wanted.hears:
        threading.Thread(target=_read, args=(loop, typed, window), name="input", daemon=True).start()
    if wanted.tty:
        loop.add_signal_handler(signal.SIGWINCH, lambda: typed.put_nowait(None))
    hearing = asyncio.create_task(_hear(line, typed), name="input")
    try:
        async for message in line:
            if isinstance(message, str):
                with suppress(ValidationError):
                    return TerminalEnd.model_validate_json(message)
            elif message[:1] == _TAKEN:
                window.release()
            else:
                stream = sys.stderr if message[:1] == _ERRORS else sys.stdout
                stream.buffer.write(message[1:])
                stream.flush()
    except ConnectionClosed:
        pass
    finally:
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)
        if wanted.tty:
            loop.remove_signal_handler(signal.SIGWINCH)
    return TerminalEnd(error="the connection was lost; what was opened there has ended, the job goes on")


async def _hear(line: ClientConnection, typed: "asyncio.Queue[Input]") -> None:
    while True:
        data = await typed.get()
        if data is not None:
            await line.send(data)
        else:
            size = shutil.get_terminal_size()
            await line.send(TerminalSize(columns=size.columns, lines=size.lines).model_dump_json())


def _read(loop: asyncio.AbstractEventLoop, typed: "asyncio.Queue[Input]", window: threading.Semaphore) -> None:
    """To its end, and no further ahead than `window`."""
    with suppress(OSError, RuntimeError):  # the terminal or the loop is gone
        while window.acquire():
            data = os.read(sys.stdin.fileno(), READ_BYTES)
            loop.call_soon_threadsafe(typed.put_nowait, data)
            if not data:
                return


@contextmanager
def raw() -> Generator[None]:
    """Every key goes to the other side, ctrl+c too."""
    handle = sys.stdin.fileno()
    before = termios.tcgetattr(handle)
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    ends = (signal.SIGTERM, signal.SIGHUP)
    try:
        for number in ends:
            loop.add_signal_handler(number, task.cancel if task is not None else loop.stop)
        tty.setraw(handle)
        yield
    finally:
        termios.tcsetattr(handle, termios.TCSADRAIN, before)
        for number in ends:
            loop.remove_signal_handler(number)


@contextmanager
def _as_it_is() -> Generator[None]:
    yield
