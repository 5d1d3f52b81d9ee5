"""What can happen to a broker, for Hypothesis to put into every order."""

import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broker.control import Control
from broker.protocol.api import MoveRequest
from broker.protocol.job import Job
from broker.protocol.states import JobState, Priority
from tests.simulator import oracle
from tests.simulator.process import Fate
from tests.simulator.world import Submission, Verb, World, command, training

MOST_JOBS = 8
WHICH = st.integers(0, MOST_JOBS - 1)
NODES = st.sampled_from(["alpha", "beta"])
SOON = st.sampled_from([0.01, 0.3, 1.0, 2.5, 6.0, 20.0])  # seconds
STEPS = st.integers(0, 60)
FATES: st.SearchStrategy[Fate] = st.sampled_from(["complete", "fail", "die", "killed", "oom", "no result"])


@dataclass(slots=True)
class Tally:
    interleavings: int = 0
    crashes: int = 0
    started: int = 0  # processes
    seconds: float = 0.0  # virtual

    def told(self, seconds: float) -> str:
        return (
            f"{self.interleavings:,} interleavings in {seconds:.0f} s ({self.interleavings * 60 / seconds:,.0f} a "
            f"minute): {self.started:,} processes, {self.crashes:,} brokers killed, {self.seconds / 3600:,.1f} h"
        )


class Simulator(RuleBasedStateMachine):
    room: Path  # where data directories are made
    tally = Tally()

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(dir=self.room))
        self.begun = False

    @classmethod
    def template(cls) -> Path:
        """An empty ledger."""
        return cls.room / "empty.db"

    @initialize(
        seed=st.integers(0, 1 << 30), trainings=st.integers(0, 3), commands=st.integers(0, 2), fenced=st.sets(NODES)
    )
    def begin(self, seed: int, trainings: int, commands: int, fenced: set[str]) -> None:
        """`seed`: of every latency and every fate; 0: no latency."""
        self.world = World(self.home, self.template(), seed, fenced)
        self.begun = True
        for number in range(trainings + commands):
            self.submit(number < trainings, keyed=number % 2 == 0, hold=False, priority=Priority.NORMAL, epochs=3)

    # --- people ---

    @precondition(lambda self: len(self.world.submissions) < MOST_JOBS)
    @rule(train=st.booleans(), keyed=st.booleans(), hold=st.sampled_from([False, False, False, True]),
          priority=st.sampled_from(Priority), epochs=st.integers(1, 4))  # fmt: skip
    def submit(self, train: bool, keyed: bool, hold: bool, priority: Priority, epochs: int) -> None:
        name = f"{'training' if train else 'command'}-{len(self.world.submissions)}"
        request = training(name, hold, priority, epochs) if train else command(name, hold, priority)
        submission = Submission(request, f"key of {name}" if keyed else None)
        self.world.submissions.append(submission)
        self.world.submit(submission)

    @rule(which=WHICH)
    def submit_again(self, which: int) -> None:
        if self.world.submissions:
            submission = self.world.submissions[which % len(self.world.submissions)]
            if submission.key is not None or not submission.acknowledged:
                self.world.submit(submission)

    @rule(which=WHICH, verb=st.sampled_from(["stop", "kill"]))
    def end(self, which: int, verb: Verb) -> None:
        self._want(verb, which, lambda control, job: control.stop(job) if verb == "stop" else control.kill(job))

    @rule(which=WHICH)
    def preempt(self, which: int) -> None:
        self._want("preempt", which, lambda control, job: control.preempt(job))

    @rule(which=WHICH, name=NODES)
    def evict(self, which: int, name: str) -> None:
        self._want("evict", which, lambda control, job: control.evict(job, name))

    @rule(which=WHICH, epochs=st.one_of(st.none(), st.integers(1, 6)))
    def resume(self, which: int, epochs: int | None) -> None:
        self._want("resume", which, lambda control, job: control.resume(job, epochs))

    @rule(which=WHICH)
    def rerun(self, which: int) -> None:
        if len(self.world.job_ids()) < MOST_JOBS:
            self._want("rerun", which, lambda control, job: control.rerun(job))

    @rule(which=WHICH)
    def hold(self, which: int) -> None:
        self._want("hold", which, lambda control, job: control.hold(job))

    @rule(which=WHICH)
    def release(self, which: int) -> None:
        self._want("release", which, lambda control, job: control.release(job))

    @rule(which=WHICH, priority=st.sampled_from(Priority))
    def prioritise(self, which: int, priority: Priority) -> None:
        self._want("priority", which, lambda control, job: control.priority(job, priority))

    @rule(which=WHICH, other=WHICH, how=st.sampled_from(["before", "after", "first", "last"]))
    def move(self, which: int, other: int, how: str) -> None:
        ids = self.world.job_ids()
        if ids:
            beside = ids[other % len(ids)]
            where = MoveRequest.model_validate({how: beside} if how in {"before", "after"} else {"to": how})
            self._want("move", which, lambda control, job: control.move(job, where))

    @rule(which=WHICH, files=st.booleans())
    def remove(self, which: int, files: bool) -> None:
        async def act(control: Control, job: int) -> None:
            await control.remove(job, files)

        self._want("remove", which, act)

    @rule(which=WHICH)
    def resolve(self, which: int) -> None:
        """A person who knows the truth says it of a job that is unknown."""
        unknown = [job for job in self.world.jobs() if job.state is JobState.UNKNOWN]
        if unknown:
            self.world.resolve(unknown[which % len(unknown)])

    @rule(name=NODES, before=SOON, after=st.sampled_from([0.0, 0.01, 0.3, 4.0]), slow=st.booleans())
    def lose_node_and_say_so(self, name: str, before: float, after: float, slow: bool) -> None:
        """Its power is cut, somebody says so of its jobs, and it comes back."""
        self.world.nodes[name].cut_power()
        self.world.nodes[name].slow = slow
        self.world.loop.pass_time(before)
        for job in self.world.jobs():
            if job.state is JobState.UNKNOWN and job.node == name:
                self.world.resolve(job)
        self.world.loop.pass_time(after)
        self.world.nodes[name].find()

    def _want(self, verb: Verb, which: int, act: Callable[[Control, int], Awaitable[Job | None]]) -> None:
        ids = self.world.job_ids()
        if ids:
            job_id = ids[which % len(ids)]
            self.world.want(verb, job_id, lambda control: act(control, job_id))

    # --- what runs ---

    @rule(which=WHICH, fate=FATES)
    def meet_fate(self, which: int, fate: Fate) -> None:
        alive = [process for process in self.world.processes() if process.alive]
        if alive:
            alive[which % len(alive)].meet(fate)

    @rule(which=WHICH)
    def work(self, which: int) -> None:
        alive = [process for process in self.world.processes() if process.alive]
        if alive:
            alive[which % len(alive)].work()

    # --- time, and the broker's end ---

    @rule(steps=STEPS)
    def go_on(self, steps: int) -> None:
        self.world.step(steps)

    @rule(seconds=SOON)
    def wait(self, seconds: float) -> None:
        self.world.loop.pass_time(seconds)

    @rule(steps=STEPS, seconds=st.sampled_from([0.0, 0.1, 3.0, 30.0]))
    def crash(self, steps: int, seconds: float) -> None:
        self.world.step(steps)
        self.world.crash()
        self.world.loop.pass_time(seconds)
        self.world.begin()

    @rule(seconds=st.sampled_from([0.1, 3.0]))
    def restart(self, seconds: float) -> None:
        self.world.leave()
        self.world.loop.pass_time(seconds)
        self.world.begin()

    # --- faults of others ---

    @rule(down=st.booleans())
    def lose_redis(self, down: bool) -> None:
        self.world.redis.down = down

    @rule()
    def flush_redis(self) -> None:
        self.world.redis.flush()

    @rule()
    def restart_redis(self) -> None:
        self.world.redis.restart()

    @rule(slow=st.booleans(), forgetful=st.sampled_from([0.0, 0.3]), stale=st.sampled_from([0.0, 0.5]))
    def trouble_redis(self, slow: bool, forgetful: float, stale: float) -> None:
        redis = self.world.redis
        redis.slow, redis.forgetful, redis.stale = slow, forgetful, stale

    @rule(full=st.booleans())
    def fill_disk(self, full: bool) -> None:
        self.world.disk.full = full

    @rule(name=NODES, frozen=st.booleans())
    def lose_node(self, name: str, frozen: bool) -> None:
        self.world.nodes[name].lose(frozen)

    @rule(name=NODES)
    def find_node(self, name: str) -> None:
        self.world.nodes[name].find()

    @rule(name=NODES)
    def cut_power(self, name: str) -> None:
        self.world.nodes[name].cut_power()

    @rule(name=NODES, slow=st.booleans(), forgetful=st.sampled_from([0.0, 0.3]))
    def trouble_node(self, name: str, slow: bool, forgetful: float) -> None:
        self.world.nodes[name].slow, self.world.nodes[name].forgetful = slow, forgetful

    # --- the oracle ---

    @rule()
    def look_closely(self) -> None:
        oracle.settled(self.world)

    @invariant()
    def holds(self) -> None:
        oracle.at_every_moment(self.world)

    def teardown(self) -> None:
        try:
            if self.begun:
                try:
                    oracle.at_the_end(self.world)
                except AssertionError as error:
                    error.add_note("\n".join(self.world.log))
                    raise
                finally:
                    self._count()
                    self.world.close()
        finally:
            shutil.rmtree(self.home)

    def _count(self) -> None:
        self.tally.interleavings += 1
        self.tally.crashes += self.world.crashes
        self.tally.started += len(self.world.processes())
        self.tally.seconds += self.world.loop.time()
