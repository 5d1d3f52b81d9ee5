"""What the nodes say to a job: that none of them can run it, or not on what it asks for. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from broker.admission.admitted import Admitted
from broker.placement import Room, obstacles, without_gpus
from broker.protocol.api import Finding
from broker.protocol.job import GpuRequest, Resources


class Prospects:
    """Nodes come and go, so a job that none can run is queued all the same; but not one that insists on a GPU by its
    number where there is no GPU at all. With no `rooms` nothing is known."""

    def __init__(self, rooms: Sequence[Room]) -> None:
        self._known = bool(rooms)
        self._without_gpus = without_gpus(rooms)
        self._obstacle = obstacles(rooms)

    def said(self, admitted: Admitted) -> Admitted:
        """With what there is to say."""
        if admitted.spec is None or not self._known:
            return admitted
        finding = self._finding(admitted.spec.resources)
        if finding is None:
            return admitted
        spec = None if finding.level == "error" else admitted.spec
        return replace(admitted, spec=spec, findings=[*admitted.findings, finding])

    def _finding(self, wanted: Resources) -> Finding | None:
        gpu = wanted.gpu
        if gpu is not None and gpu.count and self._without_gpus:
            message = f"asks for {_named(gpu)}, and no node has a GPU"
            if gpu.required and gpu.ids:
                hint = "leave `train.device` out, or write `cpu` there (`resources.gpus: 0`), to train on the CPU"
                return Finding(where="resources.gpus", message=message, hint=hint)
            if not gpu.required:
                hint = "`extras.force_gpu: true` waits for a GPU instead"
                said = f"{message}: runs on the CPU"
                return Finding(level="warning", where="resources.gpus", message=said, hint=hint)
        if why := self._obstacle(wanted):
            hint = "it waits until one can: ask for less with `wyolo edit`, or add a node"
            return Finding(level="warning", where="resources", message=f"no node can run it: {why}", hint=hint)
        return None


def _named(gpu: GpuRequest) -> str:
    return f"GPU {gpu.ids[0]}" if gpu.ids else "a GPU" if gpu.count == 1 else f"{gpu.count} GPUs"
