"""wyolo submit: what is queued, what is refused, and what a person is told of it."""

import json
from pathlib import Path

import pytest

from broker.protocol.api import Problem, Validation
from broker.protocol.job import TrainWork
from broker.protocol.states import JobState
from tests.flows.command import Wyolo
from tests.flows.daemon import Client, Daemon
from tests.waiting import until_awaited
from wyolo_tui.shapes import make

CONFIG = """\
model: yolov8n.yaml
name: shapes
train:
  data: data/data.yaml
  epochs: 2
  imgsz: 64
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make(tmp_path / "data", "detect", images=6, val=3, size=64)
    (tmp_path / "train.yaml").write_text(CONFIG)
    return tmp_path


@pytest.fixture
def wyolo(shared_daemon: Daemon, folder: Path) -> Wyolo:
    return Wyolo(shared_daemon.data_dir, folder)


async def test_a_file_is_queued_with_what_was_set(wyolo: Wyolo, broker: Client, folder: Path) -> None:
    more = ["--set", "train.epochs=7", "-s", "train.lr0=1e-3", "--priority", "high", "--name", "fruit", "--hold"]
    queued = (await wyolo("submit", "train.yaml", *more, "--task-id", "t-1", "--user", "ana", "--json")).job
    assert (queued.name, queued.priority, queued.state, queued.user) == ("fruit", "high", JobState.HELD, "ana")
    work = (await broker.job(queued.id)).spec
    assert work is not None and isinstance(work.work, TrainWork)
    assert work.work.args == {"data": str(folder / "data" / "data.yaml"), "epochs": 7, "lr0": 0.001, "imgsz": 64}


async def test_standard_input_is_a_file_too(wyolo: Wyolo, broker: Client) -> None:
    done = await wyolo("submit", "-", "--hold", stdin=CONFIG.encode())
    assert "shapes: held" in done.out
    assert [job.name for job in await broker.jobs("state:held")] == ["shapes"]


async def test_a_dry_run_says_what_would_run_and_queues_nothing(wyolo: Wyolo, broker: Client) -> None:
    before = len(await broker.jobs())
    done = await wyolo("submit", "train.yaml", "--dry-run")
    for said in ("would be queued", "6 train, 3 val", "disc, square, triangle", "epochs: 2", "now on local"):
        assert said in done.out
    answer = Validation.model_validate_json((await wyolo("submit", "train.yaml", "--dry-run", "--json")).out)
    assert answer.ok and answer.data is not None and answer.data.train_images == 6
    assert len(await broker.jobs()) == before
    wrong = await wyolo("submit", "train.yaml", "--dry-run", "--set", "train.epochz=1", expect=2)
    assert "would be refused" in wrong.out and "epochs" in wrong.out


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--set", "train.epochz=3"], "did you mean `epochs`"),
        (["--set", "train.epochs=many"], "train.epochs (--set)"),
        (["--set", "train.data=elsewhere/data.yaml"], "elsewhere/data.yaml"),
    ],
)
async def test_what_is_wrong_is_refused_with_place_and_remedy(
    wyolo: Wyolo, broker: Client, given: list[str], said: str
) -> None:
    before = len(await broker.jobs())
    done = await wyolo("submit", "train.yaml", *given, expect=2)
    assert said in done.err and done.err.startswith("error: ") and done.out == ""
    problem = Problem.model_validate_json((await wyolo("submit", "train.yaml", *given, "--json", expect=2)).out)
    assert problem.code in {"bad_config", "bad_data"} and len(problem.findings) == 1
    assert len(await broker.jobs()) == before


async def test_of_several_files_all_are_queued_or_none(wyolo: Wyolo, broker: Client, folder: Path) -> None:
    (folder / "broken.yaml").write_text("train: [1,\n")
    before = len(await broker.jobs())
    done = await wyolo("submit", "train.yaml", "broken.yaml", "--hold", expect=2)
    assert "error: broken.yaml: line 2, column 1: " in done.err
    assert len(await broker.jobs()) == before
    (folder / "broken.yaml").write_text(CONFIG.replace("shapes", "second"))
    both = await wyolo("submit", "train.yaml", "broken.yaml", "--hold", "--json")
    jobs = [json.loads(line) for line in both.out.splitlines()]
    assert [job["name"] for job in jobs] == ["shapes", "second"]
    assert jobs[0]["submitted_at"] == jobs[1]["submitted_at"]  # by one transaction
    assert len(await broker.jobs()) == before + 2


async def test_warnings_are_said_and_do_not_spoil_the_result(wyolo: Wyolo, folder: Path) -> None:
    (folder / "old.yaml").write_text(CONFIG + "sweeper:\n  version: 1\n")
    done = await wyolo("submit", "old.yaml", "--hold")
    assert "! " in done.err and "sweep" in done.err
    assert done.out.count("\n") == 1


async def test_a_job_that_no_node_can_run_is_queued_with_a_warning(wyolo: Wyolo, broker: Client, folder: Path) -> None:
    async def measured() -> bool:
        answer = await broker.http.post("/jobs:validate", json={"config": "command: 'true'"})
        return Validation.model_validate_json(answer.content).would_start == "now on local"

    await until_awaited(measured, what="the node to be known")
    for wish in ("resources.cpus=100", "resources.memory=900TB"):
        dry = await wyolo("submit", "train.yaml", "--set", wish, "--dry-run")
        assert "no node can run it: needs" in dry.out and "local has" in dry.out
        done = await wyolo("submit", "train.yaml", "--set", wish)
        assert ": queued" in done.out and "! resources: no node can run it: needs" in done.err
        [warning] = (await broker.job(int(done.out.split()[0]))).warnings
        assert "no node can run it" in warning
    refused = await wyolo("submit", "train.yaml", "--set", "train.device=0", expect=2)
    assert "no node has a GPU" in refused.err and "train on the CPU" in refused.err
    (folder / "old.yaml").write_text("command: 'true'\nextras: {gpu: {id: 0, limit: 0.9}}\n")
    done = await wyolo("submit", "old.yaml", "--wait")
    assert "completed" in done.out and "runs on the CPU" in done.err


@pytest.mark.train
async def test_wait_ends_with_the_training_and_tells_each_epoch(wyolo: Wyolo) -> None:
    quick = ["--set", "train.workers=0", "--set", "train.plots=false", "--set", "train.amp=false"]
    done = await wyolo("submit", "train.yaml", *quick, "--wait")
    assert "epoch 1/2  box" in done.err and "epoch 2/2  box" in done.err and "mAP50" in done.err
    assert "shapes: completed" in done.out
    job = done.out.split(" ", 1)[0]
    table = (await wyolo("metrics", job)).out
    assert "metrics/mAP50(B)" in table and "EPOCHS 1-2" in table
    csv = (await wyolo("metrics", job, "--csv", "--names", "mAP50(B),box_loss")).out.splitlines()
    assert csv[0].startswith("epoch,attempt,seconds,train/box_loss") and len(csv) == 3
    assert "best" in (await wyolo("show", job)).out
    await wyolo("files", job, "--get", "best.pt", "-o", "copied.pt")
