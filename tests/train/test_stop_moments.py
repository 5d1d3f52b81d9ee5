"""A training that is told to stop at a bad moment leaves in seconds, keeps what was finished, and goes on after it."""

import hashlib
import time
from pathlib import Path

import pytest

from broker.protocol.states import EndReason
from broker.protocol.training import EXIT_OK, EXIT_STOPPED, Failed, Finished, Saved, Started
from tests.train.attempts import Attempts
from tests.train.told import MOMENTS, told_at
from wyolo_tui import shapes

pytestmark = pytest.mark.train

EPOCHS = 3
SECONDS = 10.0
KEPT = {
    "in the validation of an epoch": 1,
    "in the final validation": EPOCHS,
    "while a checkpoint is copied": 2,
    "while the next epoch waits for a copy": 1,
}


@pytest.fixture(scope="module")
def data(attempts: Attempts) -> str:
    return str(shapes.make(attempts.folder / "shapes", "detect", images=4, val=2, size=32))


@pytest.mark.parametrize("moment", MOMENTS)
def test_told_to_stop(attempts: Attempts, data: str, moment: str) -> None:
    args = {"data": data, "epochs": EPOCHS}
    stopped = attempts.start(args=args, program=("tests.train.told", moment))
    assert stopped.wait() == EXIT_STOPPED, stopped.log()
    assert time.time() - told_at(stopped.directory) < SECONDS
    result, kept = stopped.result(), KEPT[moment]
    assert (result.ok, result.reason, result.epoch) == (False, EndReason.USER_STOP, kept), result
    ahead = "makes the final validation" if kept == EPOCHS else f"goes on with epoch {kept + 1}"
    assert f"Resume {ahead}." in result.message
    assert not stopped.of(Failed)
    assert not stopped.of(Finished)
    newest = Path(stopped.checkpoints()[0].path)
    assert hashlib.sha256(newest.read_bytes()).hexdigest() == stopped.checkpoints()[0].sha256
    assert not list(newest.parent.glob("*.tmp"))

    half = newest.with_name("epoch-0009.pt.tmp")  # as one leaves that is killed
    half.touch()
    before = set(newest.parent.glob("epoch-*.pt"))
    resumed = attempts.run(args=args, resume=stopped.checkpoints())
    assert resumed.process.returncode == EXIT_OK, resumed.log()
    assert resumed.only(Started).first_epoch == kept + 1
    assert stopped.epochs() + resumed.epochs() == list(range(1, EPOCHS + 1))
    assert [int(row["epoch"]) for row in resumed.series()] == list(range(1, EPOCHS + 1))
    assert not half.exists()
    assert set(newest.parent.glob("epoch-*.pt")) == ({newest} if resumed.of(Saved) else before)
