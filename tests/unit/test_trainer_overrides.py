"""What a person wrote and what Ultralytics is given."""

from typing import Any

import pytest

from broker.protocol.states import EndReason
from broker.protocol.training import TrainConfig
from trainer import autobatch, overrides
from trainer.autobatch import GpuMemory
from trainer.failures import TrainingError
from trainer.overrides import Machine

GIB = 1 << 30
CPU = Machine(cpus=4)
GPU = Machine(cpus=16, gpus=1, assigned=True, gpu=GpuMemory(total=24 * GIB, free=20 * GIB))


def config(args: dict[str, Any] | None = None, **fields: Any) -> TrainConfig:
    return TrainConfig.model_validate(
        {"job_id": 1, "fence": 1, "directory": "/x", "model": "yolov8n.pt", "args": args or {}, **fields}
    )


def planned(args: dict[str, Any] | None = None, machine: Machine = CPU, images: int = 0, **fields: Any) -> Any:
    return overrides.plan(config(args, **fields), machine, images)


def test_every_other_key_passes_through_unchanged() -> None:
    args = {"lr0": 0.02, "mosaic": 0.5, "classes": [0, 2], "freeze": 10, "cos_lr": True, "time": 1.5}
    assert args.items() <= planned(args).args.items()


def test_names_of_folders_are_not_passed_on() -> None:
    given = planned({"project": "runs", "name": "mine", "exist_ok": False, "save_dir": "/elsewhere", "resume": True})
    assert not {"project", "name", "exist_ok", "save_dir", "resume"} & given.args.keys()


def test_numbers_that_yaml_reads_as_text_are_numbers() -> None:
    args = planned({"lr0": "1e-5", "epochs": "3", "optimizer": "1e-5"}).args
    assert (args["lr0"], args["epochs"], args["optimizer"]) == (1e-5, 3, "1e-5")


def test_text_that_is_no_number_is_left_for_ultralytics_to_refuse() -> None:
    assert planned({"lr0": "fast"}).args["lr0"] == "fast"


@pytest.mark.parametrize("wanted", [0, "0", "cuda:0", [0, 1]])
def test_without_a_gpu_it_trains_on_the_cpu_and_says_so(wanted: Any) -> None:
    plan = planned({"device": wanted})
    assert plan.args["device"] == "cpu"
    assert "no GPU is visible" in plan.notes[0]


def test_without_a_gpu_and_without_a_wish_there_is_nothing_to_say() -> None:
    assert planned().args["device"] == "cpu"
    assert planned().notes == []


@pytest.mark.parametrize(
    ("wanted", "gpus", "assigned", "device"),
    [
        (None, 1, True, "0"),
        (3, 1, True, "0"),  # the host's number 3 is the only one inside
        ([2, 3], 2, True, "0"),
        (None, 4, False, "0"),  # without an assignment, like `yolo train`
        ([2, 3], 4, False, "2"),
        ("cuda:1", 4, False, "1"),
        ("cpu", 1, True, "cpu"),
    ],
)
def test_it_uses_the_gpus_that_it_was_given(wanted: Any, gpus: int, assigned: bool, device: str) -> None:
    machine = Machine(cpus=16, gpus=gpus, assigned=assigned)
    assert planned({"device": wanted}, machine).args["device"] == device


def test_of_several_gpus_one_is_used_and_a_person_is_told() -> None:
    several = Machine(cpus=16, gpus=2, assigned=True)
    assert "2 GPUs" in "".join(planned(machine=several).notes)
    assert "2 GPUs" in "".join(planned({"device": "0,1"}, Machine(cpus=16, gpus=4)).notes)
    assert planned(machine=Machine(cpus=16, gpus=4)).notes == []


def test_workers_are_no_more_than_the_cores() -> None:
    plan = planned({"workers": 64}, GPU)
    assert plan.args["workers"] == 16
    assert "64" in plan.notes[0]


def test_a_cache_that_does_not_fit_the_memory_limit_is_turned_off() -> None:
    limited = Machine(cpus=4, memory=8 * GIB)
    assert planned({"cache": "ram"}, limited, images=100_000).args["cache"] is False
    assert planned({"cache": True}, limited, images=1_000).args["cache"] is True
    assert planned({"cache": "disk"}, limited, images=100_000).args["cache"] == "disk"
    assert planned({"cache": "ram"}, CPU, images=100_000).args["cache"] == "ram"  # Ultralytics asks the host


def test_rtdetr_is_not_deterministic_unless_a_person_insists() -> None:
    assert planned(family="rtdetr").args["deterministic"] is False
    assert planned({"deterministic": True}, family="rtdetr").args["deterministic"] is True
    assert "deterministic" not in planned().args


def test_checkpoints_are_always_saved() -> None:
    plan = planned({"save": False})
    assert plan.args["save"] is True
    assert "cannot be stopped and resumed" in "".join(plan.notes)


def test_the_final_validation_gets_its_own_arguments_and_no_folders() -> None:
    val = {"conf": "0.25", "save_json": True, "project": "x", "device": 1, "unknown": 1}
    assert overrides.validation(config(val=val)) == {"conf": 0.25, "save_json": True}


def test_a_resumed_run_takes_only_the_machine_from_here() -> None:
    assert overrides.of_the_machine(planned({"lr0": 0.1}).args).keys() == {"cache", "device", "workers"}


@pytest.mark.parametrize("wanted", [16, 16.0])
def test_a_batch_is_a_whole_number(wanted: float) -> None:
    assert autobatch.batch(wanted, None, None, None) == (16, "")
    assert isinstance(autobatch.batch(wanted, None, None, None)[0], int)


@pytest.mark.parametrize("wanted", [0, -2, 2.5, "many", True, None])
def test_a_batch_that_is_none_is_refused(wanted: Any) -> None:
    with pytest.raises(TrainingError) as caught:
        autobatch.batch(wanted, None, None, None)
    assert caught.value.reason is EndReason.BAD_CONFIG


def test_a_share_is_resolved_once_and_kept_for_later_attempts() -> None:
    given, note = autobatch.batch(-1, 24, GPU.gpu, None)
    assert given == 24
    assert "as in the attempt before" in note
    assert autobatch.batch(8, 24, GPU.gpu, None) == (8, "")


def test_a_share_on_the_cpu_is_ultralytics_default() -> None:
    given, note = autobatch.batch(0.7, None, None, None)
    assert given == 16
    assert "on the CPU it is 16" in note


@pytest.mark.parametrize(
    ("wanted", "limit", "share"),
    [
        (-1, None, 0.6),
        (0.7, None, 0.7),
        (-1, 0.5, 0.6 * 12 / 20),  # 12 of 24 GiB may be used, 20 are free
        (-1, 1.0, 0.6),  # the limit is above what is free
    ],
)
def test_a_share_of_a_shared_gpu_stays_within_the_limit(wanted: float, limit: float | None, share: float) -> None:
    given, note = autobatch.batch(wanted, None, GPU.gpu, limit)
    assert given == pytest.approx(share)  # pyright: ignore[reportUnknownMemberType]
    assert not note
