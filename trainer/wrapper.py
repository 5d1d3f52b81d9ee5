"""A training without a broker: the `wyolo-train` command, and TrainerWrapper for scripts written for older wyolo."""

import argparse
import os
import re
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from broker.protocol.api import Finding
from broker.protocol.document import DocumentError, parse
from broker.protocol.job import JobSpec, TrainWork
from broker.protocol.legacy import read
from broker.protocol.states import EndReason
from broker.protocol.training import (
    CONFIG_NAME,
    EVENTS_NAME,
    EXIT_OK,
    RESULT_NAME,
    TRAINER_EVENT,
    Epoch,
    Finished,
    TrainConfig,
    TrainerResult,
)
from trainer.autobatch import CPU_BATCH
from trainer.failures import TrainingError

EXIT_BAD_INPUT = 2
OUTPUT = Path("runs") / "wyolo"


class TrainerWrapper:
    """`TrainerWrapper(config)`, `create_model(name, type)`, `train(config["train"])`: one training in this process.

    `config` is what a configuration file holds. Raises TrainingError where it is not valid.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = dict(config)
        self.directory: Path | None = None  # of the newest training

    def create_model(self, name: str | None = None, type: str | None = None) -> "TrainerWrapper":
        """Choose the model (yolov8n.pt) and its kind (yolo, rtdetr, detect ...). It is built when training starts."""
        self._config |= {key: value for key, value in (("model", name), ("type", type)) if value is not None}
        return self

    def get_better_batch(self, batch_to_use: float = -1) -> int:
        """The batch that fits `batch_to_use` of the GPU's free memory (-1: 60 %). Without a GPU: 16."""
        torch: Any = import_module("torch")
        if not torch.cuda.is_available():
            return CPU_BATCH
        spec = self._spec({})
        work = _training(spec)
        model = import_module("ultralytics").YOLO(work.model, task=work.task).model.to("cuda")
        measure = import_module("ultralytics.utils.autobatch").check_train_batch_size
        return int(measure(model, imgsz=int(work.args.get("imgsz", 640)), amp=True, batch=batch_to_use))

    def train(self, train: Mapping[str, Any] | None = None) -> dict[str, float]:
        """The values of the final validation. Raises TrainingError for a training that did not finish."""
        spec = self._spec(train or {})
        self.directory = new_directory(OUTPUT, spec)
        if foreground(spec, self.directory, listen=False) != EXIT_OK:
            result = _result(self.directory)
            raise TrainingError(result.reason, result.message)
        return final_values(self.directory)

    def _spec(self, train: Mapping[str, Any]) -> JobSpec:
        document = {**self._config, "train": {**self._config.get("train", {}), **train}}
        return valid(document, Path.cwd())


def valid(document: Mapping[str, Any], base: Path, path_map: Mapping[str, str] | None = None) -> JobSpec:
    """Prints what is worth knowing. Raises TrainingError(bad_config) with all that is wrong."""
    found = read(document, path_map or {}, str(base))
    for finding in found.findings:
        print(f"{finding.level}: {_said(finding)}", file=sys.stderr)
    if found.spec is None:
        wrong = "; ".join(_said(finding) for finding in found.findings if finding.level == "error")
        raise TrainingError(EndReason.BAD_CONFIG, wrong)
    _training(found.spec)
    return found.spec


def _said(finding: Finding) -> str:
    return ": ".join(filter(None, (finding.where, finding.message, finding.hint)))


def _training(spec: JobSpec) -> TrainWork:
    if not isinstance(spec.work, TrainWork):
        raise TrainingError(EndReason.BAD_CONFIG, "this is a command and not a training", "run it with `wyolo submit`")
    return spec.work


def new_directory(base: Path, spec: JobSpec) -> Path:
    """<base>/<name>-<n>, the first that does not exist yet. Raises OSError."""
    name = re.sub(r"[^\w.-]+", "-", spec.name or Path(_training(spec).model).stem).strip("-.") or "training"
    number = 1
    while True:
        directory = (base / f"{name}-{number}").resolve()
        try:
            directory.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return directory


def foreground(spec: JobSpec, directory: Path, *, listen: bool) -> int:
    """Trains in this process; events go to events.jsonl alone. `listen`: SIGTERM and Ctrl-C stop it in good order."""
    from trainer.emit import Emitter
    from trainer.run import run
    from trainer.stop import Stop

    work, gpu = _training(spec), spec.resources.gpu
    args = dict(work.args)
    if gpu is not None:
        args["device"] = "cpu" if gpu.count == 0 else ",".join(map(str, gpu.ids or range(gpu.count)))
    config = TrainConfig(
        job_id=0,
        fence=1,
        directory=str(directory),
        model=work.model,
        family=work.family,
        task=work.task,
        args=args,
        val=work.val,
        gpu_memory_fraction=gpu.memory_fraction if gpu is not None else None,
        offline=os.environ.get("YOLO_OFFLINE", "").lower() in {"1", "true"},
    )
    (directory / CONFIG_NAME).write_text(config.model_dump_json(indent=2), encoding="utf-8")
    stop = Stop()
    stop.hold()
    if listen:
        stop.listen()
    return run(config, Emitter(directory, stop, stdout=False), stop)


def final_values(directory: Path) -> dict[str, float]:
    """Of the final validation, and `fitness`, the best of any epoch. Raises OSError."""
    events = [TRAINER_EVENT.validate_json(line) for line in (directory / EVENTS_NAME).read_bytes().splitlines()]
    nothing: dict[str, float] = {}
    values = next((event.values for event in reversed(events) if isinstance(event, Finished)), nothing)
    fitness = [event.fitness for event in events if isinstance(event, Epoch) and event.fitness is not None]
    return {**values, "fitness": max(fitness)} if fitness else values


def _result(directory: Path) -> TrainerResult:
    return TrainerResult.model_validate_json((directory / RESULT_NAME).read_bytes())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("wyolo-train", description="Train a configuration here and now, without a broker.")
    parser.add_argument("--config_path", "--config", required=True, type=Path, help="the configuration (YAML)")
    parser.add_argument("--trial_number", type=int, help="goes into the directory's name")
    parser.add_argument("--fitness", help="print this value at the end, as NAME: value (fitness, metrics/mAP50(B) ...)")
    parser.add_argument(
        "--path_map", action="append", default=[], metavar="PREFIX=PATH", help="where a prefix in the file is here"
    )
    return parser.parse_args()


def main() -> int:
    """Exit codes: 0 trained, 1 failed, 2 bad input, 75 stopped with a checkpoint."""
    options = _arguments()
    path: Path = options.config_path
    try:
        path_map = dict(pair.split("=", 1) for pair in options.path_map if "=" in pair)
        spec = valid(parse(path.read_text(encoding="utf-8")), path.resolve().parent, path_map)
    except (OSError, DocumentError, TrainingError, UnicodeDecodeError) as error:
        print(f"{path}: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    if options.trial_number is not None:
        name = f"{spec.name or Path(_training(spec).model).stem}-trial-{options.trial_number}"
        spec = spec.model_copy(update={"name": name, "trial_number": options.trial_number})
    directory = new_directory(OUTPUT, spec)
    code = foreground(spec, directory, listen=True)
    print(f"{_result(directory).message}\n{directory}")
    if options.fitness:
        values = final_values(directory)
        print(f"{options.fitness}: {values.get(options.fitness, float('nan'))}")
    return code


if __name__ == "__main__":
    sys.exit(main())
