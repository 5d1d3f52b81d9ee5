"""Placement: what starts where, in which order, and what a waiting person is told."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.gpu_use import GpuUse
from broker.placement import Assignment, Occupied, Room, Waiting, obstacles, place
from broker.protocol.job import GpuRequest, Resources
from broker.settings import Policy
from broker.wishes import Allowed

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NO_GPU = GpuRequest(count=0)


def room(gpus: int = 0, slots: int = 4, occupied: Sequence[Occupied] = (), name: str = "local") -> Room:
    return Room(name, slots, cpus=8, memory_mib=1000, gpus=[f"{name}-{n}" for n in range(gpus)], occupied=occupied)


def job(
    job_id: int, gpu: GpuRequest | None = None, cpus: float = 1, memory: int = 0, node: str | None = None
) -> Waiting:
    return Waiting(job_id, Resources(cpus=cpus, memory_mib=memory, gpu=gpu, node=node))


def on(job_id: int, *gpus: str, share: float | None = None) -> Occupied:
    return Occupied(job_id, 1, 0, gpus, share)


def test_each_training_gets_a_gpu_of_its_own() -> None:
    plan = place([job(1), job(2), job(3)], [room(gpus=2)], NOW)
    assert plan.assignments == [Assignment(1, "local", ("local-0",)), Assignment(2, "local", ("local-1",))]
    assert plan.waits == {3: "waits for a GPU: local has 2, both busy (jobs 1, 2)"}


def test_without_gpus_a_training_runs_on_the_cpu_unless_it_insists() -> None:
    plan = place([job(1), job(2, GpuRequest(required=True))], [room()], NOW)
    assert plan.assignments == [Assignment(1, "local", ())]
    assert plan.waits == {2: "needs a GPU, local has none"}


def test_an_older_wish_for_a_gpu_falls_back_on_the_cpu_only_where_no_node_has_any() -> None:
    wish = job(1, GpuRequest(ids=[0], memory_fraction=0.5))
    assert place([wish], [room()], NOW).assignments == [Assignment(1, "local", ())]
    assert place([job(1, GpuRequest(ids=[0], required=True))], [room()], NOW).waits == {
        1: "needs a GPU, local has none"
    }
    busy = room(gpus=1, name="big", occupied=[on(9, "big-0")])
    assert place([wish], [room(), busy], NOW).waits == {1: "waits for a GPU: big has 1, it is busy (job 9)"}
    unseen = replace(room(name="unseen"), closed="cannot be reached", known=False)
    assert place([wish], [room(), unseen], NOW).waits == {1: "unseen cannot be reached"}


def test_what_no_node_can_ever_run_is_known_beforehand() -> None:
    nodes = [room(gpus=1, occupied=[on(9, "local-0")]), room(name="small")]
    assert obstacles(nodes)(Resources(cpus=8, gpu=GpuRequest(ids=[0], required=True))) == ""
    assert obstacles(nodes)(Resources(cpus=9)) == "needs 9 cores, local has 8; needs 9 cores, small has 8"
    assert "needs GPU 7, local has 1" in obstacles(nodes)(Resources(gpu=GpuRequest(ids=[7], required=True)))
    away = replace(room(name="away"), closed="cannot be reached", known=False)
    assert obstacles([*nodes, away])(Resources(cpus=9)) == ""


def test_a_job_for_the_cpu_runs_beside_trainings() -> None:
    plan = place([job(1, GpuRequest(count=0))], [room(gpus=1, occupied=[on(9, "local-0")])], NOW)
    assert plan.assignments == [Assignment(1, "local", ())]


def test_jobs_that_say_so_share_a_gpu_up_to_its_limit() -> None:
    half = GpuRequest(memory_fraction=0.5)
    node = replace(room(gpus=2), max_gpu=0.9)
    plan = place([job(1, GpuRequest(memory_fraction=0.4)), job(2, half), job(3, half), job(4)], [node], NOW)
    assert [(done.job_id, done.gpus) for done in plan.assignments] == [
        (1, ("local-0",)),
        (2, ("local-0",)),
        (3, ("local-1",)),
    ]
    assert "waits for a GPU: local has 2, both busy (jobs 1, 2, 3)" in plan.waits[4]
    assert "jobs may use 0.9" in place([job(1, GpuRequest(memory_fraction=1))], [node], NOW).waits[1]


def test_a_job_gets_the_gpus_it_names() -> None:
    node = room(gpus=4, occupied=[on(9, "local-2")])
    plan = place([job(1, GpuRequest(count=2, ids=[3, 1])), job(2, GpuRequest(ids=[2])), job(3)], [node], NOW)
    assert [(done.job_id, done.gpus) for done in plan.assignments] == [(1, ("local-3", "local-1")), (3, ("local-0",))]
    assert place([job(1, GpuRequest(ids=[7]))], [node], NOW).waits == {1: "needs GPU 7, local has 4"}


def test_a_gpu_that_was_set_aside_is_not_given_and_keeps_its_number() -> None:
    node = replace(room(gpus=2), aside=frozenset({"local-0"}))
    plan = place([job(1, GpuRequest(ids=[1])), job(2)], [node], NOW)
    assert plan.assignments == [Assignment(1, "local", ("local-1",))]
    assert plan.waits == {2: "waits for a GPU: local has 2, 1 of them busy (job 1), 1 set aside"}


@pytest.mark.parametrize(
    ("waiting", "node", "why"),
    [
        (job(1), room(slots=1, occupied=[on(4)]), "waits for a slot: local runs 1 of 1 (job 4)"),
        (job(1, cpus=8), room(occupied=[on(4)]), "waits for 8 cores: local has 7 of 8 free"),
        (job(1, cpus=9), room(), "needs 9 cores, local has 8"),
        (job(1, memory=2000), room(), "needs 2000 MiB of memory, local has 1000"),
        (
            job(1, memory=600),
            room(occupied=[Occupied(4, 1, 500)]),
            "waits for 600 MiB of memory: local has 500 of 1000 free",
        ),
        (job(1, node="other"), room(), "there is no node called other: nodes are local"),
        (job(1), replace(room(), closed="is draining"), "local is draining"),
        (job(1, GpuRequest(count=3)), room(gpus=2), "needs 3 GPUs, local has 2"),
    ],
)
def test_a_waiting_job_says_why(waiting: Waiting, node: Room, why: str) -> None:
    assert place([waiting], [node], NOW).waits == {1: why}


def test_an_interrupted_job_waits_its_time_and_delays_nobody() -> None:
    later = Waiting(1, Resources(), not_before=NOW + timedelta(seconds=1))
    plan = place([later, job(2)], [room(slots=1)], NOW)
    assert plan.assignments == [Assignment(2, "local", ())]
    assert plan.waits[1].startswith("was interrupted; tried again at ")
    assert place([later], [room()], NOW + timedelta(seconds=1)).assignments == [Assignment(1, "local", ())]


def test_a_clock_that_was_set_back_holds_nobody() -> None:
    tomorrow = Waiting(1, Resources(), not_before=NOW + timedelta(days=1))
    assert place([tomorrow], [room()], NOW).assignments == [Assignment(1, "local", ())]


def test_what_a_node_that_is_away_has_is_not_guessed() -> None:
    away = replace(room(), closed="cannot be reached")
    assert place([job(1, GpuRequest(count=1, required=True))], [away], NOW).waits == {1: "local cannot be reached"}


@pytest.mark.parametrize(
    ("policy", "nodes"),
    [("spread", ["a", "b", "a", "b"]), ("pack", ["a", "a", "b", "b"]), ("least-loaded", list("abbb"))],
)
def test_the_policy_says_which_of_the_nodes_that_fit(policy: Policy, nodes: list[str]) -> None:
    """b has more cores, so that as many jobs load it less."""
    rooms = [room(slots=2, name="a"), replace(room(slots=8, name="b"), cpus=64)]
    if policy != "least-loaded":
        rooms = [room(slots=2, name="a"), room(slots=2, name="b")]
    plan = place([job(n) for n in range(1, 5)], rooms, NOW, policy)
    assert [done.node for done in plan.assignments] == nodes


def test_what_is_measured_counts_as_load() -> None:
    busy = replace(room(name="a"), load=0.9)
    assert place([job(1)], [busy, room(name="b")], NOW, "least-loaded").assignments[0].node == "b"
    assert place([job(1)], [busy, room(name="b")], NOW, "spread").assignments[0].node == "a"


def test_a_job_runs_only_where_the_labels_are_that_it_asks_for() -> None:
    lab, attic = replace(room(name="media"), labels={"zone": "lab", "owner": "ann"}), room(name="attic")
    wanted = Waiting(1, Resources(labels={"zone": "lab"}))
    assert place([wanted], [attic, lab], NOW).assignments == [Assignment(1, "media", ())]
    away = replace(lab, closed="is paused until 15:00 by ann")
    assert place([wanted], [attic, away], NOW).waits == {1: "media is paused until 15:00 by ann"}
    nowhere = Waiting(1, Resources(labels={"zone": "roof"}))
    assert place([nowhere], [attic, lab], NOW).waits == {
        1: "needs the label zone=roof; attic has no labels; media has the labels owner=ann, zone=lab"
    }


def test_who_waits_for_one_node_hears_of_those_that_are_closed() -> None:
    full, away = room(slots=1, occupied=[on(4)], name="a"), replace(room(name="b"), closed="is draining by ann")
    assert place([job(1)], [full, away], NOW).waits == {
        1: "waits for a slot: a runs 1 of 1 (job 4); b is draining by ann"
    }


def held(gpu: str, foreign: int = 0, used: int | None = None, unclear: int = 0) -> dict[str, GpuUse]:
    return {gpu: GpuUse(10_000, foreign + unclear if used is None else used, foreign, unclear)}


def test_a_gpu_that_others_use_is_given_to_no_job_for_itself() -> None:
    node = replace(room(gpus=2), use=held("local-0", foreign=6144), foreign_mib=1024)
    plan = place([job(1), job(2), job(3, GpuRequest(count=0))], [node], NOW)
    assert plan.assignments == [Assignment(1, "local", ("local-1",)), Assignment(3, "local", ())]
    assert plan.waits == {
        2: "waits for a GPU: local has 2, 1 of them busy (job 1), 1 with 6144 MiB of processes that are not ours"
    }
    small = replace(node, use=held("local-0", foreign=1000))
    assert len(place([job(1), job(2)], [small], NOW).assignments) == 2


def test_what_others_use_of_a_gpu_is_not_shared_out() -> None:
    node = replace(room(gpus=1), use=held("local-0", foreign=4000), foreign_mib=1024)
    half = GpuRequest(memory_fraction=0.5)
    plan = place([job(1, half), job(2, half)], [node], NOW)
    assert [done.job_id for done in plan.assignments] == [1]
    assert "4000 MiB of processes that are not ours" in plan.waits[2]
    third = GpuRequest(memory_fraction=0.3)
    plan = place([job(1, third), job(2, third)], [replace(node, max_gpu=0.9)], NOW)
    assert [done.job_id for done in plan.assignments] == [1]


def test_memory_of_which_nobody_knows_whose_it_is_belongs_to_our_jobs_first() -> None:
    half = GpuRequest(memory_fraction=0.5)
    ours = replace(
        room(gpus=1, occupied=[on(9, "local-0", share=0.5)]), use=held("local-0", unclear=4500), foreign_mib=500
    )
    assert place([job(1, half)], [ours], NOW).assignments == [Assignment(1, "local", ("local-0",))]
    assert not place([job(1)], [replace(ours, occupied=())], NOW).assignments


def test_no_more_of_a_gpu_is_given_than_is_free_now() -> None:
    """A job that takes more than it planned leaves the next one less."""
    node = replace(room(gpus=1, occupied=[on(9, "local-0", share=0.25)]), use=held("local-0", used=8000))
    assert not place([job(1, GpuRequest(memory_fraction=0.5))], [node], NOW).assignments
    assert place([job(1, GpuRequest(memory_fraction=0.2))], [node], NOW).assignments
    node, quarter = replace(node, use=held("local-0", used=5000)), GpuRequest(memory_fraction=0.25)
    plan = place([job(1, quarter), job(2, quarter), job(3, quarter)], [node], NOW)
    assert [done.job_id for done in plan.assignments] == [1, 2]


def test_who_waits_for_others_to_leave_a_gpu_keeps_nobody_from_the_rest() -> None:
    node = replace(room(gpus=2), use=held("local-0", foreign=9000))
    plan = place([job(1, GpuRequest(count=2)), job(2)], [node], NOW)
    assert plan.assignments == [Assignment(2, "local", ("local-1",))]


def test_a_large_job_is_not_overtaken_for_what_it_needs() -> None:
    node = room(gpus=2, occupied=[on(9, "local-0")])
    plan = place([job(1, GpuRequest(count=2)), job(2), job(3, GpuRequest(count=0))], [node], NOW)
    assert plan.assignments == [Assignment(3, "local", ())]
    assert plan.waits[1] == "waits for 2 GPUs: local has 2, 1 of them busy (job 9)"
    assert plan.waits[2] == "waits for job 1, which is next on local"


def test_each_large_job_is_held_back_on_a_node_of_its_own_and_on_no_other() -> None:
    nodes = [room(name=name, occupied=[on(number)]) for number, name in enumerate("ab", start=8)]
    large, larger, small = job(1, NO_GPU, cpus=8), job(2, NO_GPU, cpus=8), job(3, NO_GPU, cpus=2)
    assert place([large, small], nodes, NOW).assignments == [Assignment(3, "b", ())]
    assert place([large, larger, small], nodes, NOW).assignments == []


def test_the_last_slot_is_held_back_too() -> None:
    node = room(slots=2, occupied=[Occupied(9, 1, 500)])
    assert place([job(1, NO_GPU, memory=600), job(2, NO_GPU)], [node], NOW).assignments == []


def test_what_is_held_back_of_the_gpus_is_what_gets_the_job_started_first() -> None:
    one_free = room(gpus=3, slots=8, occupied=[on(8, "local-0"), on(9, "local-1")])
    assert place([job(1, GpuRequest(count=2)), job(2)], [one_free], NOW).assignments == []
    shares = [on(8, "local-0", share=0.75), on(9, "local-1", share=0.75), on(10, "local-2", share=0.5)]
    both, half = GpuRequest(count=2, memory_fraction=0.5), GpuRequest(memory_fraction=0.5)
    assert place([job(1, both), job(2, half)], [room(gpus=3, slots=8, occupied=shares)], NOW).assignments == []
    one_shared = room(gpus=2, slots=8, occupied=[on(8, "local-0"), on(9, "local-1", share=0.75)])
    quarter = GpuRequest(memory_fraction=0.25)
    assert place([job(1, half), job(2, quarter)], [one_shared], NOW).assignments == []


def test_a_node_that_is_full_keeps_nobody_from_the_next() -> None:
    nodes = [room(slots=1, occupied=[on(9)], name="a"), room(slots=1, name="b")]
    plan = place([job(1), job(2), job(3)], nodes, NOW, explain=False)
    assert plan.assignments == [Assignment(1, "b", ())]
    assert plan.waits == {}


def test_a_job_prefers_a_node_that_suits_it() -> None:
    nodes = [room(name="a"), room(gpus=1, name="b")]
    plan = place([job(1), job(2, GpuRequest(count=0))], nodes, NOW)
    assert [(done.job_id, done.node) for done in plan.assignments] == [(1, "b"), (2, "a")]


fractions = st.sampled_from([None, 0.25, 0.5, 0.75])
requests = st.none() | st.builds(GpuRequest, count=st.integers(0, 3), memory_fraction=fractions, required=st.booleans())
resources = st.builds(
    Resources,
    cpus=st.sampled_from([0.5, 1.0, 2.5, 8.0]),
    memory_mib=st.sampled_from([0, 100, 900]),
    gpu=requests,
    node=st.sampled_from([None, None, "a", "b"]),
    labels=st.sampled_from([{}, {}, {}, {"zone": "lab"}]),
)
queues = st.lists(resources, max_size=12).map(lambda all: [Waiting(n + 1, wanted) for n, wanted in enumerate(all)])
fleets = st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 4)).map(
    lambda size: [room(gpus=size[0], slots=size[2], name="a"), room(gpus=size[1], slots=2, name="b")]
)
policies: st.SearchStrategy[Policy] = st.sampled_from(["spread", "pack", "least-loaded"])


def used(foreign: int, unclear: int, ours: int) -> GpuUse:
    return GpuUse(10_000, min(10_000, foreign + unclear + ours), foreign, unclear)


uses = st.builds(
    used, st.sampled_from([0, 400, 3000, 9000]), st.sampled_from([0, 400, 5000]), st.sampled_from([0, 2500])
)


@st.composite
def measured(draw: st.DrawFn) -> list[Room]:
    """Nodes whose GPUs others use too, of which some are set aside, closed, or loaded."""
    rooms = draw(fleets)
    return [
        replace(
            node,
            use={uuid: draw(uses) for uuid in node.gpus if draw(st.booleans())},
            aside=frozenset(uuid for uuid in node.gpus if draw(st.integers(0, 5)) == 0),
            foreign_mib=500,
            max_gpu=draw(st.sampled_from([0.8, 1.0])),
            load=draw(st.sampled_from([0.0, 0.5, 1.0])),
            closed=draw(st.sampled_from(["", "", "", "is draining"])),
            labels=draw(st.sampled_from([{}, {"zone": "lab"}])),
        )
        for node in rooms
    ]


def after(nodes: Sequence[Room], queue: Sequence[Waiting], done: Sequence[Assignment]) -> list[Room]:
    """The nodes once these assignments run."""
    wanted = {waiting.job_id: waiting.resources for waiting in queue}

    def held(each: Assignment) -> Occupied:
        want = wanted[each.job_id]
        return Occupied(
            each.job_id, want.cpus, want.memory_mib, each.gpus, want.gpu.memory_fraction if want.gpu else None
        )

    return [
        replace(node, occupied=[*node.occupied, *(held(each) for each in done if each.node == node.name)])
        for node in nodes
    ]


@given(queues, measured(), policies)
def test_no_limit_of_a_node_is_ever_exceeded(queue: list[Waiting], nodes: list[Room], policy: Policy) -> None:
    plan = place(queue, nodes, NOW, policy)
    wanted = {waiting.job_id: waiting.resources for waiting in queue}
    assert {done.job_id for done in plan.assignments} | set(plan.waits) == {waiting.job_id for waiting in queue}
    for node in after(nodes, queue, plan.assignments):
        assert len(node.occupied) <= node.slots
        assert sum(held.cpus for held in node.occupied) <= node.cpus + 1e-6
        assert sum(held.memory_mib for held in node.occupied) <= node.memory_mib
        assert not (node.closed and node.occupied)
        assert all(wanted[held.job_id].labels.items() <= node.labels.items() for held in node.occupied)
        assert all(wanted[held.job_id].node in {None, node.name} for held in node.occupied)
        for uuid in node.gpus:
            users = [held for held in node.occupied if uuid in held.gpus]
            assert not (users and uuid in node.aside)
            assert all(held.gpu_share is not None for held in users) or len(users) == 1
            assert len({held.job_id for held in users}) == len(users)
            shares = sum(held.gpu_share or 0 for held in users)
            assert shares <= node.max_gpu + 1e-6
            if users and uuid in node.use:
                _leaves_others_theirs(node, node.use[uuid], shares)


def _leaves_others_theirs(node: Room, use: GpuUse, shares: float) -> None:
    """`shares`: 0 where one job has it for itself."""
    others = use.others_mib(0.0)
    if not shares:
        assert others <= node.foreign_mib
    elif others > node.foreign_mib:
        assert shares + others / use.total_mib <= node.max_gpu + 1e-6
    assert shares * use.total_mib <= use.total_mib - max(0, use.used_mib - node.foreign_mib) + 1e-3


@given(queues, measured(), policies)
def test_a_plan_is_the_same_each_time(queue: list[Waiting], nodes: list[Room], policy: Policy) -> None:
    assert place(queue, nodes, NOW, policy) == place(queue, list(reversed(nodes)), NOW, policy)


@given(queues, measured(), policies, st.lists(resources, min_size=1, max_size=12))
def test_no_stream_of_later_jobs_delays_an_earlier_one(
    queue: list[Waiting], nodes: list[Room], policy: Policy, later: list[Resources]
) -> None:
    """What runs when a job begins to wait will end; what starts after that never does. It starts all the same."""
    plan = place(queue, nodes, NOW, policy)
    running = after(nodes, queue, plan.assignments)
    able = [
        waiting
        for waiting in queue
        if plan.waits.get(waiting.job_id, "").startswith("waits for ") and place([waiting], nodes, NOW).assignments
    ]  # else it waits for others to leave
    if not able:
        return
    head = able[0]
    endless = [Waiting(100 + n, wanted) for n, wanted in enumerate(later)]
    old = {done.job_id for done in plan.assignments}
    for ended in [None, *old]:
        running = [replace(n, occupied=[held for held in n.occupied if held.job_id != ended]) for n in running]
        step = place([head, *endless], running, NOW, policy)
        if head.job_id not in step.waits:
            return
        running = after(running, [head, *endless], step.assignments)
        endless = [waiting for waiting in endless if waiting.job_id in step.waits]
    raise AssertionError(f"job {head.job_id} never started: {running}")


small = st.builds(
    Resources, cpus=st.sampled_from([0.5, 2.0, 4.0]), memory_mib=st.sampled_from([0, 100, 400]), gpu=st.just(NO_GPU)
)


@given(
    running=st.lists(st.integers(1, 3), min_size=2, max_size=3),
    order=st.randoms(use_true_random=False),
    later=st.lists(small, min_size=1, max_size=6),
    policy=policies,
    large=st.sampled_from([job(100, NO_GPU, cpus=8), job(100, NO_GPU, memory=1000)]),
)
def test_a_large_job_starts_as_soon_as_what_it_found_on_its_node_has_ended(
    running: list[int], order: Random, later: list[Resources], policy: Policy, large: Waiting
) -> None:
    """It needs all of a node. On each, some run that will end, in any order; of the small ones behind it there are
    always more, and they never do. Nothing that ends elsewhere takes from it what it is to have on its own."""
    old = [(f"n{node}", 10 * node + n) for node, many in enumerate(running) for n in range(many)]
    nodes = [
        room(name=f"n{node}", occupied=[Occupied(10 * node + n, 1, 100) for n in range(many)])
        for node, many in enumerate(running)
    ]
    order.shuffle(old)
    numbers = count(101)
    for n in range(len(old) + 1):
        ended = {job_id for _, job_id in old[:n]}
        nodes = [replace(each, occupied=[held for held in each.occupied if held.job_id not in ended]) for each in nodes]
        queue = [large, *(Waiting(next(numbers), wanted) for wanted in later)]
        plan = place(queue, nodes, NOW, policy)
        if 100 not in plan.waits:
            return
        assert "n0" in {name for name, _ in old[n:]}, f"it waits for {plan.waits[100]}"
        nodes = after(nodes, queue, plan.assignments)


def test_a_job_runs_where_its_image_and_network_are_allowed() -> None:
    plain, able = room(name="a"), replace(room(name="b"), allowed=Allowed(("us/*",), ("none", "bridge")))
    for wanted in (Resources(image="us/new", network="bridge"), Resources(network="none")):
        assert place([Waiting(1, wanted)], [plain, able], NOW).assignments == [Assignment(1, "b", ())]
    why = place([Waiting(1, Resources(image="them/new"))], [plain, able], NOW).waits[1]
    assert why == "asks for the image them/new, a runs jobs without any; asks for the image them/new, b allows us/*"
