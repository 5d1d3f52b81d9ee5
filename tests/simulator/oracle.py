"""What must be true: of every moment, of a queue that has settled, and of the end when nothing is left to do."""

from collections import Counter
from collections.abc import Callable

from broker.ledger import reads
from broker.protocol.job import Attempt, Job
from broker.protocol.states import ACTIVE, FINAL, TRANSITIONS, EndReason, JobState
from tests.simulator.process import Process
from tests.simulator.world import Verb, World

_SETTLED_S, _QUIET_S = 120.0, 3_000.0  # virtual; how long it may take until there is nothing left to do
_ACTIVE = tuple(ACTIVE)


def at_every_moment(world: World) -> None:
    if world.life is not None:
        world.life.check()
    _agree(world, not world.broken, "; ".join(world.broken))
    rows = world.ledger.execute("SELECT id, fence FROM jobs WHERE state IN (?, ?, ?)", _ACTIVE)
    active = set(rows.fetchall())
    working = [process for process in world.processes() if process.working]
    for process in working:
        ref = process.ref
        _agree(world, (ref.job_id, ref.fence) in active, f"{ref.name} works, and the ledger does not know of it")
    jobs = Counter(process.ref.job_id for process in working)
    _agree(world, all(count == 1 for count in jobs.values()), f"a job has two attempts that work: {jobs}")
    gpus = Counter(gpu for process in working for gpu in process.launch.gpus)
    _agree(world, all(count == 1 for count in gpus.values()), f"a GPU has two owners: {gpus}")
    for node in world.nodes.values():
        here = [process.ref.name for process in node.processes.values() if process.working]
        _agree(world, len(here) <= node.slots, f"{node.name} runs more than it has slots for: {here}")


def settled(world: World) -> None:
    """While nothing ends by itself: what waits in Redis is what the ledger calls queued, in its order; the outbox is
    empty, who waits has a reason, nobody is unknown and followers know it all."""
    _heal(world)
    world.mood.paused, steady = True, world.loop.steady
    world.loop.steady = True
    try:
        _until(world, lambda: _is_settled(world), _SETTLED_S, lambda: f"it does not settle: {_is_settled(world)}")
    finally:
        world.mood.paused, world.loop.steady = False, steady


def at_the_end(world: World) -> None:
    """Everything is made well and left alone until it is quiet; then the whole story is checked."""
    _heal(world)
    world.mood.calm = True
    _until(world, lambda: _is_quiet(world), _QUIET_S, lambda: f"it does not come to rest: {_waiting(world)}")
    at_every_moment(world)
    _submissions_are_there_once(world)
    for job in world.jobs():
        attempts = reads.attempts(world.ledger, job.id)
        _is_where_it_should(world, job, attempts)
        _went_legal_ways(world, job)
        _attempts_are_complete(world, job, attempts)
        _ran_once(world, job, attempts)
        if job.kind == "train":
            _epochs_are_complete(world, job)


# --- coming to rest ---


def _heal(world: World) -> None:
    world.disk.full = False
    world.redis.down = world.redis.slow = False
    world.redis.forgetful = world.redis.stale = 0.0
    for node in world.nodes.values():
        node.slow, node.forgetful = False, 0.0
        node.find()
    world.begin()


def _until(world: World, true: Callable[[], object], seconds: float, what: Callable[[], str]) -> None:
    end = world.loop.time() + seconds
    while not (found := true()) or isinstance(found, str):
        at_every_moment(world)
        _agree(world, world.loop.time() < end, what())
        world.loop.pass_time(1.0)


def _is_settled(world: World) -> bool | str:
    assert world.life is not None
    outbox = world.ledger.execute("SELECT op, job_id FROM outbox").fetchall()
    rows = world.ledger.execute("SELECT id FROM jobs WHERE state = 'queued' ORDER BY priority, rank, id").fetchall()
    queued = [row[0] for row in rows]
    if world.life.requests:
        return f"requests are open: {world.life.requests}"
    if outbox:
        return f"the outbox holds {outbox}"
    if queued != world.redis.in_order():
        return f"queued are {queued}, Redis has {world.redis.in_order()}"
    if silent := [job_id for job_id in queued if not world.life.waits_for(job_id)]:
        return f"nobody says why {silent} wait"
    if unknown := [job.id for job in world.jobs() if job.state is JobState.UNKNOWN]:
        return f"{unknown} are unknown though every node answers"
    told = {job_id: job.state for job_id, job in world.life.followed.items()}
    are = {job.id: job.state for job in world.jobs()}
    if told.items() - are.items():
        return f"followers were told {told}, jobs are {are}"
    return True


def _is_quiet(world: World) -> bool:
    assert world.life is not None
    return not world.life.requests and not _waiting(world) and _is_settled(world) is True


def _waiting(world: World) -> list[str]:
    rest = FINAL | {JobState.HELD}
    return [f"job {job.id} is {job.state}: {job.message}" for job in world.jobs() if job.state not in rest]


# --- the whole story ---


def _submissions_are_there_once(world: World) -> None:
    jobs = world.jobs()
    for submission in world.submissions:
        name, known = submission.request.name, set(submission.acknowledged)
        ours = {job.id for job in jobs if job.name == name and job.parent_id is None}
        removed = {job_id for job_id in known if _asked(world, job_id, "remove")}
        _agree(world, known <= ours | removed, f"{name} was acknowledged as {known}, there are {ours}")
        if submission.key is not None:
            _agree(world, len(ours | known) <= 1, f"{name} was submitted with one key and is there as {ours | known}")
        _agree(world, len(ours) <= submission.tries, f"{name} was submitted {submission.tries} times, is {ours}")


def _is_where_it_should(world: World, job: Job, attempts: list[Attempt]) -> None:
    """Its state has a cause in what happened, or in what somebody asked."""
    last = world.process(job.id, job.fence)
    succeeded = last is not None and last.succeeded and not _unseen(world, attempts[-1])
    what = f"job {job.id} is {job.state} ({job.reason}: {job.message})"
    _agree(world, job.intent is None, f"{what} and still has an intent")
    match job.state:
        case JobState.COMPLETED:
            _agree(world, last is not None and last.succeeded, f"{what}, and its last attempt did not succeed")
        case JobState.STOPPED:
            _agree(world, bool(_asked(world, job.id, "stop", "kill")), f"{what}, and nobody asked for it")
        case JobState.HELD:
            held = any(job.id in each.acknowledged and each.request.hold for each in world.submissions)
            held = held or any(each.request.name == job.name and each.request.hold for each in world.submissions)
            _agree(world, held or bool(_asked(world, job.id, "hold")), f"{what}, and nobody asked for it")
        case JobState.FAILED if job.reason is EndReason.DEAD_LETTER:
            enough = len(attempts) >= world.settings.max_infra_deaths
            _agree(world, enough and not succeeded, f"{what} after {len(attempts)} attempts")
        case JobState.FAILED:
            _agree(world, last is not None and last.exit is not None and not succeeded, f"{what}: {last}")
        case _:
            _agree(world, False, f"{what} at the end")
    if succeeded and job.kind == "train" and not _asked(world, job.id, "resume"):
        _agree(world, job.state is JobState.COMPLETED, f"{what}, and its last attempt succeeded")


def _went_legal_ways(world: World, job: Job) -> None:
    state: JobState | None = None
    final = 0
    for entry in reads.audit(world.ledger, job.id, 0, 100_000):
        if entry.to_state is None:
            continue
        what = f"job {job.id} went from {entry.from_state} to {entry.to_state} ({entry.verb}, event {entry.seq})"
        if state is None:
            _agree(world, entry.verb == "submit", what)
        else:
            _agree(world, entry.from_state is state and entry.to_state in TRANSITIONS[state], f"{what} from {state}")
        state = entry.to_state
        final += state in FINAL
    _agree(world, state is job.state, f"job {job.id} is {job.state}, its events say {state}")
    told = sum(1 for each in world.redis.results if each["job_id"] == str(job.id))
    if not world.redis.flushes:
        _agree(world, told >= final, f"job {job.id} came to an end {final} times, results_queue has {told} of them")


def _attempts_are_complete(world: World, job: Job, attempts: list[Attempt]) -> None:
    fences = [attempt.fence for attempt in attempts]
    _agree(world, fences == list(range(1, job.fence + 1)), f"job {job.id} has attempts {fences}, fence {job.fence}")
    for attempt in attempts:
        what = f"attempt {attempt.fence} of job {job.id} ({attempt.reason}: {attempt.message})"
        _agree(world, attempt.ended_at is not None and attempt.reason is not None, f"{what} has no end")
        if (job.id, attempt.fence) in world.given_up:
            continue
        left = job.kind == "train" and attempt.node in world.fenced
        _agree(world, left or attempt.reason is not EndReason.NODE_LOST, f"{what} was given up, and nobody said so")
        process = world.process(job.id, attempt.fence)
        if process is None:
            continue
        assert process.exit is not None
        heard = (attempt.log_offset, attempt.last_event, attempt.exit_code)
        said = (len(process.output), process.said, process.exit.code)
        if _unseen(world, attempt):  # its files tell of it, and they lie here
            heard, said = heard[1:2], said[1:2]
        _agree(world, heard == said, f"{what}: offset, events, exit code are {heard}, it said {said}")


def _unseen(world: World, attempt: Attempt) -> bool:
    """Nobody saw how it ended: a person said that it is gone, or its lease was over."""
    process = world.process(attempt.job_id, attempt.fence)
    left = process is not None and process.fenced and attempt.exit_code is None
    return left or (attempt.job_id, attempt.fence) in world.given_up


def _ran_once(world: World, job: Job, attempts: list[Attempt]) -> None:
    """What succeeded is not run again, unless somebody asked."""
    for attempt in attempts[:-1]:
        process = world.process(job.id, attempt.fence)
        made_way = _asked(world, job.id, "preempt") or _asked(world, job.id, "evict")
        again = _asked(world, job.id, "resume") or (job.kind == "command" and made_way)
        if process is not None and process.succeeded and not _unseen(world, attempt):
            _agree(world, bool(again), f"attempt {attempt.fence} of job {job.id} succeeded, and it ran again")


def _epochs_are_complete(world: World, job: Job) -> None:
    table = reads.metrics(world.ledger, job.id, (), None)
    last = job.epochs if job.state is JobState.COMPLETED else max(table.epochs, default=0)
    missing = set(range(1, last + 1)) - set(table.epochs) - _unheard(world, job)
    _agree(world, not missing, f"job {job.id} ({job.state}) has epochs {table.epochs} of {last}")
    _agree(world, len(set(table.epochs)) == len(table.epochs) <= last, f"job {job.id} has epochs {table.epochs}")
    for row, epoch in enumerate(table.epochs):
        process = world.process(job.id, table.attempts[row])
        heard, said = table.columns["loss"][row], _value(process, epoch)
        _agree(world, heard == said, f"epoch {epoch} of job {job.id} is {heard} in the ledger, it was {said}")


def _unheard(world: World, job: Job) -> set[int]:
    """Epochs of attempts that were given up: what they said last was never to be heard."""
    given_up = [world.process(job.id, fence) for job_id, fence in world.given_up if job_id == job.id]
    return {epoch for process in given_up if process is not None for epoch in process.values}


def _value(process: Process | None, epoch: int) -> float | None:
    return None if process is None else process.values.get(epoch)


def _asked(world: World, job_id: int, *verbs: Verb) -> int:
    asked = world.asked.get(job_id)
    return 0 if asked is None else sum(asked.verbs[verb] for verb in verbs)


def _agree(world: World, true: bool, what: str) -> None:
    if not true:
        world.note(f"ORACLE: {what}")
        raise AssertionError(what)
