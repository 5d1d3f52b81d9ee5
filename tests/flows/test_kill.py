"""kill: at once, with everything that the job has started."""

from pathlib import Path

from broker.protocol.states import EndReason, JobState
from tests.flows.daemon import Client
from tests.waiting import until


async def test_a_running_job_is_killed_without_being_asked(broker: Client) -> None:
    job = await broker.shell("trap 'echo asked' TERM; echo ready; while :; do sleep 0.02; done")
    await broker.says(job.id, "ready")
    await broker.verb(job.id, "kill")
    done = await broker.reaches(job.id, timeout=5)
    assert (done.state, done.reason) == (JobState.STOPPED, EndReason.KILLED)
    assert await broker.lines(job.id) == ["ready"]


async def test_what_a_job_has_started_dies_with_it(broker: Client, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    job = await broker.shell(f"setsid sh -c 'echo $$ > {pid}; exec sleep 600' & echo ready; wait")
    await until(lambda: pid.exists() and pid.read_text().strip(), what="the grandchild")
    grandchild = Path("/proc") / pid.read_text().strip()
    assert grandchild.exists()
    await broker.verb(job.id, "kill")
    await broker.reaches(job.id)
    await until(lambda: not grandchild.exists(), what="the grandchild's end")


async def test_kill_goes_before_a_stop_that_takes_long(broker: Client) -> None:
    job = await broker.shell("trap '' TERM; echo ready; while :; do sleep 0.02; done")
    await broker.says(job.id, "ready")
    await broker.verb(job.id, "stop", grace_s=600)
    await broker.verb(job.id, "kill")
    assert (await broker.reaches(job.id, timeout=5)).reason is EndReason.KILLED
    verbs = await broker.verbs(job.id)
    assert verbs.index("stop") < verbs.index("kill")


async def test_a_stop_does_not_take_a_kill_back(broker: Client) -> None:
    job = await broker.submit("true", hold=True)
    assert (await broker.verb(job.id, "kill")).reason is EndReason.KILLED
    assert (await broker.verb(job.id, "stop")).reason is EndReason.KILLED
    assert (await broker.verb(job.id, "kill")).state is JobState.STOPPED
