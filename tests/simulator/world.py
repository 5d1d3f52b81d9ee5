"""Everything around a broker, and what people asked of it: what really happened, for the oracle to compare."""

import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from broker.control import Control
from broker.errors import BadInput, Conflict, LedgerFull, NotFound
from broker.ledger import reads, schema
from broker.protocol.api import ResolveRequest, SubmitRequest
from broker.protocol.job import CommandWork, Job, JobSpec, TrainWork
from broker.protocol.states import ACTIVE, JobState, Priority
from broker.settings import NodeSettings, Settings
from tests.simulator.fake_engine import Node
from tests.simulator.fake_queue import Redis
from tests.simulator.life import LEDGER, Disk, Life, new_home
from tests.simulator.loop import VirtualLoop
from tests.simulator.process import Mood, Process

Verb = Literal[
    "stop", "kill", "preempt", "evict", "resume", "hold", "release", "priority", "move", "remove", "rerun", "resolve"
]
_PUTS_BACK: frozenset[Verb] = frozenset({"resume", "release", "preempt", "evict"})
LEASE_S = 9.0
_LINES = 400  # of the broker's log that a failure shows


@dataclass(slots=True)
class Submission:
    """One thing that somebody wanted run, however often they had to say it."""

    request: SubmitRequest
    key: str | None
    tries: int = 0
    acknowledged: list[int] = field(default_factory=list[int])


@dataclass(slots=True)
class Asked:
    """What was asked about a job, whether or not it was answered."""

    verbs: Counter[Verb] = field(default_factory=Counter[Verb])
    open: Counter[Verb] = field(default_factory=Counter[Verb])  # on their way
    stopped_at: int | None = None  # fence, when a stop was acknowledged and nothing put it back since


class World:
    def __init__(self, home: Path, template: Path, seed: int, fenced: Collection[str] = ()) -> None:
        """`fenced`: nodes whose trainings end by themselves when they hear nothing of their broker for LEASE_S."""
        self.loop = VirtualLoop(seed, steady=seed == 0)
        self.loop.set_exception_handler(self._unhandled)
        self.mood = Mood()
        self.damaged: set[str] = set()
        self.disk = Disk()
        self.redis = Redis()
        self.nodes = {
            "alpha": Node("alpha", self.loop, self.mood, self.damaged, self._started, slots=2),
            "beta": Node("beta", self.loop, self.mood, self.damaged, self._started, slots=2, gpus=("GPU-b",)),
        }
        self.fenced = frozenset(fenced)
        nodes = [
            NodeSettings.model_validate(
                {"name": name, "slots": node.slots, "self_fencing_s": LEASE_S if name in fenced else 0}
            )
            for name, node in self.nodes.items()
        ]
        values: dict[str, Any] = {"data_dir": home, "nodes": nodes, "preflight": False, "backoff_s": 1, "grace_s": 5}
        self.settings = Settings(**values)
        new_home(home, template)
        self.ledger = schema.open_reader(home / LEDGER)
        self.broken: list[str] = []
        self.log: deque[str] = deque(maxlen=_LINES)
        self._handler = _Listener(self)
        logging.getLogger("broker").addHandler(self._handler)
        logging.getLogger("broker").propagate = False
        self._level = logging.getLogger("broker").level
        logging.getLogger("broker").setLevel(logging.INFO)
        self.submissions: list[Submission] = []
        self.asked: dict[int, Asked] = {}
        self.given_up: set[tuple[int, int]] = set()  # attempts of which a person said that they are gone
        self.crashes = 0
        self.life: Life | None = None
        self.begin()

    # --- brokers ---

    def begin(self) -> None:
        if self.life is None:
            self.note("a broker starts")
            self.life = Life(self.settings, self.loop, self.disk, self.redis, self.nodes)

    def crash(self) -> None:
        if self.life is not None:
            self.note("the broker is killed")
            self.crashes += 1
            self.life.kill()
            self._gone()

    def leave(self) -> None:
        if self.life is not None:
            self.note("the broker is asked to end")
            self.life.leave()
            self._gone()

    def _gone(self) -> None:
        self.life = None
        for asked in self.asked.values():
            asked.open.clear()

    # --- people ---

    def submit(self, submission: Submission) -> None:
        async def say(control: Control) -> None:
            job, fresh = await control.submit(submission.request, submission.key)
            self.note(f"job {job.id} is acknowledged{'' if fresh else ' again'}")
            submission.acknowledged.append(job.id)

        if self.life is not None:
            submission.tries += 1
            self._ask(f"submit {submission.request.name}", say)

    def want(self, verb: Verb, job_id: int, act: Callable[[Control], Awaitable[Job | None]]) -> None:
        """Ask for something; who asks does not wait for the answer."""
        if self.life is None:
            return
        asked = self.asked.setdefault(job_id, Asked())
        asked.verbs[verb] += 1
        asked.open[verb] += 1
        if verb in _PUTS_BACK:
            asked.stopped_at = None

        async def say(control: Control) -> None:
            try:
                job = await act(control)
            finally:
                asked.open[verb] -= 1
            self.note(f"{verb} {job_id} is answered" + (f": {job.state} {job.intent or ''}" if job is not None else ""))
            if verb in {"stop", "kill"} and job is not None and not any(asked.open[each] for each in _PUTS_BACK):
                asked.stopped_at = job.fence

        self._ask(f"{verb} {job_id}", say)

    def resolve(self, job: Job) -> None:
        """The truth about an attempt that is out of reach."""
        assert job.node is not None
        process = self.process(job.id, job.fence)
        coming = {(ref.job_id, ref.fence) for ref in self.nodes[job.node].on_their_way}
        may_run = (process is not None and process.alive) or (job.id, job.fence) in coming
        verdict = ResolveRequest(verdict="alive" if may_run else "gone")
        if not may_run:
            self.given_up.add((job.id, job.fence))
        self.want("resolve", job.id, lambda control: control.resolve(job.id, verdict))

    def _ask(self, what: str, say: Callable[[Control], Awaitable[None]]) -> None:
        async def answered(control: Control) -> None:
            try:
                await say(control)
            except (NotFound, Conflict, BadInput, LedgerFull) as error:
                self.note(f"{what} is refused: {error}")
            except Exception as error:
                self.breaks(f"{what} raised {error!r}")

        assert self.life is not None
        self.note(f"asked: {what}")
        self.life.ask(what, answered)

    # --- what is seen ---

    def note(self, text: str) -> None:
        self.log.append(f"{self.loop.time():10.4f} {text}")

    def breaks(self, what: str) -> None:
        self.note(f"BROKEN: {what}")
        self.broken.append(what)

    def processes(self) -> list[Process]:
        return [process for node in self.nodes.values() for process in node.processes.values()]

    def process(self, job_id: int, fence: int) -> Process | None:
        for process in self.processes():
            if (process.ref.job_id, process.ref.fence) == (job_id, fence):
                return process
        return None

    def job_ids(self) -> list[int]:
        return [row[0] for row in self.ledger.execute("SELECT id FROM jobs ORDER BY id")]

    def jobs(self) -> list[Job]:
        return reads.specs(self.ledger, self.job_ids())

    def _started(self, process: Process) -> None:
        """The promises that count at the moment when something starts."""
        ref = process.ref
        self.note(f"{ref.name} starts")
        others = [each.ref.name for each in self.processes() if each.working and each.ref.job_id == ref.job_id]
        if others != [ref.name]:
            self.breaks(f"two attempts of one job are alive: {', '.join(others)}")
        rows = self.ledger.execute("SELECT state, fence FROM jobs WHERE id = ?", (ref.job_id,)).fetchall()
        if not rows or rows[0][1] != ref.fence or JobState(rows[0][0]) not in ACTIVE:
            self.breaks(f"{ref.name} starts, and the ledger says {rows}")
        asked = self.asked.get(ref.job_id)
        if asked is not None and asked.stopped_at is not None and ref.fence > asked.stopped_at:
            self.breaks(f"{ref.name} starts after its stop was acknowledged")

    def _unhandled(self, _loop: object, context: dict[str, object]) -> None:
        self.breaks(f"unhandled: {context.get('message')} {context.get('exception')!r}")

    # --- the end ---

    def step(self, times: int = 1) -> None:
        for _ in range(times):
            self.loop.step()

    def close(self) -> None:
        if self.life is not None:
            self.life.kill()
            self.life = None
        self.ledger.close()
        logging.getLogger("broker").removeHandler(self._handler)
        logging.getLogger("broker").propagate = True
        logging.getLogger("broker").setLevel(self._level)
        self.loop.close()


class _Listener(logging.Handler):
    """Keeps what a broker logs; what it calls broken is broken."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        self._world.note(f"    {record.name}: {text}")
        if record.exc_info is not None:
            self._world.note(logging.Formatter().formatException(record.exc_info))
            self._world.breaks(f"the broker logged a traceback: {text}: {record.exc_info[1]!r}")


def command(name: str, hold: bool, priority: Priority) -> SubmitRequest:
    spec = JobSpec(work=CommandWork(argv=["true"]), name=name, priority=priority)
    return SubmitRequest(spec=spec, hold=hold, name=name)


def training(name: str, hold: bool, priority: Priority, epochs: int) -> SubmitRequest:
    work = TrainWork(model="yolov8n.yaml", args={"data": "coco8.yaml", "epochs": epochs})
    return SubmitRequest(spec=JobSpec(work=work, name=name, priority=priority), hold=hold, name=name)
