"""remove: a job that does not run is forgotten, with its files when asked."""

from broker.protocol.states import JobState
from tests.flows.daemon import Client, Daemon
from tests.waiting import until_awaited


async def test_a_job_that_ended_is_forgotten_and_its_files_stay(broker: Client, shared_daemon: Daemon) -> None:
    job = await broker.shell("echo kept")
    await broker.reaches(job.id)
    assert (await broker.http.delete(f"/jobs/{job.id}")).status_code == 204
    assert (await broker.http.get(f"/jobs/{job.id}")).status_code == 404
    assert (await broker.http.get(f"/jobs/{job.id}/logs")).status_code == 404
    assert (shared_daemon.data_dir / "jobs" / str(job.id) / "1.log").read_text() == "kept\n"


async def test_its_directory_goes_too_when_asked(broker: Client, shared_daemon: Daemon) -> None:
    job = await broker.shell("echo gone")
    await broker.reaches(job.id)
    assert (await broker.http.delete(f"/jobs/{job.id}", params={"files": "true"})).status_code == 204
    assert not (shared_daemon.data_dir / "jobs" / str(job.id)).exists()


async def test_a_removed_job_that_waited_never_starts(broker: Client, shared_daemon: Daemon) -> None:
    job = await broker.submit("true", hold=True)
    assert (await broker.http.delete(f"/jobs/{job.id}")).status_code == 204
    other = await broker.submit("true")
    await broker.reaches(other.id)
    assert not (shared_daemon.data_dir / "jobs" / str(job.id)).exists()


async def test_what_runs_is_not_removed(broker: Client) -> None:
    job = await broker.lasting()
    answer = await broker.http.delete(f"/jobs/{job.id}")
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert "stop it" in answer.json()["detail"]
    assert (await broker.job(job.id)).state is JobState.RUNNING


async def test_files_that_were_kept_for_long_enough_go_and_the_job_stays(daemon: Daemon) -> None:
    daemon.start()
    async with daemon.client() as broker:
        job = await broker.shell("echo hello")
        await broker.reaches(job.id)
    assert daemon.stop() == 0
    daemon.start({"WYOLO_KEEP_DAYS": "1e-9"})
    async with daemon.client() as broker:

        async def expired() -> bool:
            return not (daemon.data_dir / "jobs" / str(job.id)).exists()

        await until_awaited(expired)
        assert (await broker.job(job.id)).state is JobState.COMPLETED
        assert (await broker.verbs(job.id))[-1] == "expire"
        assert await broker.lines(job.id) == [] and (await broker.http.get(f"/jobs/{job.id}/files")).json() == []
        assert (await broker.http.get("/orphans")).json()["orphans"] == []
