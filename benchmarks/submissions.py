"""(c) Durable submissions over HTTP: one connection, 64 connections, batches beside saq's undurable enqueue."""

import asyncio
import json
import shutil
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks import live
from benchmarks.report import Row, percentile

SPEC = {"spec": {"work": {"kind": "command", "argv": ["/bin/true"]}}, "hold": True}
CONNECTIONS = 64
BATCH = 1000


def _request(broker: live.Live, path: str, body: bytes, key: str) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: wyolo\r\nAuthorization: Bearer {broker.key}\r\nIdempotency-Key: {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _answer(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    if b" 201 " not in head.split(b"\r\n", 1)[0]:
        raise RuntimeError(head.decode())
    length = next(
        int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
    )
    await reader.readexactly(length)


async def _submit(broker: live.Live, count: int, name: str) -> list[float]:
    """`count` submissions one after another on one connection; seconds of each."""
    address = urlsplit(broker.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    body = json.dumps(SPEC).encode()
    took: list[float] = []
    for number in range(count):
        began = time.perf_counter()
        writer.write(_request(broker, "/api/v1/jobs", body, f"{name}-{number}"))
        await _answer(reader)
        took.append(time.perf_counter() - began)
    writer.close()
    return took


async def _many(broker: live.Live, each: int) -> float:
    began = time.perf_counter()
    await asyncio.gather(*(_submit(broker, each, f"many-{c}") for c in range(CONNECTIONS)))
    return CONNECTIONS * each / (time.perf_counter() - began)


async def _batches(broker: live.Live, count: int) -> float:
    address = urlsplit(broker.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    body = json.dumps({"jobs": [SPEC] * BATCH}).encode()
    began = time.perf_counter()
    for number in range(count):
        writer.write(_request(broker, "/api/v1/jobs:batch", body, f"batch-{number}"))
        await _answer(reader)
    rate = count * BATCH / (time.perf_counter() - began)
    writer.close()
    return rate


async def _saq(count: int) -> float:
    """saq's enqueue, `CONNECTIONS` at a time, on a Redis without persistence."""
    from redis.asyncio import Redis
    from saq.queue.redis import RedisQueue

    server = shutil.which("redis-server")
    if server is None:
        raise RuntimeError("no redis-server on PATH: install redis-server")
    with tempfile.TemporaryDirectory() as folder:
        socket = str(Path(folder, "redis.sock"))
        child = await asyncio.create_subprocess_exec(
            *[server, "--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder],
            stdout=asyncio.subprocess.DEVNULL,
        )
        try:
            await asyncio.to_thread(live.until, Path(socket).exists, 10)
            queue = RedisQueue(Redis(unix_socket_path=socket))
            began = time.perf_counter()
            for _ in range(count // CONNECTIONS):
                await asyncio.gather(*(queue.enqueue("noop") for _ in range(CONNECTIONS)))
            rate = count // CONNECTIONS * CONNECTIONS / (time.perf_counter() - began)
            await queue.disconnect()
            return rate
        finally:
            child.terminate()
            await child.wait()


def run() -> list[Row]:
    with live.broker() as broker:
        asyncio.run(_submit(broker, 200, "warm"))
        single = asyncio.run(_submit(broker, 1000, "single"))
        many = asyncio.run(_many(broker, 100))
        batch = asyncio.run(_batches(broker, 20))
    saq = asyncio.run(_saq(10_000))
    p50, p99 = percentile(single, 0.5) * 1e3, percentile(single, 0.99) * 1e3
    return [
        Row("durable submission, one connection, p50", f"{p50:.2f} ms", f"p99 {p99:.2f} ms", "at most 5 ms", p50 <= 5),
        Row(f"durable submissions, {CONNECTIONS} connections", f"{many:.0f}/s", "", "at least 1,500/s", many >= 1500),
        Row(
            f"durable submissions in batches of {BATCH}",
            f"{batch:.0f}/s",
            f"saq enqueue, not durable, {saq:.0f}/s",
            "at least saq's",
            batch >= saq,
        ),
    ]
