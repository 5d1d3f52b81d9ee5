"""doctor --orphans: what is left without a job is listed, and removed when asked; what a job has is not touched."""

import json
from pathlib import Path

from broker.protocol.api import Orphans
from tests.flows.command import Wyolo
from tests.flows.daemon import Client, Daemon


async def test_what_is_left_without_a_job_is_listed_and_removed(
    broker: Client, shared_daemon: Daemon, tmp_path: Path
) -> None:
    wyolo = Wyolo(shared_daemon.data_dir, tmp_path)
    await wyolo("doctor", "--orphans", "--remove")
    kept, removed = await broker.shell("echo kept"), await broker.shell("echo removed")
    for job in (kept, removed):
        await broker.reaches(job.id)
    running = await broker.lasting()
    assert (await broker.http.delete(f"/jobs/{removed.id}")).status_code == 204
    jobs = shared_daemon.data_dir / "jobs"
    stranger = jobs / str(kept.id) / "7"
    untold = jobs / str(kept.id) / "1" / "checkpoints" / "epoch-0003.pt.tmp"
    others = [
        jobs / "notes",
        untold.with_name("best.pt"),
        jobs / str(running.id) / "1" / "checkpoints" / "epoch-0001.pt",
    ]
    stranger.mkdir()
    for path in (untold, *others):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 100)
    found = Orphans.model_validate_json((await wyolo("doctor", "--orphans", "--json", expect=1)).out)
    assert {orphan.path for orphan in found.orphans} == {str(jobs / str(removed.id)), str(stranger), str(untold)}
    assert "was removed, and its files were kept" in (await wyolo("doctor", "--orphans", expect=1)).out
    assert all("--orphans --remove" in orphan.remedy for orphan in found.orphans)

    gone = json.loads((await wyolo("doctor", "--orphans", "--remove", "--json")).out)
    assert len(gone["orphans"]) == 3
    assert not stranger.exists() and not untold.exists() and not (jobs / str(removed.id)).exists()
    assert all(path.exists() for path in others)
    assert (await wyolo("doctor", "--orphans")).out == "nothing is left without a job\n"
    assert await broker.lines(kept.id) == ["kept"]
    await broker.verb(running.id, "kill")
    await broker.reaches(running.id)
