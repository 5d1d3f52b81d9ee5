"""Reads submissions: SubmitRequest -> JobSpec and what is to be said about it. Submitting, editing, validating and
running again share it. Nothing is changed here; what may block or is large is read in threads of its own.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from broker.admission.admitted import Admitted
from broker.admission.checks import Checks
from broker.admission.prospects import Prospects
from broker.placement import Room
from broker.protocol.api import SubmitRequest
from broker.protocol.job import CommandWork, JobSpec
from broker.settings import Settings

READERS = 4  # threads; looking through a data set may take a while


class Admission:
    def __init__(self, settings: Settings, rooms: Callable[[], Sequence[Room]] = tuple) -> None:
        """`rooms`: what each node has, as far as it is known."""
        self._settings = settings
        self._rooms = rooms
        self._checks = Checks(settings)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="admission")

    def close(self) -> None:
        self._readers.shutdown(wait=False, cancel_futures=True)

    async def read(self, request: SubmitRequest, base: JobSpec | None = None, by: str = "") -> Admitted:
        """`base`: what is edited; the request says only what changes of it, or what is there in its place. `by`: the
        user where nobody is named."""
        return (await self.read_all([request], base, by))[0]

    async def read_all(
        self, requests: Sequence[SubmitRequest], base: JobSpec | None = None, by: str = ""
    ) -> list[Admitted]:
        """In the order given."""
        loop = asyncio.get_running_loop()
        read: dict[int, Admitted] = {}
        reading: dict[int, asyncio.Future[Admitted]] = {}
        for number, request in enumerate(requests):
            spec = request.spec
            if spec is not None and isinstance(spec.work, CommandWork) and not request.set and request.config is None:
                read[number] = self._checks.finish(spec, request, by, base)
            else:
                reading[number] = loop.run_in_executor(self._readers, self._read, request, base, by)
        for number, future in reading.items():
            read[number] = await future
        prospects = Prospects(self._rooms())
        return [prospects.said(read[number]) for number in range(len(requests))]

    def _read(self, request: SubmitRequest, base: JobSpec | None, by: str) -> Admitted:
        """Blocking."""
        from broker.admission.reading import read  # brings YAML, tables and pictures along: once it is needed

        return read(request, base, by, self._settings, self._checks)
