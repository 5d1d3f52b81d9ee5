"""The submit form: a file or pasted YAML, checked as it is typed, with what would run and the same as a CLI line."""

import re
import shlex
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.timer import Timer
from textual.widgets import Input, Static, TextArea

from broker.protocol.api import Finding, SubmitRequest, Validation
from broker.protocol.job import CommandWork, Job, JobSpec
from broker.protocol.states import Priority
from wyolo_tui.messages import Validated
from wyolo_tui.present import Cell, plain
from wyolo_tui.screens.dialog import Dialog
from wyolo_tui.verbs import next_priority
from wyolo_tui.widgets.yaml_editor import YamlEditor

SETTLE_S = 0.35  # a text that rests this long is checked
MOST = 262_144  # characters; the broker takes no more
MINIMAL = """\
# what Ultralytics calls its arguments goes under train
model: yolov8n.pt
train:
  data: /path/to/data.yaml
  epochs: 100
  imgsz: 640
"""


class SubmitDialog(Dialog[Job]):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "send", show=False, priority=True),
        Binding("ctrl+o", "open", show=False, priority=True),
        Binding("ctrl+g", "priority", show=False, priority=True),
        Binding("ctrl+l", "hold", show=False, priority=True),
    ]

    def __init__(self, path: str = "", paste: bool = False, job: Job | None = None, edit: bool = False) -> None:
        """From a file, from the clipboard, or from a job (to edit it, or to clone it)."""
        super().__init__()
        self._path = str(Path(path).expanduser()) if path else ""
        self._paste, self._job, self._edit = paste, job, edit
        self._priority = job.priority if job is not None else Priority.NORMAL
        self._hold = False
        self._serial = 0
        self._checked: Validation | None = None
        self._problem = ""
        self._timer: Timer | None = None
        self._sending = False

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as box:
            what = f"Edit job {self._job.id}" if self._job and self._edit else "New job"
            box.border_title = f"{what}, from {self._job.id} {self._job.name}" if self._job and not self._edit else what
            with Horizontal():
                yield Static("name", classes="label", markup=False)
                yield Input(id="name", placeholder="from the model if empty", highlighter=None)
                yield Static(id="how", classes="label", markup=False)
            yield YamlEditor(self.palette, id="yaml")
            with VerticalScroll(id="about-it", can_focus=False):
                yield Static(id="findings", markup=False)
            yield Static(id="keys", markup=False)

    def on_mount(self) -> None:
        editor = self.query_one(TextArea)
        if self._job is not None:
            self.query_one("#name", Input).value = self._job.name if self._edit else ""
            editor.text = as_yaml(self._job)
        elif self._path:
            self._load(Path(self._path))
        else:
            editor.text = (
                self.cockpit.clipboard
                if self._paste and "\n" in self.cockpit.clipboard
                else ""
                if self._paste
                else MINIMAL
            )
        editor.focus()
        self._draw()
        self._check_soon()

    def _load(self, path: Path) -> None:
        try:
            if path.stat().st_size > MOST:
                self.cockpit.say(f"{path} is larger than {MOST // 1024} KiB: no configuration is", "error")
                return
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            self.cockpit.say(f"{path}: {error.strerror if isinstance(error, OSError) else error}", "error")
            return
        self._path = str(path)
        self.query_one(TextArea).load_text(text)
        self._draw()

    # --- what would be sent ---

    def _request(self) -> SubmitRequest:
        """The form as the API has it."""
        text = self.query_one(TextArea).text
        base = str(Path(self._path).resolve().parent) if self._path else str(Path.cwd())
        name = self.query_one("#name", Input).value.strip()[:200] or ("" if self._edit else None)  # "": one is made
        return SubmitRequest(config=text, base_dir=base, name=name, priority=self._priority, hold=self._hold)

    @on(TextArea.Changed)
    @on(Input.Changed)
    def _check_soon(self) -> None:
        self._serial += 1
        self._checked, self._problem = None, ""
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(SETTLE_S, self._check)
        self._draw()

    def _check(self) -> None:
        if not self.query_one(TextArea).text.strip():
            self._problem = "write a configuration, or open a file"
            self._draw()
            return
        try:
            request = self._request()
        except ValueError as error:
            self._problem = str(error)
            self._draw()
            return
        self._validate(self._serial, request)

    @work(exclusive=True, group="validate")
    async def _validate(self, serial: int, request: SubmitRequest) -> None:
        from wyolo_tui.unanswered import Unanswered

        link = self.cockpit.link
        if link is None:
            self.post_message(Validated(serial, None, "the broker has not answered yet"))
            return
        try:
            self.post_message(Validated(serial, await link.validate(request)))
        except Unanswered as error:
            self.post_message(Validated(serial, None, str(error)))

    @on(Validated)
    def _validated(self, message: Validated) -> None:
        if message.serial == self._serial:
            self._checked, self._problem = message.answer, message.problem
            found = message.answer.findings if message.answer is not None else []
            self.query_one(YamlEditor).mark_wrong(
                row for f in found if f.level == "error" and (row := line_of(f)) is not None
            )
            self._draw()

    # --- drawing ---

    def _draw(self) -> None:
        high = {Priority.HIGH: "warn", Priority.LOW: "dim"}.get(self._priority, "")
        how: Cell = [("priority ", "dim"), (self._priority.value, high)]
        if not self._edit:
            how += [("   ", ""), ("held" if self._hold else "queued at once", "warn" if self._hold else "dim")]
        self.query_one("#how", Static).update(self.text(how))
        self.query_one("#findings", Static).update(self._forecast())
        ready = self._checked is not None and self._checked.ok
        send = "save" if self._edit else "submit"
        keys: Cell = [
            ("ctrl+s", "key" if ready else "faint"),
            (f" {send}   ", "" if ready else "faint"),
            ("ctrl+o", "key"),
            (" open   ", "dim"),
            ("ctrl+g", "key"),
            (" priority   ", "dim"),
        ]
        if not self._edit:
            keys += [("ctrl+l", "key"), (" hold   ", "dim")]
        keys += [("esc", "key"), (" cancel", "dim")]
        self.query_one("#keys", Static).update(self.text(keys))

    def _forecast(self) -> Text:
        lines: list[Cell] = []
        checked = self._checked
        if self._problem:
            lines.append([(self._problem, "warn")])
        elif checked is None:
            lines.append([("checking", "dim")])
        else:
            if checked.ok and checked.spec is not None:
                lines.append([("would run ", "good"), (_words(checked.spec), "strong")])
                if checked.would_start:
                    lines.append([("starts ", "dim"), (plain(checked.would_start), "")])
            if checked.data is not None and checked.data.train_images:
                data = checked.data
                counts = f"{data.train_images} training and {data.val_images} validation images, {data.classes} classes"
                lines.append([("data ", "dim"), (counts, "")])
            for finding in checked.findings:
                lines += _finding_lines(finding)
        if not self._edit:
            lines += [[("$ ", "faint"), (self._cli(), "dim")]]
        text = self.text(*lines)
        text.no_wrap, text.overflow = False, "fold"
        return text

    def _cli(self) -> str:
        """The same as a command line."""
        parts = ["wyolo", "submit", self._path or "job.yaml"]
        if name := self.query_one("#name", Input).value.strip():
            parts += ["--name", name]
        if self._priority is not Priority.NORMAL:
            parts += ["--priority", self._priority.value]
        if self._hold:
            parts.append("--hold")
        return shlex.join(parts)

    # --- keys ---

    def action_priority(self) -> None:
        self._priority = next_priority(self._priority, 1) or Priority.LOW
        self._draw()

    def action_hold(self) -> None:
        if not self._edit:
            self._hold = not self._hold
            self._draw()

    def action_open(self) -> None:
        from textual_fspicker import FileOpen, Filters

        start = Path(self._path).parent if self._path else Path.cwd()
        filters = Filters(("YAML", lambda path: path.suffix.lower() in (".yaml", ".yml")), ("All", lambda _: True))

        def opened(path: Path | None) -> None:
            if path is not None:
                self._load(path)

        self.cockpit.push_screen(FileOpen(start, title="Open a configuration", filters=filters), opened)

    def action_send(self) -> None:
        if self._sending:
            return
        if self._checked is None or not self._checked.ok:
            self.cockpit.say(
                "not yet: "
                + (self._problem or ("it is still being checked" if self._checked is None else "there are errors")),
                "warning",
            )
            return
        self._sending = True
        self.cockpit.ask(self._send(self._request()), group="submit").name = "submit"

    async def _send(self, request: SubmitRequest) -> None:
        link = self.cockpit.link
        assert link is not None
        try:
            if self._edit and self._job is not None:
                job = await link.edit(self._job.id, request)
                self.cockpit.say(f"#{job.id} changed")
            else:
                job, _ = await link.submit(request)
                self.cockpit.say(f"#{job.id} {job.name} {job.state.value}")
        finally:
            self._sending = False
        self.dismiss(job)


def line_of(finding: Finding) -> int | None:
    """The line, from 0, that a finding is about."""
    found = re.match(r"line (\d+)", finding.where)
    return int(found[1]) - 1 if found else None


def _finding_lines(finding: Finding) -> list[Cell]:
    role = "bad" if finding.level == "error" else "warn"
    cell: Cell = [(f"{finding.level} ", role)]
    if finding.where:
        cell.append((f"{plain(finding.where)}: ", "strong"))
    cell.append((plain(finding.message), ""))
    return [cell, [(f"  {plain(finding.hint)}", "accent")]] if finding.hint else [cell]


def _words(spec: JobSpec) -> str:
    """'yolov8n.pt for 50 epochs at 640 px, batch 16'."""
    work = spec.work
    if isinstance(work, CommandWork):
        return plain(shlex.join(work.argv))
    words = f"{work.model} for {work.epochs} epochs"
    if "imgsz" in work.args:
        words += f" at {work.args['imgsz']} px"
    if "batch" in work.args:
        words += f", batch {work.args['batch']}"
    return plain(words)


def as_yaml(job: Job) -> str:
    """The configuration of a job as a person would write it."""
    import yaml

    if job.spec is None:
        return ""
    work = job.spec.work
    if isinstance(work, CommandWork):
        document: dict[str, object] = {"argv": work.argv, "cwd": work.cwd, "env": work.env}
        document = {name: value for name, value in document.items() if value}
    else:
        document = {"model": work.model, "type": work.family, "task": work.task, "train": work.args, "val": work.val}
        document = {name: value for name, value in document.items() if value}
        if work.sweep:
            document["sweeper"] = work.sweep
    resources = job.spec.resources.model_dump(mode="json", exclude_defaults=True)
    for key, value in (("resources", resources), ("metadata", job.spec.metadata), ("task_id", job.spec.task_id)):
        if value:
            document[key] = value
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=1000)
