"""A terminal in a job's container, by WebSocket.

From the client: first a TerminalRequest; then what is typed as bytes (none: there is no more), and TerminalSize. To it:
bytes, of which the first is 1 (output), 2 (errors) or 0 (one message of its bytes was taken: it sends no more than
TERMINAL_WINDOW ahead, so that whoever has gone is noticed even where a program reads nothing); last a TerminalEnd.
"""

import asyncio
from contextlib import suppress

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from pydantic import ValidationError

from broker.api.services import Services
from broker.engines.base import Enterable, Shell
from broker.errors import BrokerError, Conflict
from broker.ledger.records import Change
from broker.protocol.api import TERMINAL_WINDOW, TerminalEnd, TerminalRequest, TerminalSize
from broker.protocol.states import ACTIVE
from broker.protocol.text import harmless

router = APIRouter()
FIRST_S = 10.0  # for what is wanted
_TAKEN = b"\x00"


@router.websocket("/jobs/{job_id}/exec")
async def terminal(socket: WebSocket, job_id: int) -> None:
    await socket.accept()
    with suppress(WebSocketDisconnect, RuntimeError):  # whoever asked has gone
        try:
            async with asyncio.timeout(FIRST_S):
                wanted = TerminalRequest.model_validate_json(await socket.receive_text())
            shell = await _opened(socket, job_id, wanted)
        except (ValidationError, TimeoutError, KeyError):
            return await _end(socket, TerminalEnd(error="the first message is no request for a terminal"))
        except BrokerError as error:
            return await _end(socket, TerminalEnd(error=str(error)))
        try:
            end = await _talk(socket, shell)
        finally:
            await shell.close()
        await _end(socket, end)


async def _opened(socket: WebSocket, job_id: int, wanted: TerminalRequest) -> Shell:
    """Raises NotFound, Conflict, EngineUnreachable."""
    broker: Services = socket.app.state.services
    job = await broker.ledger.job(job_id)
    if job.state not in ACTIVE:
        raise Conflict(f"job {job_id} is {job.state}: it has no container any more")
    handle = broker.supervisor.handle(job_id)
    if handle is None:
        raise Conflict(f"job {job_id} is {job.state}: its container cannot be reached now")
    if not isinstance(handle, Enterable):
        raise Conflict(f"job {job_id} is a process of the broker's own machine: open a shell there")
    shell = await handle.enter(wanted.argv, wanted.term, wanted.tty, wanted.tty or wanted.hears)
    by = harmless(socket.headers.get("x-wyolo-user", "")[:100], 100)
    await broker.ledger.advance(Change(job_id, "exec", expect=ACTIVE, by=by, data={"argv": wanted.argv}))
    if wanted.size is not None:
        await shell.resize(wanted.size.columns, wanted.size.lines)
    return shell


async def _talk(socket: WebSocket, shell: Shell) -> TerminalEnd:
    """Until the program ends. Raises WebSocketDisconnect."""
    heard: asyncio.Queue[bytes] = asyncio.Queue(TERMINAL_WINDOW)
    tasks = [
        asyncio.create_task(_hear(socket, shell, heard), name="terminal in"),
        asyncio.create_task(_pass_on(socket, shell, heard), name="terminal input"),
        asyncio.create_task(_say(socket, shell), name="terminal out"),
    ]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        return TerminalEnd(code=await shell.exit_code())
    except (BrokerError, OSError) as error:
        return TerminalEnd(error=str(error) or type(error).__name__)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _hear(socket: WebSocket, shell: Shell, heard: asyncio.Queue[bytes]) -> None:
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        if (data := message.get("bytes")) is not None:
            await heard.put(data)
        elif text := message.get("text"):
            with suppress(ValidationError):
                size = TerminalSize.model_validate_json(text)
                await shell.resize(size.columns, size.lines)


async def _pass_on(socket: WebSocket, shell: Shell, heard: asyncio.Queue[bytes]) -> None:
    while True:
        if data := await heard.get():
            await shell.write(data)
        else:
            await shell.end_input()
        await socket.send_bytes(_TAKEN)


async def _say(socket: WebSocket, shell: Shell) -> None:
    while (said := await shell.read()) is not None:
        stream, data = said
        await socket.send_bytes(bytes([stream]) + data)


async def _end(socket: WebSocket, end: TerminalEnd) -> None:
    await socket.send_text(end.model_dump_json())
    await socket.close()
