"""`progress:<task_id>` as other programs read it: names that older wyolo gave these fields. Pure."""

import json
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from broker.protocol.fleet import GpuSample
from broker.protocol.job import Attempt, Job
from broker.supervisor.account import Account


def fields(job: Job, account: Account, attempt: Attempt, now: datetime) -> dict[str, str]:
    """Times in seconds, EPOCH_PROGRESS 0..1, gpu_<index>_... as the trainer measured them. `job` with its spec."""
    elapsed = max(0.0, (now - attempt.started_at).total_seconds())
    found = {
        "task_id": job.task_id or str(job.id),
        "EPOCH": str(min(account.epoch + 1, account.epochs)),
        "TOTAL_EPOCHS": str(account.epochs),
        "EPOCH_PROGRESS": f"{account.epoch_progress:.4f}",
        "elapsed_time": f"{elapsed:.1f}",
        "metrics": json.dumps(account.metrics),
        "datetime": now.isoformat(timespec="seconds"),
    }
    if job.spec is not None and job.spec.trial_number is not None:
        found["TRIAL_NUMBER"] = str(job.spec.trial_number)
    if account.eta_s is not None:
        found["result_time"] = f"{elapsed + account.eta_s:.1f}"
    for gpu in account.gpus:
        for name, value in {**gpu, **_older(gpu)}.items():
            if name != "index" and isinstance(value, str | int | float):
                found[f"gpu_{gpu.get('index', 0)}_{name}"] = str(value)
    return found


def _older(gpu: dict[str, Any]) -> dict[str, Any]:
    """A GpuSample by the names that older wyolo used: memory in MiB, load 0..1, Celsius."""
    try:
        sample = GpuSample.model_validate(gpu)
    except ValidationError:
        return {}
    return {
        "memoryTotal": sample.memory_total_mib,
        "memoryUsed": sample.memory_used_mib,
        "memoryFree": sample.memory_total_mib - sample.memory_used_mib,
        "load": sample.utilisation / 100,
        "temperature": sample.temperature_c,
    }
