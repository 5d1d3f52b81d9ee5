"""Which waiting jobs start where, and why each of the others waits. Pure and deterministic.

Jobs are taken in the order given; of the nodes that fit one, the policy chooses. The first that does not fit holds
back, on one node, whatever it needs of what is free there; later jobs may use only what it leaves over. So small ones
fill gaps, and none can delay it. Who waits for what others hold of a GPU holds nothing back: nobody knows how long.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from broker.gpu_use import GpuUse
from broker.protocol.job import MAX_BACKOFF_S, GpuRequest, Resources
from broker.settings import Policy
from broker.wishes import Allowed

_LONGEST_WAIT = timedelta(seconds=MAX_BACKOFF_S)
_CLOSE = 1e-6  # cores and shares of a GPU are sums of fractions
_ONE_GPU, _NO_GPU = GpuRequest(count=1), GpuRequest(count=0)
_WHOLE = float("inf")  # planned share of a GPU that one job has for itself


@dataclass(frozen=True, slots=True)
class Waiting:
    job_id: int
    resources: Resources
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Occupied:
    """What an active job holds of its node."""

    job_id: int
    cpus: float
    memory_mib: int
    gpus: Sequence[str] = ()  # physical UUIDs
    gpu_share: float | None = None  # of each of its GPUs' memory; None: the whole GPU


@dataclass(frozen=True, slots=True)
class Room:
    """A node as placement sees it."""

    name: str
    slots: int  # jobs at a time
    cpus: float
    memory_mib: int
    gpus: Sequence[str] = ()  # physical UUIDs in the order of the node's indexes
    aside: frozenset[str] = frozenset()  # those of them that fell off the bus
    max_gpu: float = 1.0  # share of a GPU's memory that jobs may plan for together
    occupied: Sequence[Occupied] = ()
    closed: str = ""  # why nothing may start there: "is draining"
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    use: Mapping[str, GpuUse] = field(default_factory=dict[str, GpuUse])  # of its GPUs, as last measured
    foreign_mib: int = 0  # of a GPU, that others may hold before it counts
    load: float = 0.0  # measured, of its cores or its memory, whichever is more taken: 0..1
    allowed: Allowed = field(default_factory=Allowed)  # images and networks
    known: bool = True  # False: it was never reached, and what it has is a guess


@dataclass(frozen=True, slots=True)
class Assignment:
    job_id: int
    node: str
    gpus: Sequence[str]


@dataclass(frozen=True, slots=True)
class Plan:
    assignments: Sequence[Assignment]
    waits: dict[int, str]  # for each job that waits, why


def place(
    waiting: Iterable[Waiting],
    nodes: Iterable[Room],
    now: datetime,
    policy: Policy = "spread",
    explain: bool = True,
) -> Plan:
    """Without `explain` it ends when every slot is taken: jobs after that are not in the plan."""
    frees = [_Free(node) for node in sorted(nodes, key=lambda node: node.name)]
    assignments: list[Assignment] = []
    waits: dict[int, str] = {}
    for job in waiting:
        if not explain and all(free.slots < 1 for free in frees):
            break
        placed = _place_one(job, frees, now, policy)
        if isinstance(placed, Assignment):
            assignments.append(placed)
        else:
            waits[job.job_id] = placed
    return Plan(assignments, waits)


def without_gpus(nodes: Iterable[Room]) -> bool:
    """Whether none of them has any, as far as one can know."""
    return not any(node.gpus or not node.known for node in nodes)


def obstacles(nodes: Iterable[Room]) -> Callable[[Resources], str]:
    """Why none of the nodes can ever run a job; '' where one can, or may have what it needs once it is back."""
    frees = [_Free(node) for node in nodes]

    def obstacle(wanted: Resources) -> str:
        able = _able(wanted, frees)
        return able if isinstance(able, str) else ""

    return obstacle


def _able(wanted: Resources, frees: Sequence["_Free"]) -> tuple[Resources, list["_Free"]] | str:
    """The nodes that could ever run a job and what it needs there, or why there is none."""
    if not frees:
        return "there is no node to run on"
    pinned = [free for free in frees if wanted.node in (None, free.room.name)]
    if not pinned:
        return f"there is no node called {wanted.node}: nodes are {_names(frees)}"
    pinned, others = [free for free in pinned if free.labelled(wanted)], pinned
    if not pinned:
        return f"needs {_labels(wanted.labels)}; {'; '.join(free.labels() for free in others)}"
    gpu = wanted.gpu
    if gpu is not None and gpu.ids and not gpu.required and without_gpus(free.room for free in pinned):
        wanted = wanted.model_copy(update={"gpu": _NO_GPU})
    able = [free for free in pinned if free.room.closed or not free.never(wanted)]  # who is away may have more
    return (wanted, able) if able else "; ".join(free.never(wanted) for free in pinned)


def _place_one(job: Waiting, frees: Sequence["_Free"], now: datetime, policy: Policy) -> Assignment | str:
    if job.not_before is not None and now < job.not_before <= now + _LONGEST_WAIT:  # else the clock was set back
        return f"was interrupted; tried again at {job.not_before.astimezone():%H:%M:%S}"
    found = _able(job.resources, frees)
    if isinstance(found, str):
        return found
    wanted, able = found
    wants_gpu = wanted.gpu is None or wanted.gpu.count > 0
    suits = {free.room.name: wants_gpu == bool(free.room.gpus) for free in able}  # GPUs are left to those who use them
    able.sort(key=lambda free: not suits[free.room.name])
    opened = [free for free in able if not free.room.closed]
    closed = [f"{free.room.name} {free.room.closed}" for free in able if free.room.closed]
    if not opened:
        return "; ".join(closed)
    for free in sorted(opened, key=lambda free: (not suits[free.room.name], _ORDERS[policy](free))):
        gpus = free.fit(wanted)
        if gpus is not None:
            free.take(job.job_id, wanted, gpus)
            return Assignment(job.job_id, free.room.name, gpus)
    why = "; ".join([*(free.lacks(wanted) for free in opened), *closed])
    for free in opened:  # in an order that nothing that starts or ends can change: else two nodes take turns for ever
        if free.reserved_for is None and free.will_fit(wanted):
            free.reserve(job.job_id, wanted)
            break
    return f"waits for {why}"


@dataclass(slots=True)
class _Free:
    """What is left of a node while a plan is made."""

    room: Room
    slots: int = 0
    cpus: float = 0.0
    memory_mib: int = 0
    shares: dict[str, float] = field(default_factory=dict[str, float])  # planned share of each GPU
    users: dict[str, list[int]] = field(default_factory=dict[str, list[int]])  # GPU -> jobs
    others: dict[str, int] = field(default_factory=dict[str, int])  # MiB of each GPU that are not ours, and count
    fresh: dict[str, float] = field(default_factory=dict[str, float])  # share of each that this plan gives away
    reserved_for: int | None = None
    reserved_gpus: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        room = self.room
        self.slots = room.slots - len(room.occupied)
        self.cpus = room.cpus - sum(job.cpus for job in room.occupied)
        self.memory_mib = room.memory_mib - sum(job.memory_mib for job in room.occupied)
        self.shares = dict.fromkeys(room.gpus, 0.0)
        self.users = {uuid: [] for uuid in room.gpus}
        for job in room.occupied:
            self._use(job.job_id, job.gpus, job.gpu_share)
        held = {uuid: use.others_mib(self.shares[uuid]) for uuid, use in room.use.items() if uuid in self.shares}
        self.others = {uuid: mib for uuid, mib in held.items() if mib > room.foreign_mib}

    @property
    def taken(self) -> float:
        """Of its slots."""
        return 1 - self.slots / self.room.slots

    @property
    def load(self) -> float:
        """Of that of which most is taken."""
        room = self.room
        planned = [self.taken, 1 - self.cpus / room.cpus if room.cpus else 0.0, room.load]
        if room.memory_mib:
            planned.append(1 - self.memory_mib / room.memory_mib)
        if room.gpus:
            gpus = [min(1.0, share + self._others_share(uuid)) for uuid, share in self.shares.items()]
            planned.append(sum(gpus) / len(gpus))
        return max(planned)

    def labelled(self, wanted: Resources) -> bool:
        return all(self.room.labels.get(name) == value for name, value in wanted.labels.items())

    def labels(self) -> str:
        return f"{self.room.name} has {_labels(self.room.labels) if self.room.labels else 'no labels'}"

    def never(self, wanted: Resources) -> str:
        """Why a job can never run here; '' when it can."""
        room, gpu = self.room, self._gpu(wanted)
        if wanted.cpus > room.cpus + _CLOSE:
            return f"needs {wanted.cpus:g} cores, {room.name} has {room.cpus:g}"
        if wanted.memory_mib > room.memory_mib:
            return f"needs {wanted.memory_mib} MiB of memory, {room.name} has {room.memory_mib}"
        if gpu.count > len(room.gpus):
            return f"needs {_gpus(gpu.count)}, {room.name} has {len(room.gpus) or 'none'}"
        if outside := [index for index in gpu.ids if index >= len(room.gpus) or index < 0]:
            return f"needs GPU {outside[0]}, {room.name} has {len(room.gpus) or 'none'}"
        if gpu.memory_fraction is not None and gpu.count and gpu.memory_fraction > room.max_gpu + _CLOSE:
            return f"needs {gpu.memory_fraction:g} of a GPU, on {room.name} jobs may use {room.max_gpu:g}"
        return room.allowed.refuses(wanted, room.name)

    def fit(self, wanted: Resources) -> tuple[str, ...] | None:
        """The GPUs it gets (maybe none), or None when it does not fit now."""
        if self.slots < 1 or self.cpus + _CLOSE < wanted.cpus or self.memory_mib < wanted.memory_mib:
            return None
        gpu = self._gpu(wanted)
        found = [uuid for uuid in self._candidates(gpu) if self._joins(uuid, gpu.memory_fraction)]
        found = [uuid for uuid in found if uuid not in self.reserved_gpus]
        if gpu.memory_fraction is not None:
            found.sort(key=lambda uuid: -self.shares[uuid])  # fill a shared GPU before opening another
        elif not gpu.ids:
            found.sort(key=self._others_share)
        return tuple(found[: gpu.count]) if len(found) >= gpu.count else None

    def take(self, job_id: int, wanted: Resources, gpus: Sequence[str]) -> None:
        self.slots -= 1
        self.cpus -= wanted.cpus
        self.memory_mib -= wanted.memory_mib
        share = self._gpu(wanted).memory_fraction
        self._use(job_id, gpus, share)
        for uuid in gpus:
            self.fresh[uuid] = self.fresh.get(uuid, 0.0) + (share or 0.0)

    def will_fit(self, wanted: Resources) -> bool:
        """Once our own jobs have ended."""
        gpu = self._gpu(wanted)
        free = [uuid for uuid in self._candidates(gpu) if uuid not in self.room.aside]
        return sum(self._left_by_others(uuid, gpu.memory_fraction) for uuid in free) >= gpu.count

    def reserve(self, job_id: int, wanted: Resources) -> None:
        """Hold back what it needs of what is free. Every part that it lacks is thereby closed to later jobs."""
        gpu = self._gpu(wanted)
        nearest = sorted(
            self._candidates(gpu),
            key=lambda uuid: (
                not self._joins(uuid, gpu.memory_fraction),
                uuid in self.room.aside or not self._left_by_others(uuid, gpu.memory_fraction),
                self.shares[uuid] == _WHOLE,
            ),
        )
        self.reserved_for = job_id
        self.reserved_gpus = frozenset(nearest[: gpu.count])
        self.slots = max(0, self.slots - 1)
        self.cpus = max(0.0, self.cpus - wanted.cpus)
        self.memory_mib = max(0, self.memory_mib - wanted.memory_mib)

    def lacks(self, wanted: Resources) -> str:
        name, gpu = self.room.name, self._gpu(wanted)
        joinable = sum(self._joins(uuid, gpu.memory_fraction) for uuid in self._candidates(gpu))
        if joinable < gpu.count:
            return f"{_gpus(gpu.count)}: {name} has {len(self.room.gpus)}, {self._busy()}"
        free = self.room.slots - len(self.room.occupied)
        if free < 1:
            return f"a slot: {name} runs {len(self.room.occupied)} of {self.room.slots} ({self._holders()})"
        if self.reserved_for is not None:
            return f"job {self.reserved_for}, which is next on {name}"
        if self.slots < 1:
            return f"a slot: {name} has {self.room.slots}"
        if self.cpus + _CLOSE < wanted.cpus:
            return f"{wanted.cpus:g} cores: {name} has {max(0.0, self.cpus):g} of {self.room.cpus:g} free"
        free_mib = max(0, self.memory_mib)
        return f"{wanted.memory_mib} MiB of memory: {name} has {free_mib} of {self.room.memory_mib} free"

    def _gpu(self, wanted: Resources) -> GpuRequest:
        """What the job asks of this node: one GPU where it does not say and there are any, and the CPU where there is
        none and it does not insist."""
        gpu = wanted.gpu or _ONE_GPU
        if not self.room.gpus and not gpu.required and not gpu.ids:
            return _NO_GPU
        return gpu if len(gpu.ids) <= gpu.count else gpu.model_copy(update={"count": len(gpu.ids)})

    def _candidates(self, gpu: GpuRequest) -> list[str]:
        if not gpu.ids:
            return list(self.room.gpus)
        named = [self.room.gpus[index] for index in gpu.ids]
        return named if gpu.count <= len(named) else [*named, *(u for u in self.room.gpus if u not in named)]

    def _joins(self, uuid: str, fraction: float | None) -> bool:
        if uuid in self.room.aside or not self._left_by_others(uuid, fraction):
            return False
        if fraction is None:
            return not self.users[uuid]
        planned = self.shares[uuid] + fraction + self._others_share(uuid)
        return planned <= self.room.max_gpu + _CLOSE and self._free_now(uuid, fraction)

    def _left_by_others(self, uuid: str, fraction: float | None) -> bool:
        """Whether what is not ours leaves room for a job, were it alone with that."""
        if fraction is None:
            return uuid not in self.others
        return fraction + self._others_share(uuid) <= self.room.max_gpu + _CLOSE

    def _others_share(self, uuid: str) -> float:
        return self.others[uuid] / self.room.use[uuid].total_mib if uuid in self.others else 0.0

    def _free_now(self, uuid: str, fraction: float) -> bool:
        """By what was measured, without what this plan has given away since."""
        use = self.room.use.get(uuid)
        if use is None:
            return True
        used = max(0, use.used_mib - self.room.foreign_mib) / use.total_mib
        return used + self.fresh.get(uuid, 0.0) + fraction <= 1 + _CLOSE

    def _use(self, job_id: int, gpus: Sequence[str], share: float | None) -> None:
        for uuid in gpus:
            if uuid in self.shares:  # else it was taken out of the settings, or set aside
                self.shares[uuid] += _WHOLE if share is None else share
                self.users[uuid].append(job_id)

    def _busy(self) -> str:
        count, aside = len(self.room.gpus), len(self.room.aside)
        busy = sum(bool(users) for users in self.users.values())
        jobs = sorted({job for users in self.users.values() for job in users})
        words: list[str] = []
        if busy:
            amount = {1: "it is", 2: "both"}.get(count, "all") if busy == count else f"{busy} of them"
            words.append(f"{amount} busy ({_jobs(jobs)})")
        if aside:
            words.append(f"{aside} set aside")
        if self.others:
            words.append(f"{len(self.others)} with {sum(self.others.values())} MiB of processes that are not ours")
        return ", ".join(words)

    def _holders(self) -> str:
        return _jobs(sorted(job.job_id for job in self.room.occupied))


# Lower is better; names decide between equals, for the nodes come in their order.
_ORDERS: Mapping[Policy, Callable[[_Free], float]] = {
    "spread": lambda free: free.taken,
    "pack": lambda free: -free.taken,
    "least-loaded": lambda free: free.load,
}


def _labels(labels: Mapping[str, str]) -> str:
    named = ", ".join(f"{name}={value}" for name, value in sorted(labels.items()))
    return f"the label{'s' if len(labels) > 1 else ''} {named}"


def _gpus(count: int) -> str:
    return "a GPU" if count == 1 else f"{count} GPUs"


def _jobs(ids: Sequence[int]) -> str:
    shown = ", ".join(str(job_id) for job_id in ids[:6]) + (" ..." if len(ids) > 6 else "")
    return f"job {shown}" if len(ids) == 1 else f"jobs {shown}"


def _names(frees: Sequence[_Free]) -> str:
    return ", ".join(free.room.name for free in frees)
