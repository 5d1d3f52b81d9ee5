"""A command in a sandbox, or a shell there on this terminal."""

import asyncio
import fcntl
import os
import signal
import struct
import sys
import termios
import tty
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from dind.engine import Engine
from dind.errors import NoSandbox, told
from dind.spec import Sandbox

SHELL = ("sh", "-l")
STDERR = 2


async def execute(engine: Engine, sandbox: Sandbox, command: list[str], *, terminal: bool) -> int:
    """Its exit code; what it writes goes to our stdout and stderr. `terminal`: it has ours, keys and all.

    Raises NoSandbox, EngineAway.
    """
    doing = f"run {command[0]} in {sandbox.container}"
    container = engine.docker.containers.container(sandbox.container)
    made = await engine.find(doing, container.exec(command, stdin=terminal, tty=terminal))
    if made is None:
        raise NoSandbox(f"there is no sandbox {sandbox.name} on {engine.where}")
    with told(doing, engine.where):
        async with made.start(detach=False) as stream:
            if terminal:
                await _on_this_terminal(made, stream)
            else:
                while (message := await stream.read_out()) is not None:
                    _write(STDERR if message.stream == STDERR else 1, message.data)
        return int((await made.inspect())["ExitCode"] or 0)


async def _on_this_terminal(made: Any, stream: Any) -> None:
    loop, keys = asyncio.get_running_loop(), asyncio.Queue[bytes]()
    stdin = sys.stdin.fileno()

    async def send() -> None:
        while True:
            await stream.write_in(await keys.get())

    async def resize() -> None:
        rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(stdin, termios.TIOCGWINSZ, bytes(8)))
        await made.resize(h=rows, w=columns)

    sizes = set[asyncio.Task[None]]()

    def resized() -> None:
        task = loop.create_task(resize(), name="resize")
        sizes.add(task)
        task.add_done_callback(sizes.discard)

    with _raw(stdin):
        loop.add_reader(stdin, lambda: keys.put_nowait(os.read(stdin, 4096)))
        loop.add_signal_handler(signal.SIGWINCH, resized)
        sender: asyncio.Task[None] | None = None
        try:
            first = await stream.read_out()  # it has begun: now it can be typed to, and has a size
            sender = loop.create_task(send(), name="keys")
            await resize()
            while first is not None:
                _write(1, first.data)
                first = await stream.read_out()
        finally:
            loop.remove_reader(stdin)
            loop.remove_signal_handler(signal.SIGWINCH)
            for task in (*sizes, *([sender] if sender else [])):
                task.cancel()


@contextmanager
def _raw(fd: int) -> Generator[None]:
    before = termios.tcgetattr(fd)
    tty.setraw(fd)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
