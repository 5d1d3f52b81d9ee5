"""The submit form: a file or pasted YAML, checked as it is typed, with what would run and the same as a CLI line."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.timer import Timer
from textual.widgets import Input, Static, TextArea

from broker.protocol.api import SubmitRequest, Validation
from broker.protocol.job import Job
from broker.protocol.states import Priority
from broker.protocol.written import text_of
from wyolo_tui.forecast import forecast, line_of
from wyolo_tui.messages import Validated
from wyolo_tui.present import Cell
from wyolo_tui.screens.dialog import Dialog
from wyolo_tui.screens.discard import DiscardDialog
from wyolo_tui.verbs import next_priority
from wyolo_tui.widgets.bars import NARROW
from wyolo_tui.widgets.yaml_editor import YamlEditor

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
        self._kept = ("", "")  # text and name that are elsewhere too: in a file, a job, the clipboard

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as box:
            what = f"Edit job {self._job.id}" if self._job and self._edit else "New job"
            box.border_title = f"{what}, from {self._job.id} {self._job.name}" if self._job and not self._edit else what
            with Horizontal():
                yield Static("name", classes="label", markup=False)
                yield Input(id="name", placeholder="from the model if empty", highlighter=None)
                yield Static(id="how", classes="label", markup=False)
            yield YamlEditor(self.palette, id="yaml")
            with VerticalScroll(id="about-it"):
                yield Static(id="findings", markup=False)
            yield Static(id="keys", markup=False)

    def on_mount(self) -> None:
        editor = self.query_one(TextArea)
        if self._job is not None:
            self.query_one("#name", Input).value = self._job.name if self._edit else ""
            editor.text = as_yaml(self._job, self._edit)
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
        for what in ("virtual_size", "container_size", "scroll_y"):
            self.watch(self.query_one("#about-it"), what, self._rest_changed)
        self._kept = self._written
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
        self._kept = (self.query_one(TextArea).text, self._kept[1])
        self._draw()

    # --- what would be sent ---

    @property
    def _written(self) -> tuple[str, str]:
        return self.query_one(TextArea).text, self.query_one("#name", Input).value.strip()

    def _request(self) -> SubmitRequest:
        """The form as the API has it."""
        text, name = self._written
        base = None if self._job is not None else str(Path.cwd())  # a job's paths are whole
        if self._path:
            base = str(Path(self._path).resolve().parent)
        called = name[:200] or ("" if self._edit else None)  # "": one is made
        return SubmitRequest(config=text, base_dir=base, name=called, priority=self._priority, hold=self._hold)

    @on(TextArea.Changed)
    @on(Input.Changed)
    def _check_soon(self) -> None:
        self._serial += 1
        self._checked, self._problem = None, ""
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(self.cockpit.options.check_s, self._check)
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
        keys: Cell = [("ctrl+s", "key" if ready else "faint"), (f" {send}", "" if ready else "faint")]
        others = [("ctrl+o", "open"), ("ctrl+g", "priority"), ("ctrl+l", "hold"), ("esc", "cancel")]
        gap = "  " if self.cockpit.size.width < NARROW else "   "
        for key, label in others:
            if key != "ctrl+l" or not self._edit:
                keys += [(gap, ""), (key, "key"), (f" {label}", "dim")]
        self.query_one("#keys", Static).update(self.text(keys))

    def _rest_changed(self) -> None:
        self.call_after_refresh(self._say_rest)

    def _say_rest(self) -> None:
        """How many lines of what is found stand below the last that is seen."""
        about = self.query_one("#about-it")
        hidden = about.max_scroll_y - about.scroll_offset.y
        rest = f"{hidden} more line{'s' if hidden > 1 else ''}: tab, then down" if hidden > 0 else ""
        self.query_one(".dialog").border_subtitle = rest

    def _forecast(self) -> Text:
        lines: list[Cell] = []
        checked = self._checked
        if self._problem:
            lines.append([(self._problem, "warn")])
        elif checked is None:
            lines.append([("checking", "dim")])
        else:
            lines += forecast(checked)
        line, reads = self._cli()
        lines.append([("$ ", "faint"), (line, "dim"), (reads, "faint")])
        text = self.text(*lines)
        text.no_wrap, text.overflow = False, "fold"
        return text

    def _cli(self) -> tuple[str, str]:
        """The same as a command line, and what it reads."""
        text, name = self._written
        as_in_file = bool(self._path) and text == self._kept[0]
        edited = self._job.id if self._job is not None and self._edit else None
        parts = ["wyolo", "submit"] if edited is None else ["wyolo", "edit", str(edited)]
        parts.append(self._path if as_in_file else "-")
        if name:
            parts += ["--name", name]
        if self._priority is not Priority.NORMAL:
            parts += ["--priority", self._priority.value]
        if self._hold:
            parts.append("--hold")
        return shlex.join(parts), "" if as_in_file else "   which reads what is written above"

    # --- keys ---

    def action_leave(self) -> None:
        """What is nowhere else is not thrown away by one key."""
        self._unless_lost(self._written == self._kept, lambda: self.dismiss(None))

    def _unless_lost(self, kept: bool, then: Callable[[], object]) -> None:
        """At once where nothing is thrown away by it, else once a person has said so."""

        def answered(discard: bool | None) -> None:
            if discard:
                then()

        if kept:
            then()
        else:
            self.cockpit.push_screen(DiscardDialog(), answered)

    def link_changed(self) -> None:
        if self.cockpit.link_state.up and self._checked is None:
            self._check_soon()

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
                self._unless_lost(self._written[0] == self._kept[0], lambda: self._load(path))

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


def as_yaml(job: Job, edit: bool) -> str:
    """The configuration of a job as a person would write it. A clone is its maker's, with a task id of its own."""
    fields = ("name", "priority")  # the form has them itself
    return "" if job.spec is None else text_of(job.spec, *fields, *(() if edit else ("user", "task_id")))
