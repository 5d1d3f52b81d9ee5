"""What differs in the effective configurations of two to six jobs, key by key."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static

from broker.protocol.job import Job
from wyolo_tui.present import Cell, fit, number, plain
from wyolo_tui.screens.dialog import Dialog
from wyolo_tui.widgets.text_view import TextView


class DiffDialog(Dialog[None]):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("D,q", "leave", show=False)]

    def __init__(self, jobs: Sequence[Job]) -> None:
        super().__init__()
        self._jobs = jobs

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as box:
            box.border_title = "What differs"
            yield TextView(id="diff", note="the configurations are the same")
            yield Static(id="foot", markup=False)

    def on_mount(self) -> None:
        self.query_one("#foot", Static).update(self.text([("esc", "key"), (" close", "dim")]))
        self.call_after_refresh(self._fill)

    def _fill(self) -> None:
        view = self.query_one(TextView)
        flats = [flat(job) for job in self._jobs]
        names = [
            name
            for name in dict.fromkeys(key for f in flats for key in f)
            if len({repr(f.get(name)) for f in flats}) > 1
        ]
        key_width = min(30, max(14, *(len(name) + 2 for name in names)))
        each = max(10, (view.size.width - key_width - 3) // len(self._jobs))
        head: Cell = [(" " * key_width, "")]
        best: Cell = [(fit("best fitness", key_width), "dim")]
        for job in self._jobs:
            head.append((fit(f"{job.id} {plain(job.name)}", each - 2) + "  ", "accent.strong"))
            best.append((fit(number(job.best_fitness) or "-", each), "good"))
        rows: list[Cell] = [head, best, []]
        for name in names:
            row: Cell = [(fit(name, key_width), "dim")]
            for f in flats:
                row.append(
                    (fit(plain(str(f[name])) if name in f else "-", each - 2) + "  ", "" if name in f else "faint")
                )
            rows.append(row)
        if not names:
            rows.append([("the configurations are the same", "dim")])
        view.show_lines(rows)
        view.focus()


def flat(job: Job) -> dict[str, Any]:
    """The configuration as dotted keys; a training's arguments without their prefix."""
    if job.spec is None:
        return {}
    out: dict[str, Any] = {}

    def walk(prefix: str, value: object) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():  # pyright: ignore[reportUnknownVariableType]
                walk(f"{prefix}.{key}" if prefix else str(key), inner)  # pyright: ignore[reportUnknownArgumentType]
        else:
            out[prefix.removeprefix("work.").removeprefix("args.")] = value

    walk("", job.spec.model_dump(mode="json", exclude={"name", "metadata"}, exclude_none=True))
    return out
