"""One story each, with the one moment that matters put everywhere it can be."""

from collections.abc import Callable, Collection, Generator
from contextlib import AbstractContextManager, contextmanager
from itertools import product
from pathlib import Path

import pytest

from broker.protocol.states import JobState, Priority
from tests.simulator import oracle
from tests.simulator.life import make_template
from tests.simulator.world import LEASE_S, Submission, World, command, training

Make = Callable[..., AbstractContextManager[World]]


@pytest.fixture
def made(tmp_path: Path) -> Make:
    """A world whose processes do nothing by themselves; at its end the oracle looks at everything."""
    make_template(tmp_path / "empty.db")

    @contextmanager
    def made(seed: int, fenced: Collection[str] = ()) -> Generator[World]:
        home = tmp_path / f"home-{seed}"
        home.mkdir()
        world = World(home, tmp_path / "empty.db", seed, fenced)
        world.mood.paused = True
        try:
            yield world
            world.mood.paused = False
            oracle.at_the_end(world)
        except AssertionError as error:
            error.add_note("\n".join(world.log))
            raise
        finally:
            world.close()

    return made


def submit(world: World, epochs: int = 0) -> None:
    """A training, or a command where there are no epochs."""
    number = len(world.submissions)
    name, priority = f"job-{number}", Priority.NORMAL
    request = training(name, False, priority, epochs) if epochs else command(name, False, priority)
    world.submissions.append(Submission(request, f"key-{number}"))
    world.submit(world.submissions[-1])


def run_until_started(world: World, attempts: int = 1) -> None:
    while len(world.processes()) < attempts:
        world.step()
        oracle.at_every_moment(world)
        assert world.loop.time() < 60.0


@pytest.mark.parametrize("epochs", [0, 2])
def test_a_broker_may_die_at_any_step(made: Make, epochs: int) -> None:
    for steps in range(0, 160, 2):
        with made(steps) as world:
            world.mood.paused = False
            submit(world, epochs)
            world.step(steps)
            world.crash()
            world.begin()
            world.submit(world.submissions[0])


def test_a_kill_counts_whenever_it_comes_while_an_attempt_dies(made: Make) -> None:
    for steps in range(30):
        with made(steps) as world:
            submit(world, epochs=2)
            run_until_started(world)
            world.loop.pass_time(0.5)
            world.processes()[0].meet("die")
            world.step(steps)
            world.want("kill", 1, lambda control: control.kill(1))
            world.loop.pass_time(0.5)
            oracle.at_every_moment(world)


def test_a_stop_is_told_again_when_its_engine_did_not_hear_it(made: Make) -> None:
    for steps in range(40):
        with made(steps) as world:
            submit(world, epochs=2)
            run_until_started(world)
            [process] = world.processes()
            node = next(node for node in world.nodes.values() if process.ref in node.processes)
            world.want("stop", 1, lambda control: control.stop(1))
            world.step(steps)
            node.lose(frozen=False)
            world.loop.pass_time(3.0)
            node.find()
            world.loop.pass_time(30.0)
            assert world.jobs()[0].state is JobState.STOPPED
            assert not process.alive


def test_an_attempt_that_was_given_up_says_nothing_of_the_next(made: Make) -> None:
    for seed, before in product(range(12), (4.0, 5.5, 7.0, 9.0)):
        with made(1000 * seed + round(before * 10)) as world:
            submit(world, epochs=2)
            run_until_started(world)
            world.loop.pass_time(0.5)
            [first] = world.processes()
            node = next(node for node in world.nodes.values() if first.ref in node.processes)
            node.cut_power()
            node.slow = True
            world.loop.pass_time(before)
            for job in world.jobs():
                if job.state is JobState.UNKNOWN:
                    world.resolve(job)
            world.loop.pass_time(0.01)
            node.find()
            world.loop.pass_time(12.0)
            oracle.settled(world)
            world.mood.paused = True


@pytest.mark.parametrize("frozen", [False, True])
def test_a_training_that_is_cut_off_leaves_by_itself_and_goes_on_elsewhere(made: Make, frozen: bool) -> None:
    """Whenever its node is cut off, also while it starts: with what it said, and without what it did not save."""
    for steps in range(0, 60, 4):
        with made(steps, ("alpha", "beta")) as world:
            submit(world, epochs=3)
            run_until_started(world)
            [first] = world.processes()
            node = next(node for node in world.nodes.values() if first.ref in node.processes)
            world.step(steps)
            node.lose(frozen)
            run_until_started(world, attempts=2)
            assert not first.working
            second = world.process(1, 2)
            assert second is not None and second.ref not in node.processes


def test_a_training_whose_container_starts_after_its_lease_trains_nothing(made: Make) -> None:
    for steps in range(0, 60, 4):
        with made(steps, ("alpha", "beta")) as world:
            for node in world.nodes.values():
                node.slow = True
            submit(world, epochs=3)
            while not (coming := [node for node in world.nodes.values() if node.on_their_way]):
                world.step()
                assert world.loop.time() < 60.0
            coming[0].lose(frozen=True)
            for node in world.nodes.values():
                node.slow = False
            world.step(steps)
            run_until_started(world)
            coming[0].find()
            world.loop.pass_time(2 * LEASE_S)
            late = world.process(1, 1)
            assert late is None or (late.exit is not None and not late.said)
            assert world.process(1, 2) is not None


def test_a_new_broker_waits_for_the_whole_lease_of_a_trainer_that_hangs(made: Make) -> None:
    for steps in range(0, 30, 2):
        with made(steps, ("alpha", "beta")) as world:
            world.mood.deafness = 1.0
            submit(world, epochs=3)
            run_until_started(world)
            [first] = world.processes()
            while first.alive and not first.working:
                world.step()
            node = next(node for node in world.nodes.values() if first.ref in node.processes)
            node.lose(frozen=False)
            world.loop.pass_time(steps / 5)
            world.crash()
            world.begin()
            run_until_started(world, attempts=2)
            assert not first.working
