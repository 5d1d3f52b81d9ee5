"""What is trained: its file, its task and its family, which decide the trainer class."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, get_args

from broker.protocol.job import Family, Task
from broker.protocol.states import EndReason
from broker.protocol.training import TrainConfig
from broker.protocol.ultralytics_keys import MODELS
from trainer import weights
from trainer.checkpoint import Resumable
from trainer.failures import TrainingError

_TRAINERS: dict[Task, tuple[str, str]] = {
    "detect": ("ultralytics.models.yolo.detect", "DetectionTrainer"),
    "segment": ("ultralytics.models.yolo.segment", "SegmentationTrainer"),
    "classify": ("ultralytics.models.yolo.classify", "ClassificationTrainer"),
    "pose": ("ultralytics.models.yolo.pose", "PoseTrainer"),
    "obb": ("ultralytics.models.yolo.obb", "OBBTrainer"),
}
_RTDETR = ("ultralytics.models.rtdetr.train", "RTDETRTrainer")
_RTDETR_HEAD = "RTDETRDecoder"
_OPEN_VOCABULARY = ("World", "YOLOE")


@dataclass(frozen=True, slots=True)
class Model:
    """`module` is there where the file had to be loaded to know its task."""

    path: str
    task: Task
    family: Family
    module: Any = None

    def trainer_class(self) -> Any:
        """Ultralytics' trainer for it. Used directly: its YOLO class builds a model only to throw it away."""
        module, name = _RTDETR if self.family == "rtdetr" else _TRAINERS[self.task]
        return getattr(import_module(module), name)


def describe(path: str, config: TrainConfig, note: Callable[[str], None]) -> Model:
    """Raises TrainingError(bad_config), and what Ultralytics raises for a file that it cannot load.

    What the file is counts, as in Ultralytics; `note` hears where the configuration says otherwise.
    """
    model = _stock(path) or _described(path)
    if config.task is not None and config.task != model.task:
        note(f"the configuration says task {config.task}, and {config.model} is for {model.task}: trained so")
    if config.family != model.family:
        note(f"the configuration says {config.family}, and {config.model} is of the family {model.family}: trained so")
    return model


def resumed(checkpoint: Resumable) -> Model:
    """Raises TrainingError(bad_config)."""
    head = type(checkpoint.state["ema"].model[-1]).__name__
    return _known(checkpoint.checkpoint.path, head, checkpoint.train_args["task"])


def _stock(path: str) -> Model | None:
    if not path.endswith(".yaml"):
        return None
    return next((Model(path, task, family) for (family, task), names in MODELS.items() if path in names), None)


def _described(path: str) -> Model:
    tasks: Any = import_module("ultralytics.nn.tasks")
    if not path.endswith(".pt"):
        architecture: Any = tasks.yaml_model_load(path)
        return _known(path, str(architecture["head"][-1][2]), tasks.guess_model_task(architecture))
    module, _ = tasks.load_checkpoint(path)
    weights.check_activation(module.yaml, path)
    return _known(path, type(module.model[-1]).__name__, module.task, module)


def _known(path: str, head: str, task: str, module: Any = None) -> Model:
    if task not in get_args(Task) or head.startswith(_OPEN_VOCABULARY):
        raise TrainingError(
            EndReason.BAD_CONFIG,
            f"model {path} is for {task or 'an unknown task'} ({head}), which is not trained here",
            f"choose a model for one of {', '.join(get_args(Task))}",
        )
    return Model(path, task, "rtdetr" if head == _RTDETR_HEAD else "yolo", module)  # pyright: ignore[reportArgumentType]
