"""A node that shares no folder with the broker: what a job needs is put there, what it leaves comes back, whole."""

import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from broker.beside import LOG, beside
from broker.engines.base import Exit, Launch
from broker.protocol.states import JobState
from tests.containers.dockerd import Dockerd
from tests.containers.node import Node, said
from tests.flows.daemon import Client, Daemon
from tests.waiting import until, until_awaited, until_sync

INTERVAL_S = 1.2
EPOCH_S = 0.2


@pytest.fixture
async def far(shared_dockerd: Dockerd, tmp_path: Path) -> AsyncIterator[Node]:
    async with Node(shared_dockerd, tmp_path / "jobs", shared=False, fetch_s=0.1) as node:
        yield node
    node.clear()
    if left := volumes(node):
        shared_dockerd.docker("volume", "rm", "--force", *left)


def volumes(node: Node) -> list[str]:
    return node.dockerd.docker("volume", "ls", "-q", "--filter", f"label=wyolo.broker={node.broker_id}").split()


async def gone(node: Node) -> None:
    await until(lambda: not node.containers() and not volumes(node), what="container and volume to be removed")


def with_input(launch: Launch, text: str) -> Launch:
    """A checkpoint of an earlier attempt."""
    path = launch.directory.parent / "0" / "checkpoints" / "epoch-0003.pt"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return replace(launch, inputs=(path,))


async def test_what_the_broker_wrote_is_there_and_everything_comes_back(far: Node) -> None:
    launch = with_input(
        far.shell(
            "cat train.json ../0/checkpoints/epoch-0003.pt; id -u; mkdir -p run/deep; echo one > run/deep/a.csv;"
            " busybox ln -s /etc/passwd link; busybox mkfifo pipe; echo r > result.json;"
            " touch ../theirs 2>/dev/null || echo ro; busybox dd if=/dev/zero of=big bs=1M count=9 2>/dev/null"
        ),
        "state\n",
    )
    (launch.directory / "train.json").write_text("config\n")
    attempt = await far.engine.launch(launch)
    assert await attempt.wait() == Exit(0)
    assert await said(attempt) == ["config", "state", "65534", "ro"]
    assert (launch.directory / "run" / "deep" / "a.csv").read_text() == "one\n"
    assert (launch.directory / "big").stat().st_size == 9 << 20
    assert await attempt.fetch("result.json") == b"r\n"
    assert {path.name for path in launch.directory.iterdir()} == {*("train.json", "run", "big", "result.json")}
    await gone(far)


async def test_a_checkpoint_is_fetched_while_it_runs_and_never_replaced_by_a_bad_one(far: Node) -> None:
    good, bad = hashlib.sha256(b"good\n").hexdigest(), hashlib.sha256(b"another\n").hexdigest()

    def line(epoch: int, digest: str) -> str:
        return json.dumps({"event": "checkpoint", "checkpoint": {"path": f"/x/epoch-{epoch:04}.pt", "sha256": digest}})

    launch = far.shell(
        f"mkdir checkpoints; cd checkpoints; echo '{line(1, good)}' > ../events.jsonl; echo good > epoch-0001.pt;"
        f" while [ ! -e ../go ]; do sleep 0.05; done; echo '{line(2, bad)}' >> ../events.jsonl;"
        " echo half > epoch-0002.pt; echo part > epoch-0003.pt.tmp; busybox ln epoch-0001.pt best.pt; cat; sleep 60"
    )
    (launch.directory / "go").touch()
    attempt = await far.engine.launch(launch)
    kept = launch.directory / "checkpoints"
    await until(lambda: (kept / "best.pt").exists(), what="the second look")
    await until(lambda: {path.name for path in kept.iterdir()} == {"epoch-0001.pt", "best.pt"}, what="the good ones")
    assert (kept / "epoch-0001.pt").read_text() == "good\n"
    assert line(2, bad) in (await attempt.fetch("events.jsonl")).decode()  # as it is there now
    with pytest.raises(FileNotFoundError):
        await attempt.fetch("result.json")
    await attempt.kill()
    await attempt.wait()
    await gone(far)


async def test_one_whose_container_was_removed_still_gives_its_files(far: Node) -> None:
    launch = far.shell("echo kept > file; echo begun; sleep 60")
    attempt = await far.engine.launch(launch)
    await until(lambda: "begun" in beside(launch.directory, LOG).read_text())
    far.dockerd.docker("rm", "--force", launch.ref.name)
    await attempt.wait()
    assert (launch.directory / "file").read_text() == "kept\n"
    await gone(far)


async def test_what_ended_while_no_broker_looked_is_brought_before_it_goes(far: Node) -> None:
    launch = far.shell("echo kept > file")
    await far.engine.launch(launch)
    await far.engine.close()
    until_sync(lambda: far.dockerd.docker("inspect", "-f", "{{.State.Status}}", launch.ref.name) == "exited")
    (launch.directory.parent / "2").mkdir()  # another attempt has taken its place
    await far.renew()
    assert (await far.engine.inventory()).ended == (launch.ref,)  # so the supervisor takes leave of it
    await (await far.engine.attach(launch.ref, launch.directory, "")).wait()
    await gone(far)
    assert (launch.directory / "file").read_text() == "kept\n"


TRAINER = r"""#!/bin/sh
# Speaks the wire of a trainer: an epoch and its checkpoint every now and then, one more when it is told to stop.
cd "${3%/*}"
mkdir -p checkpoints
fence=$(busybox sed -n 's/.*"fence": \([0-9]*\).*/\1/p' train.json | head -n 1)
epochs=$(busybox sed -n 's/.*"epochs": \([0-9]*\).*/\1/p' train.json | head -n 1)
from=$(busybox sed -n 's/.*"path": "\(.*\)",/\1/p' train.json | head -n 1)
epoch=0
[ -n "$from" ] && epoch=$(cat "$from") && echo "goes on from $epoch"
n=0
stopped=
trap 'stopped=1' TERM
say() {
    n=$((n+1))
    line="{\"n\": $n, \"at\": \"2026-01-01T00:00:00Z\", $1}"
    echo "$line" >> events.jsonl
    busybox printf '\036%s\n' "$line"
}
result() {
    echo "{\"fence\": $fence, \"ok\": $1, \"reason\": \"$2\", \"events\": $n}" > result.json
    exit $3
}
while [ $epoch -lt $epochs ]; do
    sleep PAUSE
    epoch=$((epoch+1))
    name=checkpoints/epoch-$(busybox printf %04d $epoch).pt
    echo $epoch > $name.tmp
    busybox mv $name.tmp $name
    busybox rm -f checkpoints/epoch-$(busybox printf %04d $((epoch-2))).pt
    digest=$(busybox sha256sum $name | busybox cut -c1-64)
    say "\"event\": \"checkpoint\", \"checkpoint\": {\"path\": \"$PWD/$name\", \"epoch\": $epoch, \"sha256\": \"$digest\", \"attempt\": $fence, \"at\": \"2026-01-01T00:00:00Z\"}"
    say "\"event\": \"epoch\", \"epoch\": $epoch, \"epochs\": $epochs, \"values\": {}, \"seconds\": 0.2"
    [ -n "$stopped" ] && result false user_stop 3
done
result true completed 0
"""  # noqa: E501


def node_of(dockerd: Dockerd, name: str, programs: Path) -> dict[str, object]:
    more = {"image": "busybox", "gpus": "none", "cpus": 8, "memory_mib": 4096, "shm_mib": 16, "slots": 2}
    away = {"shared": False, "fetch_minutes": INTERVAL_S / 60, "reads": [str(programs)]}
    return {"name": name, "engine": "docker", "url": dockerd.url, "python": str(programs / "trainer"), **more, **away}


async def epoch_of(client: Client, job_id: int, at_least: int) -> int:
    async def there() -> int:
        epoch = (await client.job(job_id)).epoch
        return epoch if epoch >= at_least else 0

    return await until_awaited(there, 30, f"epoch {at_least}")


@pytest.mark.timeout(240)
async def test_a_training_goes_on_elsewhere_from_what_was_fetched_after_a_stop_and_after_its_node_is_lost(
    dockerd: Dockerd, shared_dockerd: Dockerd, tmp_path: Path
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "trainer").write_text(TRAINER.replace("PAUSE", str(EPOCH_S)))
    (programs / "trainer").chmod(0o755)
    for folder in (tmp_path, programs):
        folder.chmod(0o755)
    nodes = [node_of(dockerd, "a", programs), node_of(shared_dockerd, "b", programs)]
    settings = {"WYOLO_NODES": json.dumps(nodes), "WYOLO_BACKOFF_S": "0", "WYOLO_PREFLIGHT": "false"}
    daemon = Daemon(tmp_path / "data", settings)
    config = "model: yolov8n.yaml\ntrain: {data: coco8.yaml, epochs: 60}\n"
    try:
        async with daemon.start().client() as client:
            job_id: int = (await client.http.post("/jobs", json={"config": config})).json()["id"]
            jobs = tmp_path / "data" / "jobs" / str(job_id)
            await epoch_of(client, job_id, 3)
            await client.verb(job_id, "stop")
            stopped = await client.reaches(job_id)
            assert (stopped.state, stopped.node) == (JobState.STOPPED, "a")
            assert (jobs / "1" / "checkpoints" / f"epoch-{stopped.epoch:04}.pt").read_text() == f"{stopped.epoch}\n"
            await until(lambda: not dockerd.docker("volume", "ls", "-q"), what="the volume to be removed")

            await client.verb(job_id, "resume")
            await until(lambda: any((jobs / "2" / "checkpoints").glob("epoch-*")), 30, "a fetched checkpoint")
            lost_at = await epoch_of(client, job_id, stopped.epoch + 8)
            assert f"goes on from {stopped.epoch}" in (await client.lines(job_id, attempt=2))[0]
            dockerd.freeze()  # and it never answers again
            await client.reaches(job_id, JobState.UNKNOWN, timeout=60)
            await client.verb(job_id, "resolve", verdict="gone")

            ended = await client.reaches(job_id, timeout=60)
            assert (ended.state, ended.node, ended.epoch) == (JobState.COMPLETED, "b", 60)
            [first] = await client.lines(job_id, attempt=3)
            assert first.startswith("goes on from ")
            assert int(first.split()[-1]) >= lost_at - (INTERVAL_S + 2) / EPOCH_S
            assert (jobs / "3" / "result.json").exists()
    finally:
        daemon.clear()
