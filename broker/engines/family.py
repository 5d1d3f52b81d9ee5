"""Which processes belong to an attempt of this machine: by its mark, its session, and whose descendants they are."""

from collections.abc import Iterable

from broker.engines import proc
from broker.engines.proc import Identity


class Family:
    def __init__(self, mark: str, job: Identity | None, shim: Identity | None) -> None:
        """`job`: the leader of its session. `shim`: has this job and no other; all that descends from it belongs to
        the attempt, also what has left its session and cleared its environment."""
        self._mark = mark
        self._job = job
        self._shim = shim

    def all(self) -> list[proc.Process]:
        """Every living process of it. Blocking, a few milliseconds."""
        for _ in range(3):
            found, vanished = self.among(proc.pids())
            if found or not vanished:
                return found
        return []  # other programs come and go, none of them ours

    def among(self, pids: Iterable[int]) -> tuple[list[proc.Process], bool]:
        """The living ones among these, children after their parents, and whether one vanished: it may have left a
        child unseen."""
        since = self._job.start if self._job is not None else 0
        parents = {self._shim.pid} if self._shim is not None else set[int]()
        found: list[proc.Process] = []
        vanished = False
        for pid in pids:
            process = proc.process(pid)
            vanished |= process is None
            if process is None or process.dead or process.start < since:
                continue
            if process.parent in parents or self._has(process):
                parents.add(pid)
                found.append(process)
        return found, vanished

    def _has(self, process: proc.Process) -> bool:
        said = proc.mark(process.pid)
        if said is not None or self._job is None or process.session != self._job.pid:
            return said == self._mark
        leader = proc.process(self._job.pid)  # it has no mark any more: its session tells, if that is still ours
        return leader is None or leader.start == self._job.start
