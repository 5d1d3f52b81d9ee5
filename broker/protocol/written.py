"""JobSpec -> the configuration that reads as it: as data, and as the YAML that a person would write. Pure.

What `legacy` reads and what is written here must stay each other's reverse: cloning, editing and running again are made
of it.
"""

from typing import Any

import yaml

from broker.protocol.document import scalar
from broker.protocol.findings import is_whole
from broker.protocol.job import CommandWork, JobSpec

_NOTHING: tuple[Any, ...] = (None, "", {}, [], False)
_WIDE = 1_000_000  # no line is folded


def document_of(spec: JobSpec) -> dict[str, Any]:
    """All of it but `trial_number`, which no configuration can say, and a priority that nobody has said."""
    known: dict[str, Any] = {"name": spec.name}
    work, needs = spec.work, spec.resources
    if isinstance(work, CommandWork):
        known |= {"argv": work.argv, "cwd": work.cwd, "env": work.env}
    else:
        known |= {"model": work.model, "type": work.family, "task": work.task}
        known |= {"train": work.args, "val": work.val, "sweeper": work.sweep}
    asked: dict[str, Any] = {"cpus": needs.cpus, "memory": needs.memory_mib, "node": needs.node, "labels": needs.labels}
    extras: dict[str, Any] = {"image": needs.image, "network": needs.network}
    if (gpu := needs.gpu) is not None:
        asked["gpus"] = [*gpu.ids, *[-1] * (gpu.count - len(gpu.ids))] if gpu.ids else gpu.count
        if gpu.count:
            extras |= {"gpu": {"limit": gpu.memory_fraction}, "force_gpu": gpu.required}
    known |= {"user": spec.user, "task_id": spec.task_id}
    if "priority" in spec.model_fields_set:  # else nobody has said it
        known["priority"] = spec.priority.value
    return known | {"resources": asked, "extras": extras, "metadata": spec.metadata}


def text_of(spec: JobSpec, *without: str) -> str:
    """The same as YAML, but for the keys `without` and for what is left at its default."""
    document = {key: value for key, value in document_of(spec).items() if key not in without}
    asked, extras = document["resources"], document["extras"]
    plain = {"cpus": 1.0, "memory": 0}
    document["resources"] = {
        key: value
        for key, value in asked.items()
        if key == "gpus" or (value not in _NOTHING and value != plain.get(key))
    }
    extras["gpu"] = {key: value for key, value in extras.get("gpu", {}).items() if value is not None}
    if not asked.get("gpus") or is_whole(asked["gpus"]):  # one that is called by its number is insisted on, but here
        extras = {key: value for key, value in extras.items() if value is not False}
    document["extras"] = {key: value for key, value in extras.items() if value is False or value not in _NOTHING}
    document = {key: value for key, value in document.items() if value not in _NOTHING}
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_WIDE)


class _Dumper(yaml.SafeDumper):
    """Quotes what `document` would not read as the text that it is: 1e-5 is a number to it, and text to PyYAML."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None
    if not text.replace("\n", "").isprintable():
        style = '"'  # the only one in which they can be written
    elif "\n" in text:
        style = "|"
    elif not text or scalar(text) != text:
        style = "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)  # pyright: ignore[reportUnknownMemberType]


_Dumper.add_representer(str, _text)
