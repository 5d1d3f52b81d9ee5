"""What a job's container is, without a daemon; and the place in a log, with entries out of order."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.engines import container
from broker.engines.base import AttemptRef, Launch
from broker.engines.container import Template
from broker.engines.docker_errors import Refused, not_started
from broker.engines.docker_log import Entries, Place
from broker.errors import AttemptGone, EngineError

TEMPLATE = Template(image="trainer:1", user="1000:1000", reads=(Path("/data"),), path_map={"/broker": "/wyolo"})
DIRECTORY = Path("/broker/jobs/7/2")
LAUNCH = Launch(
    AttemptRef("b1", 7, 2), ("python", "prep.py"), {"A": "1"}, DIRECTORY, DIRECTORY, cpus=1.5, memory_mib=64
)


def test_a_container_may_nothing_that_it_need_not() -> None:
    host = container.body(LAUNCH, TEMPLATE)["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert "no-new-privileges" in host["SecurityOpt"]
    assert host["ReadonlyRootfs"]
    assert host["NetworkMode"] == "none"
    assert "Privileged" not in host
    assert "Binds" not in host  # a bind makes a folder that is missing, a mount refuses


def test_limits_are_the_jobs() -> None:
    body = container.body(LAUNCH, TEMPLATE)
    host = body["HostConfig"]
    assert (host["NanoCpus"], host["Memory"], host["MemorySwap"]) == (1_500_000_000, 64 << 20, 64 << 20)
    assert (body["User"], host["PidsLimit"], host["ShmSize"], host["Init"]) == ("1000:1000", 4096, 1024 << 20, True)
    assert "Memory" not in container.body(replace(LAUNCH, memory_mib=0), TEMPLATE)["HostConfig"]


def test_only_its_own_directory_can_be_written() -> None:
    mounts = container.body(LAUNCH, TEMPLATE)["HostConfig"]["Mounts"]
    by_target = {mount["Target"]: mount for mount in mounts}
    assert [target for target, mount in by_target.items() if not mount["ReadOnly"]] == [str(DIRECTORY)]
    assert by_target[str(DIRECTORY)]["Source"] == "/wyolo/jobs/7/2"
    assert by_target["/broker/jobs/7"]["Source"] == "/wyolo/jobs/7"
    assert by_target["/data"]["Source"] == "/data"


def test_exactly_its_gpus_are_asked_for() -> None:
    with_two = container.body(replace(LAUNCH, gpus=("GPU-a", "GPU-b")), TEMPLATE)
    assert with_two["HostConfig"]["DeviceRequests"] == [
        {"Driver": "", "DeviceIDs": ["GPU-a", "GPU-b"], "Capabilities": [["gpu"]]}
    ]
    without = container.body(LAUNCH, TEMPLATE)
    assert "DeviceRequests" not in without["HostConfig"]
    assert "NVIDIA_VISIBLE_DEVICES=void" in without["Env"]  # whatever the image says


def test_a_training_is_started_by_the_images_python() -> None:
    config = DIRECTORY / "train.json"
    launch = replace(LAUNCH, argv=("/venv/bin/python", "-m", "trainer", str(config)), config=config)
    assert container.body(launch, TEMPLATE)["Entrypoint"] == ["python3", "-m", "trainer", str(config)]
    assert container.body(LAUNCH, TEMPLATE)["Entrypoint"] == ["python", "prep.py"]


def test_a_wish_fills_the_image_and_the_network_and_nothing_else() -> None:
    plain = container.body(LAUNCH, TEMPLATE)
    wished = container.body(replace(LAUNCH, image="ghcr.io/us/new", network="bridge"), TEMPLATE)
    assert (wished["Image"], wished["HostConfig"]["NetworkMode"]) == ("ghcr.io/us/new", "bridge")
    wished["Image"], wished["HostConfig"]["NetworkMode"] = plain["Image"], plain["HostConfig"]["NetworkMode"]
    assert wished | {"Labels": plain["Labels"]} == plain


def test_labels_lead_back_to_the_attempt() -> None:
    body = container.body(LAUNCH, TEMPLATE)
    assert container.ref_of(body["Labels"]) == LAUNCH.ref
    assert container.ref_of({"wyolo.sandbox": "api"}) is None
    assert container.ref_of(None) is None
    other = container.body(replace(LAUNCH, cpus=2), TEMPLATE)
    assert other["Labels"]["wyolo.spec"] != body["Labels"]["wyolo.spec"]


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("/broker/jobs/1", "/wyolo/jobs/1"),
        ("/broker/deep/x", "/elsewhere/x"),
        ("/brokerage", "/brokerage"),
        ("/a", "/a"),
    ],
)
def test_the_longest_prefix_leads_to_the_node(path: str, there: str) -> None:
    assert container.on_node(Path(path), {"/broker": "/wyolo", "/broker/deep": "/elsewhere"}) == there


@pytest.mark.parametrize(
    ("status", "said", "kind", "remedy"),
    [
        (404, "No such image: trainer:1", EngineError, "wyolo images push"),
        (500, "write /x: no space left on device", AttemptGone, "make room"),
        (500, 'could not select device driver "" with capabilities: [[gpu]]', EngineError, "container toolkit"),
        (400, "invalid mount config: bind source path does not exist: /data", EngineError, "path_map"),
        (404, "network fast not found", EngineError, "`network`"),
        (500, "something new", EngineError, "something new"),
    ],
)
def test_each_refusal_has_its_remedy(status: int, said: str, kind: type[EngineError], remedy: str) -> None:
    error = not_started("box", "trainer:1", Refused(status, said))
    assert type(error) is kind
    assert remedy in str(error)


def _entry(at_ms: int, text: bytes) -> tuple[bytes, bytes]:
    """Its timestamp, and as the daemon sends it."""
    stamp = f"2026-01-01T00:{at_ms // 60_000:02}:{at_ms // 1000 % 60:02}.{at_ms % 1000:03}000000Z".encode()
    payload = stamp + b" " + text
    return stamp, b"\x01\0\0\0" + len(payload).to_bytes(4, "big") + payload


@given(
    gaps=st.lists(st.integers(0, 1500), min_size=1, max_size=60),
    skews=st.lists(st.integers(0, 900), min_size=60, max_size=60),
    breaks=st.lists(st.integers(0, 4000), max_size=5),
    piece=st.integers(1, 200),
)
def test_a_log_read_in_pieces_is_the_log(gaps: list[int], skews: list[int], breaks: list[int], piece: int) -> None:
    """Entries up to 0.9 s out of order, equal timestamps, restarts anywhere, also within an entry."""
    at = 1000
    entries: list[tuple[bytes, bytes]] = []
    for number, gap in enumerate(gaps):
        at += gap
        entries.append(_entry(at - skews[number], b"%d\n" % number))
    spooled = b""
    since, seen = b"", 0
    for stop in [*breaks, 1 << 30]:
        place = Place(since, seen)
        reader = Entries(place)
        told = b"".join(raw for stamp, raw in entries if stamp >= since)[
            :stop
        ]  # what the daemon sends, until it breaks
        for begin in range(0, len(told), piece):
            spooled += reader.feed(told[begin : begin + piece])
        since, seen = place.since, place.seen
    assert spooled == b"".join(b"%d\n" % number for number in range(len(gaps)))
