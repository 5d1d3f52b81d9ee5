"""One Docker engine on a real daemon, without a broker around it."""

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from broker.beside import LOG, beside
from broker.engines.base import Exit, Launch
from broker.errors import AlreadyLaunched, AttemptGone, EngineError, EngineUnreachable
from tests.containers.dockerd import Dockerd
from tests.containers.node import Node, said
from tests.waiting import until

LASTING = "echo begun; while :; do sleep 0.1; done"


async def test_a_command_runs_to_its_end_and_leaves_its_log_and_exit_code(node: Node) -> None:
    exit, lines = await node.run("echo one; echo two >&2; exit 7")
    assert exit == Exit(7)
    assert sorted(lines) == ["one", "two"]
    await until(lambda: not node.containers(), what="the container to be removed")


async def test_an_attempt_is_started_once(node: Node) -> None:
    launch = node.shell(LASTING)
    attempt = await node.engine.launch(launch)
    with pytest.raises(AlreadyLaunched):
        await node.engine.launch(launch)
    (launch.directory.parent / "1.docker").unlink()  # not even by one who has forgotten it
    with pytest.raises(AlreadyLaunched):
        await node.engine.launch(launch)
    assert len(node.containers()) == 1
    await attempt.kill()
    assert await attempt.wait() == Exit(137)


async def test_stop_lets_it_finish_and_kill_does_not(node: Node) -> None:
    lasting = "echo begun; while :; do sleep 0.05; done"
    launches = [node.shell(f"trap {trap} TERM; {lasting}") for trap in ("'echo bye; exit 3'", "''")]
    polite, stubborn = [await node.engine.launch(launch) for launch in launches]
    for launch, attempt in zip(launches, (polite, stubborn), strict=True):
        await _begun(launch)
        await attempt.stop()
    assert await polite.wait() == Exit(3)
    assert await said(polite) == ["begun", "bye"]
    await stubborn.kill()
    assert await stubborn.wait() == Exit(137)
    await stubborn.stop()  # true of what is gone
    await stubborn.kill()


async def test_memory_limit_exceeded_is_the_engines_own_word(node: Node) -> None:
    exit, _ = await node.run("a=x; while :; do a=$a$a; done", memory_mib=32)
    assert exit == Exit(137, oom_killed=True)


async def test_a_job_is_nobody_may_nothing_and_sees_its_own_directory(node: Node) -> None:
    launch = node.shell(
        "id -u; touch /x 2>/dev/null || echo no-root; touch mine && echo mine; touch ../theirs 2>/dev/null || echo ro;"
        " cat /proc/self/status | while read a b; do case $a in CapEff:|NoNewPrivs:) echo $b;; esac; done;"
        " ls /sys/class/net"
    )
    attempt = await node.engine.launch(launch)
    await attempt.wait()
    assert await said(attempt) == ["65534", "no-root", "mine", "ro", "0000000000000000", "1", "lo"]
    assert (launch.directory / "mine").exists()


async def test_a_job_cannot_put_a_link_where_the_broker_writes(node: Node, tmp_path: Path) -> None:
    _, lines = await node.run(
        "for f in $PWD.log $PWD.times; do busybox rm -f $f 2>/dev/null; busybox mv $f away 2>/dev/null;"
        " busybox ln -sf /etc/passwd $f 2>/dev/null; busybox readlink $f || echo no link; done"
    )
    assert lines == ["no link", "no link"]


async def test_a_new_broker_reads_on_where_the_old_one_stopped(node: Node) -> None:
    launch = node.shell("i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo $i; [ $((i%100)) = 0 ] && sleep 0.05; done")
    attempt = await node.engine.launch(launch)
    read: list[str] = []
    offset = 0
    for _ in range(4):
        async for batch in attempt.lines(offset):
            read += [line.data.decode() for line in batch]
            offset = batch[-1].end
            if len(read) % 1000 > 500:
                break
        ref = attempt.engine_ref
        await node.renew()
        attempt = await node.attach(launch, ref)
    read += await said(attempt, offset)
    assert read == [str(i) for i in range(1, 3001)]
    assert await attempt.wait() == Exit(0)
    assert beside(launch.directory, LOG).read_text().split() == read


async def test_one_that_ended_while_no_broker_ran_has_its_log_and_exit_code(node: Node) -> None:
    launch = node.shell("echo one; sleep 0.3; echo two; exit 4")
    ref = (await node.engine.launch(launch)).engine_ref
    await node.engine.close()
    await until(lambda: node.dockerd.docker("inspect", "-f", "{{.State.Status}}", launch.ref.name) == "exited")
    await node.renew()
    attempt = await node.attach(launch, ref)
    assert await said(attempt) == ["one", "two"]
    assert await attempt.wait() == Exit(4)
    await until(lambda: not node.containers())
    again = await node.attach(launch, ref)  # its end was written down before its container went
    assert await again.wait() == Exit(4)
    assert await said(again) == ["one", "two"]


async def test_lines_of_any_length_come_whole(node: Node) -> None:
    launch = node.shell("head -c 50000 /dev/zero | tr '\\0' x; echo; echo short; head -c 20 /dev/zero | tr '\\0' y")
    attempt = await node.engine.launch(launch)
    assert await said(attempt) == ["x" * 50000, "short", "y" * 20]


async def test_one_that_was_never_made_is_gone_for_certain(node: Node) -> None:
    with pytest.raises(AttemptGone):
        await node.attach(node.shell("true"))


async def test_one_that_was_made_and_not_started_never_starts(node: Node) -> None:
    launch = node.shell("true")
    broker, name = f"wyolo.broker={node.broker_id}", launch.ref.name
    labels = ("--label", broker, "--label", f"wyolo.job={launch.ref.job_id}", "--label", "wyolo.fence=1")
    node.dockerd.docker("create", "--name", name, *labels, "busybox", "true")
    with pytest.raises(AttemptGone):
        await node.attach(launch)
    assert not node.containers()


async def test_a_container_removed_behind_our_back_ends_unseen(node: Node) -> None:
    launch = node.shell(LASTING)
    attempt = await node.engine.launch(launch)
    await _begun(launch)
    node.dockerd.docker("rm", "--force", launch.ref.name)
    assert await attempt.wait() in {Exit(None), Exit(137)}
    assert await said(attempt) == ["begun"]


async def test_the_inventory_tells_what_runs(node: Node) -> None:
    launch = node.shell(LASTING)
    attempt = await node.engine.launch(launch)
    found = await node.engine.inventory()
    assert list(found.alive) == [launch.ref]
    assert found.cpus == os.cpu_count()
    assert found.memory_mib > 100
    sample = await node.engine.sample()
    assert sample.node == "box"
    await attempt.kill()
    await attempt.wait()
    assert not (await node.engine.inventory()).alive


async def test_a_program_that_is_not_in_the_image_is_named_in_the_log(node: Node) -> None:
    launch = replace(node.shell(""), argv=("/bin/nothing",))
    attempt = await node.engine.launch(launch)
    assert await attempt.wait() == Exit(127)
    assert "/bin/nothing" in " ".join(await said(attempt))


async def test_a_daemon_that_cannot_give_gpus_says_what_it_lacks(node: Node) -> None:
    with pytest.raises(EngineError, match="NVIDIA container toolkit"):
        await node.engine.launch(node.shell("true", gpus=("GPU-1",)))
    await until(lambda: not node.containers())


async def test_without_its_image_a_job_fails_with_a_remedy(shared_dockerd: Dockerd, tmp_path: Path) -> None:
    async with Node(shared_dockerd, tmp_path / "jobs", image="nothing:1") as node:
        with pytest.raises(EngineError, match=r"has no image nothing:1.*wyolo images push"):
            await node.engine.launch(node.shell("true"))


async def test_a_folder_that_the_node_lacks_is_named(shared_dockerd: Dockerd, tmp_path: Path) -> None:
    async with Node(shared_dockerd, tmp_path / "jobs", reads=(Path("/no/such/data"),)) as node:
        with pytest.raises(EngineError, match="has no /no/such/data"):
            await node.engine.launch(node.shell("true"))


async def test_ended_containers_of_others_brokers_and_of_no_job_go(node: Node) -> None:
    labels = ("--label", f"wyolo.broker={node.broker_id}", "--label", "wyolo.job=77", "--label", "wyolo.fence=1")
    node.dockerd.docker("run", "--detach", "--network", "none", "--name", "wyolo-77-1", *labels, "busybox", "true")
    await node.engine.inventory()
    await until(lambda: not node.containers(), what="what ended without a job to be removed")


async def test_nobody_there_is_unreachable_in_every_call(tmp_path: Path) -> None:
    nowhere = Dockerd(tmp_path / "nowhere")
    async with Node(nowhere, tmp_path / "jobs") as node:
        launch = node.shell("true")
        for call in (
            node.engine.inventory(),
            node.engine.sample(),
            node.engine.launch(launch),
            node.engine.attach(launch.ref, launch.directory, "x@y/z"),
        ):
            with pytest.raises(EngineUnreachable):
                await call


async def test_a_million_lines_are_all_there_once(node: Node) -> None:
    launch = node.shell("seq 1000000")
    attempt = await node.engine.launch(launch)
    assert await attempt.wait() == Exit(0)

    def right() -> bool:
        with beside(launch.directory, LOG).open() as log:
            return (
                all(int(line) == number for number, line in enumerate(log, 1)) and number_of(launch.directory) == 10**6
            )

    assert await asyncio.to_thread(right)


def number_of(directory: Path) -> int:
    with beside(directory, LOG).open("rb") as log:
        return sum(1 for _ in log)


async def _begun(launch: Launch) -> None:
    await until(lambda: "begun" in beside(launch.directory, LOG).read_text(), what="begun")
