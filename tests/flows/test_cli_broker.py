"""wyolo broker start, status, stop; doctor; demo."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from broker.protocol.api import Health
from broker.protocol.states import JobState
from tests.flows.command import Wyolo
from wyolo_tui import discovery
from wyolo_tui.unanswered import BrokerOut

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Path]:
    """A data directory whose broker is ended with the test."""
    folder = tmp_path / "data"
    yield folder
    with suppress(BrokerOut):
        await discovery.stop(discovery.find(data_dir=folder))


async def test_a_broker_in_the_background_outlives_the_command_and_is_ended_by_name(home: Path, tmp_path: Path) -> None:
    wyolo = Wyolo(home, tmp_path)
    first = await wyolo("broker", "start", "--port", "0")
    assert "has been started" in first.out and str(home) in first.out
    address = json.loads((home / "broker.json").read_text())
    assert os.getsid(address["pid"]) == address["pid"] != os.getsid(0)
    second = await wyolo("broker", "start")
    assert "runs already" in second.out and str(address["pid"]) in second.out
    assert Health.model_validate_json((await wyolo("broker", "start", "--json")).out).status == "ok"
    status = (await wyolo("broker", "status")).out
    assert "redis ok, ledger ok" in status and address["url"] in status
    assert "has ended" in (await wyolo("broker", "stop")).out
    assert "no broker runs" in (await wyolo("broker", "stop", expect=3)).err
    assert "no broker runs" in (await wyolo("jobs", expect=3)).err


async def test_two_commands_that_start_a_broker_at_once_get_the_same(home: Path) -> None:
    flags = ["--port", "0"]
    (one, _), (other, _) = await asyncio.gather(discovery.start(home, flags), discovery.start(home, flags))
    assert (one.url, one.pid) == (other.url, other.pid)


async def test_a_running_job_goes_on_when_the_broker_is_stopped_and_started(home: Path, tmp_path: Path) -> None:
    wyolo = Wyolo(home, tmp_path)
    await wyolo("broker", "start", "--port", "0")
    job = (await wyolo("run", "--json", "--", "sh", "-c", "echo begun; while :; do sleep 0.05; done")).job
    await wyolo.interrupted("logs", "-f", str(job.id), once=b"begun")
    await wyolo("broker", "stop")
    await wyolo("broker", "start", "--port", "0")
    again = json.loads((await wyolo("show", str(job.id), "--json")).out)
    assert (again["state"], again["fence"]) == (JobState.RUNNING, 1)
    await wyolo("kill", str(job.id))
    await wyolo("wait", str(job.id), expect=1)


async def test_a_broker_that_cannot_start_says_why(home: Path, tmp_path: Path) -> None:
    wyolo = Wyolo(home, tmp_path, {"WYOLO_GRACE_S": "soon"})
    said = (await wyolo("broker", "start", expect=3)).err
    assert "did not come up" in said and "grace_s" in said.lower()


async def test_broker_help_documents_every_setting(home: Path, tmp_path: Path) -> None:
    said = (await Wyolo(home, tmp_path)("broker", "--help")).out
    assert "WYOLO_PREFLIGHT_IMAGES" in said and "wyolo broker start" in said


@pytest.mark.timeout(240)
async def test_doctor_says_a_line_for_each_thing_and_fails_with_one(home: Path, tmp_path: Path) -> None:
    checks = json.loads((await Wyolo(home, tmp_path)("doctor", "--json")).out)
    names = {
        "python",
        "redis",
        "data directory",
        "broker",
        "GPU driver",
        "torch",
        "docker",
        "/dev/shm",
        "disk",
        "clock",
    }
    assert names <= {check["name"] for check in checks}
    assert {check["level"] for check in checks} <= {"ok", "warn"}
    broken = Wyolo(home, tmp_path, {"WYOLO_TRAINER_PYTHON": "/bin/false"})
    lines = (await broken("doctor", expect=1)).out.splitlines()
    assert [line for line in lines if line.startswith("✗")] == [next(line for line in lines if " torch " in line)]
    assert "pip install 'wyolo[train]'" in next(line for line in lines if " torch " in line)


@pytest.mark.train
@pytest.mark.timeout(600)
async def test_the_demo_trains_says_what_it_reached_and_leaves_nothing_running(tmp_path: Path) -> None:
    wyolo = Wyolo(tmp_path / "unused", tmp_path)
    async with wyolo.started("demo") as child:
        out, err = await child.communicate()
    assert child.returncode == 0, err.decode()
    assert float(out.decode().split("validation mAP50 ")[1].split()[0]) > 0.5
    assert err.decode().count(" epoch ") == 12
    with pytest.raises(BrokerOut):
        discovery.find(data_dir=tmp_path / ".wyolo-demo")
