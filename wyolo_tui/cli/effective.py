"""What a job is, as the YAML that a person would write."""

from collections.abc import Iterable

from broker.protocol.job import JobSpec
from wyolo_tui.present import Cell
from wyolo_tui.prose import yaml_lines


def spec_lines(spec: JobSpec) -> Iterable[Cell]:
    """Everything that is not left at its default, coloured."""
    import yaml

    kept = spec.model_dump(mode="json", exclude_defaults=True)
    kept["work"] = spec.work.model_dump(mode="json", exclude_defaults=True) | {"kind": spec.work.kind}
    return yaml_lines(yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, width=10_000))
