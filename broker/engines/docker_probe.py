"""The GPUs of a node that our own gauges do not reach: a small container there reads NVML and tells what it reads, a
JSON line every few seconds. It is started again when it ends, and goes when the broker does.
"""

import asyncio
import json
import logging
import random
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from broker.engines import container
from broker.engines.container import BROKER_LABEL, Template
from broker.engines.docker_errors import Refused, not_started
from broker.engines.docker_link import Link
from broker.errors import EngineError
from broker.protocol.fleet import GpuSample

PROBE_LABEL = "wyolo.probe"
AGAIN_S = (2.0, 600.0)  # first and longest pause before it is started again
SOUND_S = 60.0  # of a life after which the next pause is the first again
SILENT_S = 60.0  # without a word, before it is taken for dead
FIRST_S = 5.0  # that the first reading is waited for
_SAMPLES = TypeAdapter(list[GpuSample])
_MIB = 1024 * 1024
_log = logging.getLogger(__name__)


class Probe:
    """Begins with the first `read`. `gpus`: all, or UUIDs or indexes."""

    def __init__(self, link: Link, broker_id: str, template: Template, gpus: Literal["all"] | Sequence[str]) -> None:
        self._link = link
        self._broker_id = broker_id
        self._template = template
        self._gpus = gpus
        self._known: dict[str, GpuSample] = {}  # by UUID: one that was there once is lost when it is not there any more
        self._heard = asyncio.Event()  # or it is known why not
        self._task: asyncio.Task[None] | None = None
        self.trouble = ""  # why there is nothing new

    @property
    def gpu_uuids(self) -> Sequence[str]:
        """Of those that work."""
        return [gpu.uuid for gpu in self._sorted() if not gpu.lost]

    async def read(self) -> list[GpuSample]:
        """The newest reading, by index."""
        if self._task is None:
            self._task = asyncio.create_task(self._live(), name=f"probe {self._link.node}")
        if not self._heard.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(FIRST_S):
                    await self._heard.wait()
        return self._sorted()

    async def close(self) -> None:
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        with suppress(Refused, EngineError):
            await self._clear()

    def _sorted(self) -> list[GpuSample]:
        return sorted(self._known.values(), key=lambda gpu: (gpu.index, gpu.uuid))

    async def _live(self) -> None:
        loop = asyncio.get_running_loop()
        pause = AGAIN_S[0]
        while True:
            began = loop.time()
            try:
                why = await self._run()
            except EngineError as error:
                why = str(error)
            if loop.time() - began > SOUND_S:
                pause = AGAIN_S[0]
            if self._known or self._gpus != "all":  # a node that is not known to have any may have none
                self.trouble = f"its GPUs are not measured: {why}"
                _log.warning("%s: %s", self._link.node, self.trouble)
            else:
                _log.info("no GPUs are seen on %s: %s", self._link.node, why)
            self._heard.set()
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))
            pause = min(pause * 2, AGAIN_S[1])

    async def _run(self) -> str:
        """Until it ends: why. Raises EngineError."""
        try:
            await self._clear()
            made = await self._link.create(f"wyolo-probe-{self._broker_id[:12]}-{self._link.node}", self._body())
            await self._link.start(made)
            said = await self._listen(made)
        except Refused as refused:
            raise not_started(self._link.node, self._template.image, refused) from refused
        return said or "the probe ended without a word"

    async def _listen(self, made: str) -> str:
        """What it said last of what went wrong."""
        loop = asyncio.get_running_loop()
        params = {"stdout": "1", "stderr": "1", "follow": "1"}
        buffer, rest, said = b"", b"", ""
        try:
            async with asyncio.timeout(SILENT_S) as patience:
                async for data in self._link.chunks(f"containers/{made}/logs", params):
                    patience.reschedule(loop.time() + SILENT_S)
                    buffer += data
                    while len(buffer) >= 8 and len(buffer) >= (end := 8 + int.from_bytes(buffer[4:8], "big")):
                        stream, text, buffer = buffer[0], buffer[8:end], buffer[end:]
                        if stream == 1:
                            *lines, rest = (rest + text).split(b"\n")
                            for line in lines:
                                self._hear(line)
                        else:
                            said = text.decode(errors="replace").strip()[-200:] or said
        except TimeoutError:
            return f"the probe said nothing for {SILENT_S:.0f} s: the driver there may hang"
        return said

    def _hear(self, line: bytes) -> None:
        try:
            seen = _SAMPLES.validate_python(json.loads(line)["gpus"])
        except (ValidationError, ValueError, KeyError, TypeError):
            _log.debug("the probe of %s said what nobody understands", self._link.node)
            return
        now = {gpu.uuid: gpu for gpu in seen}
        for uuid, before in self._known.items():
            if uuid not in now or now[uuid].lost:  # its name and size are remembered
                now[uuid] = before.model_copy(update={"lost": True, "utilisation": 0.0, "processes": []})
        self._known = now
        self.trouble = ""
        self._heard.set()

    async def _clear(self) -> None:
        """Of this broker's lives before. Raises Refused, EngineUnreachable."""
        for each in await self._link.listed(f"{PROBE_LABEL}={self._link.node}"):
            if each["Labels"].get(BROKER_LABEL) == self._broker_id:
                await self._link.remove(each["Id"], force=True)

    def _body(self) -> dict[str, Any]:
        which = {"Count": -1} if self._gpus == "all" else {"DeviceIDs": list(self._gpus)}
        return {
            "Image": self._template.image,
            "Entrypoint": [self._template.python, "-m", "trainer.gpu"],
            "Cmd": [],
            "Env": ["HOME=/tmp", "PYTHONUNBUFFERED=1", "NVIDIA_DRIVER_CAPABILITIES=utility"],
            "User": self._template.user,
            "Healthcheck": {"Test": ["NONE"]},
            "Labels": {BROKER_LABEL: self._broker_id, PROBE_LABEL: self._link.node},
            "HostConfig": {
                "Init": True,
                "CapDrop": ["ALL"],
                "SecurityOpt": ["no-new-privileges"],
                "ReadonlyRootfs": True,
                "Tmpfs": {"/tmp": "rw,nosuid,nodev,size=16m,mode=1777"},
                "NetworkMode": "none",
                "Memory": 512 * _MIB,
                "MemorySwap": 512 * _MIB,
                "PidsLimit": 64,
                "RestartPolicy": {"Name": "no"},
                "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "1"}},
                "Mounts": container.read_only(self._template),
                "DeviceRequests": [{"Driver": "", "Capabilities": [["gpu", "utility"]], **which}],
            },
        }
