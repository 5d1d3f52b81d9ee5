"""A real broker as a child process, with its own data directory, Redis and free port, and a client of its API."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import httpx

from broker.protocol.api import JobPage, LogChunk
from broker.protocol.event import AuditEntry
from broker.protocol.job import Job
from broker.protocol.states import FINAL, JobState
from tests.running import broker_environment
from tests.waiting import until_awaited, until_sync

START_S, END_S = 30.0, 10.0
SETTINGS = {
    "WYOLO_NODES": '[{"name": "local", "slots": 4, "cpus": 64, "memory_mib": 65536, "gpus": "none"}]',
    "WYOLO_BACKOFF_S": "0.1",
    "WYOLO_GRACE_S": "5",
    "WYOLO_LOG_LEVEL": "debug",
}


class Daemon:
    """`python -m broker` on `data_dir`. `env` goes over SETTINGS."""

    def __init__(self, data_dir: Path, env: Mapping[str, str] | None = None, flags: Sequence[str] = ()) -> None:
        self.data_dir = data_dir
        self.output = data_dir.with_suffix(".out")  # what it printed, of every start
        self.environment = broker_environment(**{**SETTINGS, **(env or {})})
        self._flags = flags
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def key(self) -> str:
        return (self.data_dir / "key").read_text().strip()

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, env: Mapping[str, str] | None = None) -> Self:
        """Answers when it returns. `env`: for this start alone."""
        self.launch(env)
        until_sync(self._answers, START_S, "the broker's address")
        return self

    def launch(self, env: Mapping[str, str] | None = None) -> None:
        """Without waiting for an answer."""
        command = [sys.executable, "-P", "-m", "broker", "--data-dir", str(self.data_dir), "--port", "0", *self._flags]
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                command, env={**self.environment, **(env or {})}, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def ended(self, timeout: float = END_S) -> int:
        """Its exit code, once it has ended."""
        assert self._process is not None
        return self._process.wait(timeout)

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.ended()

    def kill(self) -> None:
        """SIGKILL, and gone."""
        self.signal(signal.SIGKILL)
        self.ended()

    def clear(self) -> None:
        """Neither the broker nor its Redis outlives this."""
        if self.alive:
            self.kill()
        self.kill_redis()

    @property
    def redis_pid(self) -> int:
        """Of its own Redis; 0 while none runs."""
        try:
            pid = int((self.data_dir / "redis" / "redis.pid").read_text().split()[0])
            return pid if "redis" in Path(f"/proc/{pid}/comm").read_text() else 0
        except (OSError, IndexError, ValueError):
            return 0

    def kill_redis(self) -> bool:
        """SIGKILL. False when there was none."""
        pid = self.redis_pid
        if pid:
            os.kill(pid, signal.SIGKILL)
        return bool(pid)

    def said(self) -> str:
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def client(self) -> "Client":
        return Client(self.url, self.key)

    def _answers(self) -> bool:
        assert self.alive, f"the broker ended: {self.said()[-2000:]}"
        try:
            about = json.loads((self.data_dir / "broker.json").read_text())
        except FileNotFoundError:
            return False
        self.url = about["url"] if about["pid"] == self.pid else ""
        return bool(self.url)


class Client:
    """The API with the key, and what tests ask of it all the time."""

    def __init__(self, url: str, key: str) -> None:
        self.http = httpx.AsyncClient(
            base_url=f"{url}/api/v1",
            headers={"Authorization": f"Bearer {key}"},
            timeout=30,
            trust_env=False,
            limits=httpx.Limits(max_connections=100),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    async def submit(
        self, *argv: str, key: str | None = None, work: Mapping[str, Any] | None = None, **more: Any
    ) -> Job:
        """A command. `work`: cwd, env. `more`: other fields of the submission."""
        body = {"spec": {"work": {"kind": "command", "argv": argv, **(work or {})}}, **more}
        answer = await self.http.post("/jobs", json=body, headers={"Idempotency-Key": key} if key else {})
        assert answer.status_code in {200, 201}, answer.text
        return Job.model_validate_json(answer.content)

    async def shell(self, script: str, **more: Any) -> Job:
        return await self.submit("/bin/sh", "-c", script, **more)

    async def lasting(self, **more: Any) -> Job:
        """One that runs now, and until it is ended."""
        job = await self.shell("echo begun; while :; do sleep 0.02; done", **more)
        await self.says(job.id, "begun")
        return await self.reaches(job.id, JobState.RUNNING)

    async def verb(self, job_id: int, verb: str, expect: int = 200, **body: Any) -> Job:
        answer = await self.http.post(f"/jobs/{job_id}/{verb}", json=body)
        assert answer.status_code == expect, answer.text
        return Job.model_validate_json(answer.content)

    async def refused(self, job_id: int, verb: str, status: int = 409, **body: Any) -> str:
        """What the broker says when it will not."""
        answer = await self.http.post(f"/jobs/{job_id}/{verb}", json=body)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        return answer.json()["detail"]

    async def job(self, job_id: int) -> Job:
        answer = await self.http.get(f"/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        return Job.model_validate_json(answer.content)

    async def jobs(self, filter: str = "", limit: int = 1000) -> list[Job]:
        answer = await self.http.get("/jobs", params={"filter": filter, "limit": limit})
        assert answer.status_code == 200, answer.text
        return JobPage.model_validate_json(answer.content).jobs

    async def events(self, job_id: int) -> list[AuditEntry]:
        answer = await self.http.get(f"/jobs/{job_id}/events")
        return [AuditEntry.model_validate(entry) for entry in answer.json()]

    async def verbs(self, job_id: int) -> list[str]:
        """What happened to a job, in order."""
        return [entry.verb for entry in await self.events(job_id)]

    async def logs(self, job_id: int, **query: Any) -> LogChunk:
        answer = await self.http.get(f"/jobs/{job_id}/logs", params=query)
        assert answer.status_code == 200, answer.text
        return LogChunk.model_validate_json(answer.content)

    async def lines(self, job_id: int, **query: Any) -> list[str]:
        return [line.text for line in (await self.logs(job_id, **query)).lines]

    async def reaches(self, job_id: int, *states: JobState, timeout: float = 20.0) -> Job:
        """The job once it is in one of these states (by default: has ended)."""
        wanted = frozenset(states) or FINAL

        async def there() -> Job | None:
            job = await self.job(job_id)
            return job if job.state in wanted else None

        found = await until_awaited(there, timeout, f"job {job_id} in {'/'.join(sorted(wanted))}")
        assert found is not None
        return found

    async def says(self, job_id: int, text: str, timeout: float = 20.0) -> None:
        """Waits for a line of its output."""

        async def said() -> bool:
            return text in await self.lines(job_id)

        await until_awaited(said, timeout, f"job {job_id} says {text!r}")

    async def end_all(self) -> None:
        """Nothing waits or runs any more."""
        while left := await self.jobs("state:waiting,active"):
            for job in left:
                await self.verb(job.id, "kill")
            for job in left:
                await self.reaches(job.id)
