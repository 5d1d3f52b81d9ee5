"""What a person wrote about GPUs, cores and memory -> Resources. The broker assigns GPUs; a job only wishes. Pure."""

import re
from collections.abc import Mapping
from typing import Any

from broker.protocol.findings import Findings, is_list, is_number, is_section, is_whole
from broker.protocol.job import IMAGE, NETWORK, GpuRequest, Resources

_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgt])(?:i?b)?)?", re.IGNORECASE)
_MIB = {"k": 1 / 1024, "m": 1, "g": 1024, "t": 1024 * 1024}
_DEVICE = "0, [0, 1], -1 (any GPU) or cpu"
_KEYS = ("cpus", "memory", "gpus", "node", "labels")
_MOST_GPUS = 64
_MOST_LABELS = 16


def resources(
    section: Mapping[str, Any], device: Any, extras: Mapping[str, Any], findings: Findings, *, older: bool = False
) -> Resources:
    """Of `resources`, `train.device` and `extras`. Where they disagree the first of them wins, with a warning.

    A GPU that is called by its number is insisted on, but not by a file of `older` wyolo: there a GPU was taken where
    there was one, and else the CPU, unless `extras.force_gpu` said otherwise.
    """
    for key in section:
        if key not in _KEYS:
            findings.unknown(f"resources.{key}", key, _KEYS)
    node = section.get("node")
    if node is not None and not (isinstance(node, str) and node):
        findings.expected("resources.node", node, "the name of a node")
        node = None
    return Resources(
        cpus=_cpus(section.get("cpus"), findings),
        memory_mib=_memory(section.get("memory"), findings),
        gpu=_gpu(section.get("gpus"), device, extras, findings, older),
        node=node,
        labels=_labels(section.get("labels"), findings),
        image=_named("image", extras, IMAGE, "an image such as ghcr.io/us/trainer:2", findings),
        network=_named("network", extras, NETWORK, "the name of a network, such as bridge", findings),
    )


def one_gpu(wished: Resources, findings: Findings) -> Resources:
    """For a training, which runs on one GPU: it must not hold others that it would not use."""
    gpu = wished.gpu
    if gpu is None or gpu.count <= 1:
        return wished
    findings.warn(
        "resources.gpus",
        f"a training runs on one GPU: one is taken, not {gpu.count}",
        "the others stay free for the jobs behind it",
    )
    return wished.model_copy(update={"gpu": gpu.model_copy(update={"count": 1, "ids": gpu.ids[:1]})})


def _named(key: str, extras: Mapping[str, Any], pattern: str, example: str, findings: Findings) -> str | None:
    value = extras.get(key)
    if value is None:
        return None
    if isinstance(value, str) and len(value) <= 255 and re.fullmatch(pattern, value):
        return value
    findings.expected(f"extras.{key}", value, example)
    return None


def _cpus(value: Any, findings: Findings) -> float:
    if value is None:
        return 1.0
    if is_number(value) and 0 < value <= 1024:
        return float(value)
    findings.expected("resources.cpus", value, "a number of cores above 0")
    return 1.0


def _memory(value: Any, findings: Findings) -> int:
    """MiB; a number without a unit is MiB."""
    if value is None:
        return 0
    match = _MEMORY.fullmatch(str(value).strip()) if isinstance(value, str) or is_number(value) else None
    if match is None or len(match[1]) > 15:
        findings.expected("resources.memory", value, "memory such as 8GiB or 512 (MiB)")
        return 0
    return round(float(match[1]) * _MIB[(match[2] or "m").lower()])


def _labels(value: Any, findings: Findings) -> dict[str, str]:
    if value is None:
        return {}
    if not is_section(value):
        findings.expected("resources.labels", value, "labels that the node must have", "as in `labels: {zone: lab}`")
        return {}
    if len(value) > _MOST_LABELS:
        findings.error("resources.labels", f"has {len(value)} labels, at most {_MOST_LABELS} are read")
        return {}
    wanted: dict[str, str] = {}
    for name, label in value.items():
        if isinstance(label, bool):
            wanted[name] = "true" if label else "false"
        elif isinstance(label, str | int | float) and str(label):
            wanted[name] = str(label)
        else:
            findings.expected(f"resources.labels.{name}", label, "text")
    return wanted


def _gpu(gpus: Any, device: Any, extras: Mapping[str, Any], findings: Findings, older: bool) -> GpuRequest | None:
    in_extras = _extras_id(extras, findings)
    wishes = [
        ("resources.gpus", _count_or_ids(gpus, findings)),
        ("extras.force_cpu", GpuRequest(count=0) if extras.get("force_cpu") is True else None),
        ("train.device", _device("train.device", device, findings)),
        ("extras.gpu.id", in_extras),
    ]
    stated = [(where, wish) for where, wish in wishes if wish is not None]
    for where, wish in stated[1:]:
        first, winner = stated[0]
        if wish != winner:
            findings.warn(where, f"not used: `{first}` says otherwise", "keep one of them")
    where, wish = stated[0] if stated else ("", None)
    share = _share(extras, findings)
    forced = extras.get("force_gpu")
    if wish is not None and wish.count == 0:
        if forced is True:
            findings.warn("extras.force_gpu", f"not used: `{where}` asks for the CPU", "keep one of them")
        return wish
    if wish is None and share is None and forced is not True:
        return None
    wish = wish or GpuRequest()
    if not isinstance(forced, bool):
        forced = bool(wish.ids) and (where == "resources.gpus" or not (older or in_extras))
    return wish.model_copy(update={"memory_fraction": share, "required": forced})


def _count_or_ids(value: Any, findings: Findings) -> GpuRequest | None:
    if value is None:
        return None
    if is_whole(value) and 0 <= value <= _MOST_GPUS:
        return GpuRequest(count=value)
    if is_list(value) and value:
        return _device("resources.gpus", value, findings)
    findings.expected("resources.gpus", value, "how many GPUs (0: the CPU), or a list of their numbers")
    return None


def _device(where: str, value: Any, findings: Findings) -> GpuRequest | None:
    """0, "0,1", [0, 1], cuda:0, -1 (one that is free), cpu."""
    if value is None or value == "":
        return None
    if is_list(value):
        parts = [str(part) for part in value if is_whole(part) or isinstance(part, str)]
        if len(parts) != len(value):
            parts = ["?"]
    elif isinstance(value, str):
        parts = value.lower().removeprefix("cuda:").strip("()[] ").split(",")
    else:
        parts = [str(value)] if is_whole(value) else ["?"]
    parts = [part.strip() for part in parts]
    if parts == ["cpu"]:
        return GpuRequest(count=0)
    if parts in (["cuda"], ["gpu"], ["auto"]):
        return GpuRequest(count=1)
    if not 1 <= len(parts) <= _MOST_GPUS or not all(re.fullmatch(r"-1|\d{1,3}", part) for part in parts):
        findings.expected(where, value, _DEVICE, "jobs run on NVIDIA GPUs or on the CPU")
        return None
    ids = [int(part) for part in parts if part != "-1"]
    if len(set(ids)) != len(ids):
        findings.error(where, "names a GPU twice", "give each GPU once")
        return None
    return GpuRequest(count=len(parts), ids=sorted(ids))


def _extras_id(extras: Mapping[str, Any], findings: Findings) -> GpuRequest | None:
    gpu = extras.get("gpu")
    return _device("extras.gpu.id", gpu.get("id"), findings) if is_section(gpu) else None


def _share(extras: Mapping[str, Any], findings: Findings) -> float | None:
    gpu = extras.get("gpu")
    limit = gpu.get("limit") if is_section(gpu) else None
    if limit is None:
        return None
    if is_number(limit) and 0 < limit <= 1:
        return float(limit)
    findings.expected("extras.gpu.limit", limit, "a part of the GPU's memory above 0 and up to 1")
    return None
