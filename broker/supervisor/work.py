"""From a job to what its engine launches: a trainer told by `train.json`, or the command as it was given."""

import sys
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from broker.engines.base import AttemptRef, Launch
from broker.protocol.job import Attempt, Checkpoint, CommandWork, Job, JobSpec, TrainWork
from broker.protocol.training import BEST_NAME, CONFIG_NAME, TrainConfig
from broker.settings import Settings

_CANDIDATES = 3  # checkpoints that a trainer may choose from, should the newest turn out bad
TrainerArgv = Callable[[Path], Sequence[str]]


def trainer_argv(settings: Settings) -> TrainerArgv:
    """How a trainer is called with its configuration."""
    python = settings.trainer_python or sys.executable
    return lambda config: (python, "-m", "trainer", str(config))


def wants_resolved_batch(work: TrainWork) -> bool:
    """Auto-batch: -1, or a share of the memory. Its answer depends on the neighbours, so it is asked once."""
    batch: Any = work.args.get("batch")
    return isinstance(batch, int | float) and not isinstance(batch, bool) and batch < 1


def train_config(
    job: Job, attempt: Attempt, settings: Settings, resume: Sequence[Checkpoint], batch: int | None
) -> TrainConfig:
    """`resume`: newest first. `batch`: resolved by an earlier attempt."""
    spec = spec_of(job)
    work = spec.work
    assert isinstance(work, TrainWork)
    gpu = spec.resources.gpu
    return TrainConfig(
        job_id=job.id,
        fence=attempt.fence,
        directory=attempt.directory,
        model=work.model,
        family=work.family,
        task=work.task,
        args=work.args,
        val=work.val,
        resume=list(resume),
        epochs=work.epochs if resume else None,
        batch=batch,
        gpu_memory_fraction=gpu.memory_fraction if gpu is not None and attempt.gpus else None,
        weights_dir=str(settings.weights_dir) if settings.weights_dir is not None else None,
        cache_dir=_cache(attempt, settings),
        offline=settings.offline,
    )


def _cache(attempt: Attempt, settings: Settings) -> str | None:
    """Containers are given no folder in which one job leaves for another what that unpickles."""
    contained = any(node.name == attempt.node and node.engine == "docker" for node in settings.nodes)
    return None if contained else str(settings.data_dir / "cache")


def make_directory(directory: Path) -> None:
    """An attempt's, in its job's. Raises OSError."""
    for made in (directory.parent, directory):
        with suppress(FileExistsError):
            made.mkdir(mode=0o700)


def prepare(
    job: Job,
    attempt: Attempt,
    ref: AttemptRef,
    directory: Path,
    config: TrainConfig | None,
    *,
    trainer: TrainerArgv,
    told: Mapping[str, str],
    tell: Callable[[str], Awaitable[None]],
) -> Launch:
    """`config`: of a training, for which the attempt's directory is made; else its engine makes it. `told`: to a
    trainer besides. `tell`: for its engine. Raises OSError."""
    spec = spec_of(job)
    path: Path | None = None
    if isinstance(spec.work, CommandWork):
        argv: Sequence[str] = spec.work.argv
        env = spec.work.env
        cwd = Path(spec.work.cwd) if spec.work.cwd else None
    else:
        assert config is not None
        make_directory(directory)
        path = directory / CONFIG_NAME
        path.write_text(config.model_dump_json(indent=2))
        argv, env, cwd = trainer(path), told, None
    wanted = spec.resources
    return Launch(
        ref,
        argv,
        env,
        cwd,
        directory,
        attempt.gpus,
        wanted.cpus,
        wanted.memory_mib,
        path,
        image=wanted.image or "",
        network=wanted.network or "",
        inputs=_inputs(config.resume) if config is not None else (),
        tell=tell,
    )


def present(found: Sequence[Checkpoint], there: Collection[int]) -> list[Checkpoint]:
    """Without those of the attempts `there` whose files never came here. Blocking."""
    return [each for each in found if each.attempt not in there or Path(each.path).is_file()]


def _inputs(resume: Sequence[Checkpoint]) -> list[Path]:
    """The newest checkpoints that are here, each with the best beside it. Blocking."""
    here = [Path(each.path) for each in resume if Path(each.path).is_file()][:_CANDIDATES]
    best = [path.with_name(BEST_NAME) for path in here]
    return list(dict.fromkeys([*here, *(path for path in best if path.is_file())]))


def spec_of(job: Job) -> JobSpec:
    assert job.spec is not None  # who starts or adopts a job has read it with its spec
    return job.spec
