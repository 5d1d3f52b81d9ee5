"""The training image: built where it changed, brought to nodes, compared."""

from pathlib import Path

import pytest

from dind import images
from dind.engine import Engine, Step, silent
from dind.errors import BuildFailed, DiskFull, EngineAway, MissingPath, NoImage
from dind.home import Home
from dind.images import Where
from tests.docker.daemon import HostDaemon
from tests.docker.raising import docker, raised, wanted

TAG = "wyolo-test-trainer"


def nodes(home: Home) -> list[Where]:
    return [Where(name, table["url"], Path(table["tls"])) for name, table in home.registered().items()]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "yolo11n.pt").write_bytes(b"not really")
    return folder


async def test_an_image_is_built_once_and_brought_to_each_node_with_progress(
    host: HostDaemon, engine: Engine, home: Home, sandbox_base: str, weights: Path
) -> None:
    states = await raised(engine, home, sandbox_base, wanted("api"), wanted("media"))
    recipe = images.recipe(TAG, base=sandbox_base, install=False, weights=weights)
    steps = list[Step]()
    built, new = await images.make(engine, recipe, steps.append)
    assert new
    assert any("COPY src" in step.doing for step in steps)
    assert (await images.make(engine, recipe, silent)) == (built, False)
    before = await images.status(engine, nodes(home), TAG)
    assert [(copy.node, copy.state) for copy in before] == [
        ("host", "same"),
        ("dind_api", "missing"),
        ("dind_media", "missing"),
    ]

    steps.clear()
    brought = await images.push(engine, nodes(home), TAG, steps.append)
    assert {name: outcome[1] for name, outcome in brought.items() if isinstance(outcome, tuple)} == {
        "dind_api": True,
        "dind_media": True,
    }
    shares = [step.share for step in steps if step.subject == "dind_api" and step.share is not None]
    assert len(shares) > 10
    assert shares == sorted(shares)
    again = await images.push(engine, nodes(home), TAG, silent)
    assert [outcome[1] for outcome in again.values() if isinstance(outcome, tuple)] == [False, False]
    after = await images.status(engine, nodes(home), TAG)
    assert {copy.state for copy in after} == {"same"}
    assert len({copy.digest for copy in after}) == 1

    # What is in it: the trainer, for a user who is nobody, on a root that cannot be written.
    run = ["run", "--rm", "--read-only", "--entrypoint", "sh", TAG, "-c"]
    python = "python3 -c 'import trainer, broker.protocol; print(trainer.__file__)'"
    said = docker(home, states["api"], *run, f"id -u; cat /opt/wyolo/weights/yolo11n.pt; {python}")
    assert said == "65534\nnot really/opt/wyolo/src/trainer/__init__.py\n"


async def test_a_changed_image_is_seen_on_the_node_that_has_the_older_one(
    engine: Engine, home: Home, sandbox_base: str, weights: Path
) -> None:
    await raised(engine, home, sandbox_base, wanted("api"))
    await images.make(engine, images.recipe(TAG, base="busybox", install=False), silent)
    await images.push(engine, nodes(home), TAG, silent)
    _, new = await images.make(engine, images.recipe(TAG, base="busybox", install=False, weights=weights), silent)
    assert new
    assert [copy.state for copy in await images.status(engine, nodes(home), TAG)] == ["same", "other"]
    await images.push(engine, nodes(home), TAG, silent)
    assert [copy.state for copy in await images.status(engine, nodes(home), TAG)] == ["same", "same"]


async def test_a_node_whose_disk_is_full_says_so_and_the_others_have_it(
    host: HostDaemon, engine: Engine, home: Home, sandbox_base: str
) -> None:
    small = ["--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", "o=size=128m"]
    host.docker("volume", "create", *small, "wyolo_dind_media")
    states = await raised(engine, home, sandbox_base, wanted("api"), wanted("media"))
    outcomes = await images.push(engine, nodes(home), sandbox_base, silent)
    assert isinstance(outcomes["dind_api"], tuple)
    assert isinstance(outcomes["dind_media"], DiskFull)
    assert "docker system prune" in outcomes["dind_media"].remedy
    assert docker(home, states["media"], "images", "-q") == ""


async def test_a_node_that_is_away_does_not_keep_the_others_from_it(engine: Engine, tmp_path: Path) -> None:
    away = Where("far", f"unix://{tmp_path}/docker.sock")
    assert [copy.state for copy in await images.status(engine, [away], "busybox")] == ["same", "away"]
    outcome = (await images.push(engine, [away], "busybox", silent))["far"]
    assert isinstance(outcome, EngineAway)


async def test_what_was_never_built_cannot_be_brought(engine: Engine) -> None:
    with pytest.raises(NoImage) as error:
        await images.push(engine, [], "wyolo-test-never", silent)
    assert error.value.remedy == "build it: wyolo images build"


async def test_a_failed_step_is_told_with_its_last_words(engine: Engine) -> None:
    recipe = images.recipe("wyolo-test-broken", base="busybox")  # which has no Python to install anything with
    with pytest.raises(BuildFailed, match="python3: not found"):
        await images.make(engine, recipe, silent)


def test_a_missing_certificate_file_stops_a_build_before_it_begins() -> None:
    with pytest.raises(MissingPath, match=r"/nowhere/ca\.pem"):
        images.recipe(ca=Path("/nowhere/ca.pem"))
