"""The story of one attempt: resolve what was asked for, train, finish. It ends with result.json, whatever happens."""

import os
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from broker.protocol.document import DocumentError, parse
from broker.protocol.states import EndReason
from broker.protocol.training import (
    EXIT_FAILED,
    EXIT_OK,
    EXIT_STOPPED,
    RUN_NAME,
    Failed,
    Finished,
    TrainConfig,
    TrainerResult,
)
from trainer import checkpoint, dataset, durable, earlier, environment, limits, model, overrides, weights
from trainer.autobatch import GpuMemory
from trainer.callbacks import Watch, finite, started, supervised
from trainer.checkpoint import Keeper, Resumable
from trainer.dataset import Dataset
from trainer.emit import Emitter, now
from trainer.failures import TrainingError, classify
from trainer.gpu import Sampler
from trainer.model import Model
from trainer.overrides import Machine
from trainer.stop import Stop, Stopped


def run(config: TrainConfig, emitter: Emitter, stop: Stop) -> int:
    """The exit code. `stop` comes held. Raises only when the result itself cannot be written."""
    attempt = _Attempt(config, emitter, stop)
    sampler = Sampler(emitter)
    try:
        try:
            stop.release()  # held until now: before, there was no one to report it
            sampler.start()
            attempt.train()
        finally:
            stop.hold()  # how it ended is written whole
        reason, message, code = EndReason.COMPLETED, f"Trained {attempt.epoch} epochs", EXIT_OK
    except Stopped:
        (reason, message), code = attempt.stopped(), EXIT_STOPPED
    except Exception as error:  # the trainer's edge: whatever was raised is classified and reported
        if stop.requested:  # what a stop breaks on its way (a loader's worker that got the signal too) is no failure
            (reason, message), code = attempt.stopped(), EXIT_STOPPED
        else:
            attempt.settle(error)
            failure = classify(error, attempt.kept())
            # On a full disk each of these may fail: the result, whose place is kept, is what counts.
            with suppress(OSError):
                failed = Failed(at=now(), reason=failure.reason, message=failure.message, traceback=failure.traceback)
                emitter.emit(failed)
            with suppress(OSError):
                print(failure.traceback or failure.message, flush=True)
            reason, message, code = failure.reason, failure.message, EXIT_FAILED
    sampler.stop()
    ok = code == EXIT_OK
    emitter.result(TrainerResult(fence=config.fence, ok=ok, reason=reason, message=message, epoch=attempt.epoch))
    return code


class _Attempt:
    def __init__(self, config: TrainConfig, emitter: Emitter, stop: Stop) -> None:
        self._config = config
        self._emitter = emitter
        self._stop = stop
        self._directory = Path(config.directory)
        self._run = self._directory / RUN_NAME
        self._keeper = Keeper(self._directory, config.fence)
        self._watch = Watch(emitter, stop, self._keeper)
        self._caches = Path(config.cache_dir) if config.cache_dir else self._directory / "cache"
        self._resumed: Resumable | None = None

    @property
    def epoch(self) -> int:
        """Finished epochs whose checkpoint is safe."""
        newest = self._keeper.newest
        if newest is not None:
            return newest.epoch
        return self._resumed.checkpoint.epoch if self._resumed is not None else 0

    @property
    def _measured(self) -> str:
        """The split that the final validation is on."""
        return str(self._config.val.get("split") or self._config.args.get("split") or "val")

    def stopped(self) -> tuple[EndReason, str]:
        """Why it stopped and what that left, once nothing is being written any more."""
        self.settle()
        if self._stop.why:
            return EndReason.INTERRUPTED, f"{self._stop.why}: it left by itself. {self.kept()}"
        ahead = "makes the final validation" if self._watch.trained else f"goes on with epoch {self.epoch + 1}"
        return EndReason.USER_STOP, f"Stopped as asked. {self.kept()} Resume {ahead}."

    def settle(self, met: BaseException | None = None) -> None:
        """Waits for what is being written: what was finished is kept, whatever came after it. Says what went wrong with
        that, unless it is `met`, and makes room for what is to be said last."""
        error = None
        try:
            self._keeper.settle()
        except OSError as caught:
            error = caught
        self._emitter.make_room()
        if error is not None and error is not met:
            with suppress(OSError):
                self._emitter.note(f"the newest checkpoint could not be written: {error}")

    def kept(self) -> str:
        if self.epoch > 0:
            return f"The checkpoint of epoch {self.epoch} is kept."
        if self._config.resume:
            return f"The checkpoint of epoch {self._config.resume[0].epoch} is kept."
        return "No epoch was finished."

    def train(self) -> None:
        """Raises Stopped, TrainingError, and whatever Ultralytics does."""
        config, places = self._config, environment.folders(self._config.weights_dir)
        earlier.remove(earlier.half_written(self._directory, config.fence))
        args = _with_custom(config.args)
        named = {} if config.resume else self._find(args, [places.weights, Path.cwd()])
        missing = {found.missing: Path(found.path) for found in named.values() if found.missing is not None}
        stock_data = isinstance(args.get("data"), str) and not Path(args["data"]).exists()
        environment.prepare(self._directory, places, online=not config.offline and bool(missing or stock_data))
        for name, target in missing.items():
            self._emitter.note(f"downloading {name} to {target.parent}", warning=False)
            weights.download(name, target)
        self._stop.check()
        args |= {key: found.path for key, found in named.items() if key != "model"}
        resumed = self._choose() if config.resume else None
        trained = model.resumed(resumed) if resumed else model.describe(named["model"].path, config, self._emitter.note)
        measured = "val" if config.val.get("data") else self._measured
        data = dataset.prepare(
            args.get("data"), trained.task, self._directory, places.datasets, offline=config.offline, measured=measured
        )
        config = config.model_copy(update={"args": args, "family": trained.family})
        images = data.count("train") + data.count("val") if args.get("cache") else 0
        plan = overrides.plan(config, _machine(config), images)
        for note in plan.notes:
            self._emitter.note(note)
        self._watch.validation = self._validation(trained, places.datasets)
        self._stop.check()
        if resumed is not None:
            self._resume(resumed, trained, data, plan.args)
        else:
            self._fresh(trained, data, plan.args)

    def _validation(self, trained: Model, datasets: Path) -> dict[str, Any]:
        """The `val` section. Its `data` may be another data set."""
        config, validation = self._config, overrides.validation(self._config)
        if config.val.get("data"):
            folder = self._directory / "val"
            folder.mkdir(exist_ok=True)
            other = dataset.prepare(
                config.val["data"], trained.task, folder, datasets, offline=config.offline, measured=self._measured
            )
            validation["data"] = other.path
        return validation

    def _find(self, args: Mapping[str, Any], folders: list[Path]) -> dict[str, weights.Found]:
        """The model, and the weights that other arguments name."""
        named = {"model": self._config.model}
        for key in ("pretrained", "distill_model"):
            value: object = args.get(key)
            if isinstance(value, str) and value.endswith(".pt"):
                named[key] = value
        found = {key: weights.find(value, folders) for key, value in named.items()}
        missing = [one.missing for one in found.values() if one.missing is not None]
        if missing and self._config.offline:
            raise weights.refuse_download(missing[0], folders)
        return found

    def _fresh(self, trained: Model, data: Dataset, args: dict[str, Any]) -> None:
        trainer = self._trainer(trained, {**args, "model": trained.path, "data": data.path, "task": trained.task})
        if trained.module is not None:  # loaded already: not once more
            pretrained, start = args.get("pretrained", True), trained.module
            if isinstance(pretrained, str):
                start, _ = import_module("ultralytics.nn.tasks").load_checkpoint(pretrained)
            trainer.model = trainer.get_model(weights=start if pretrained else None, cfg=trained.module.yaml)
        self._train(trainer)

    def _choose(self) -> Resumable:
        resumed = checkpoint.choose(self._config.resume)
        for note in resumed.notes:
            self._emitter.note(note)
        self._resumed = resumed
        return resumed

    def _resume(self, resumed: Resumable, trained: Model, data: Dataset, args: dict[str, Any]) -> None:
        done, path = resumed.checkpoint.epoch, resumed.checkpoint.path
        ahead = checkpoint.ahead(resumed, self._config.epochs)
        self._watch.seconds_before = checkpoint.carry(resumed, self._run)
        self._watch.epoch = done
        self._keeper.superseded = earlier.superseded(self._directory, self._config.fence, Path(path))
        trainer = self._trainer(trained, {**overrides.of_the_machine(args), "data": data.path, "resume": path})
        trainer.args.epochs = trainer.epochs = ahead.epochs  # Ultralytics keeps the checkpoint's number on a resume
        for note in ahead.notes():
            self._emitter.note(note, warning=False)
        if ahead.ended_early:
            trainer.add_callback("on_pretrain_routine_end", _restart_patience)
        if ahead.epochs == done:
            self._only_final(trainer, resumed, data)
        else:
            cast(dict[str, Any], resumed.state).clear()  # Ultralytics loads its own: one copy is enough
            self._train(trainer)

    def _trainer(self, trained: Model, args: Mapping[str, Any]) -> Any:
        cls = supervised(trained.trainer_class(), self._watch)
        trainer = cls(overrides={**args, "mode": "train", "save_dir": str(self._run), "exist_ok": True})
        for hook, function in self._watch.hooks().items():
            trainer.add_callback(hook, function)
        return trainer

    def _train(self, trainer: Any) -> None:
        dataset.keep_caches_in(self._caches)
        trainer.train()
        self._finish(trainer)

    def _only_final(self, trainer: Any, resumed: Resumable, data: Dataset) -> None:
        """All epochs were trained; what came after them was cut short."""
        run = Path(trainer.wdir)
        durable.copy(Path(resumed.checkpoint.path), run / "last.pt")
        if not (run / checkpoint.BEST_NAME).exists():
            durable.copy(run / "last.pt", run / checkpoint.BEST_NAME)
        trainer.epochs = resumed.checkpoint.epoch
        trainer.epoch = trainer.epochs - 1
        trainer.model = resumed.state["ema"]
        trainer.test_loader = None
        dataset.keep_caches_in(self._caches)
        trainer.validator = trainer.get_validator()
        parameters = sum(p.numel() for p in trainer.model.parameters())
        sizes = data.count("train"), data.count("val")
        self._emitter.emit(started(trainer, trainer.epochs + 1, sizes, parameters))
        trainer.final_eval()
        if trainer.args.plots:
            trainer.plot_metrics()
        self._finish(trainer)

    def _finish(self, trainer: Any) -> None:
        self._keeper.settle()
        self._stop.hold()  # a stop that comes now comes too late
        if not self._watch.sound:
            raise TrainingError(
                EndReason.NAN,
                "the loss of the last epoch is NaN",
                "lower train.lr0, set train.amp to false, or look for broken labels; then rerun",
            )
        seconds = self._watch.seconds_before + self._watch.seconds
        best, last = (str(path) if path.exists() else None for path in (trainer.best, trainer.last))
        values = finite(trainer.metrics or {})
        self._emitter.emit(Finished(at=now(), values=values, best=best, last=last, seconds=seconds))


def _restart_patience(trainer: Any) -> None:
    """A person wants more epochs: waiting for a better one starts anew."""
    trainer.stopper.best_epoch = trainer.start_epoch


def _with_custom(args: Mapping[str, Any]) -> dict[str, Any]:
    """`cfg` names a file with arguments; those written in the configuration itself win."""
    path = args.get("cfg")
    if not path:
        return dict(args)
    try:
        return {**parse(Path(path).read_text(encoding="utf-8")), **args}
    except (OSError, DocumentError) as error:
        raise TrainingError(
            EndReason.BAD_CONFIG, f"train.cfg {path}: {error}", "correct the path or the file"
        ) from error


def _machine(config: TrainConfig) -> Machine:
    """What there is here; and from now on this process takes no more of a GPU than its share."""
    torch: Any = import_module("torch")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if config.gpu_memory_fraction is not None:
        for index in range(count):
            torch.cuda.set_per_process_memory_fraction(config.gpu_memory_fraction, index)
    gpu = None
    if count and float(config.args.get("batch", 1)) < 1:
        free, total = torch.cuda.mem_get_info(0)
        gpu = GpuMemory(total=total, free=free)
    assigned = "CUDA_VISIBLE_DEVICES" in os.environ
    return Machine(cpus=limits.cpus(), gpus=count, assigned=assigned, gpu=gpu, memory=limits.memory())
