"""Pure: TrainConfig -> the arguments Ultralytics is called with, and a note for each that had to differ."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from broker.protocol.training import TrainConfig
from broker.protocol.ultralytics_keys import KEYS
from trainer import autobatch
from trainer.autobatch import GpuMemory

# Decided by us, whatever a person wrote: `project` and `name` are labels only.
OURS = frozenset({"cfg", "data", "exist_ok", "mode", "model", "name", "project", "resume", "save_dir", "task"})
# A resumed run has all its arguments in the checkpoint; these belong to the machine it runs on now.
OF_THE_MACHINE = ("cache", "device", "workers")
NOT_FOR_VALIDATION = OURS | {"device", "plots", "workers", "val", "save"}
_NUMBERS = frozenset({"int", "float", "fraction"})


@dataclass(frozen=True, slots=True)
class Machine:
    """What there is to train on."""

    cpus: int
    gpus: int = 0  # visible
    assigned: bool = False  # CUDA_VISIBLE_DEVICES was set for us: those GPUs and no others
    gpu: GpuMemory | None = None  # of the first one
    memory: int | None = None  # bytes that are left under a limit; None: not limited


@dataclass(frozen=True, slots=True)
class Plan:
    args: dict[str, Any]
    notes: list[str] = field(default_factory=list[str])


def plan(config: TrainConfig, machine: Machine, images: int) -> Plan:
    """Everything but model, data, task and directories. `images` is how many `cache: ram` would hold.

    Raises TrainingError(bad_config).
    """
    notes: list[str] = []
    args = {key: number(key, value) for key, value in config.args.items() if key not in OURS}
    args["device"] = _device(args.get("device"), machine, notes)
    on_gpu = args["device"] not in {"cpu", "mps"}
    gpu = machine.gpu if on_gpu else None
    args["batch"], note = autobatch.batch(args.get("batch", 16), config.batch, gpu, config.gpu_memory_fraction)
    if note:
        notes.append(note)
    args["workers"] = _workers(args.get("workers", 8), machine.cpus, notes if on_gpu else [])
    args["cache"] = _cache(args.get("cache", False), args.get("imgsz"), images, machine.memory, notes)
    if args.get("save") is False:
        notes.append("train.save is true: without checkpoints a job cannot be stopped and resumed")
    args["save"] = True
    if config.family == "rtdetr":
        args.setdefault("deterministic", False)  # grid_sample has no deterministic form
    return Plan(args, notes)


def validation(config: TrainConfig) -> dict[str, Any]:
    """The `val` section: arguments of the final validation alone."""
    return {
        key: number(key, value) for key, value in config.val.items() if key in KEYS and key not in NOT_FOR_VALIDATION
    }


def number(key: str, value: Any) -> Any:
    """YAML 1.1 reads 1e-5 as text."""
    if isinstance(value, str) and key in KEYS and KEYS[key].kind in _NUMBERS:
        try:
            return int(value) if KEYS[key].kind == "int" else float(value)
        except ValueError:
            return value  # Ultralytics says what it expects
    return value


def of_the_machine(args: Mapping[str, Any]) -> dict[str, Any]:
    """What a resumed run takes from here and not from its checkpoint."""
    return {key: args[key] for key in OF_THE_MACHINE if key in args}


def _device(wanted: Any, machine: Machine, notes: list[str]) -> str:
    text = str("" if wanted is None else wanted).strip("[]() ").lower().replace("cuda:", "").replace("'", "")
    if text in {"cpu", "mps"}:
        return text
    if machine.gpus == 0:
        if text not in {"", "none", "-1"}:
            notes.append(f"train.device is {wanted!r}, and no GPU is visible here: training on the CPU")
        return "cpu"
    if machine.assigned or text in {"", "none", "cuda"}:
        # Inside, the GPUs that were assigned are numbered from 0, whatever their numbers are outside.
        chosen, given = "0", machine.gpus if machine.assigned else 1
    else:
        chosen, *others = (part.strip() for part in text.split(","))
        given = 1 + len(others)
    if given > 1:
        notes.append(f"{given} GPUs are there for this training: it uses one, since a training runs in one process")
    return chosen


def _workers(wanted: Any, cpus: int, notes: list[str]) -> Any:
    if not isinstance(wanted, int) or wanted <= cpus:
        return wanted
    notes.append(f"train.workers is {wanted}, and {cpus} cores are available here: using {cpus}")
    return cpus


def _cache(wanted: Any, imgsz: Any, images: int, memory: int | None, notes: list[str]) -> Any:
    """`ram` only where it fits: Ultralytics asks how much the whole host has free."""
    if wanted is not True and str(wanted).lower() not in {"ram", "true"}:
        return wanted
    side = imgsz if isinstance(imgsz, int) else 640
    needed = images * side * side * 3
    if memory is None or needed < memory / 2:
        return wanted
    room = f"{images} images need up to {needed >> 20} MiB, and {memory >> 20} MiB are left under the limit"
    notes.append(f"train.cache is off: {room}")
    return False
