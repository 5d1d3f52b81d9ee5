"""Every key of the cockpit, once: the bindings, the help, the footer and docs/cockpit.md are made from this table.

`~/.config/wyolo/keys.toml` may give a binding other keys: `"job.stop" = "s,ctrl+s"`.
"""

import os
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from textual.binding import Binding, BindingType

SCOPES = {
    "anywhere": "Anywhere",
    "panes": "Panes",
    "moving": "Moving",
    "marking": "Marking",
    "table": "Table",
    "making": "Making jobs",
    "control": "Control",
    "looking": "Looking",
    "nodes": "Nodes",
    "events": "Events",
    "log": "Log",
    "curves": "Curves",
}


@dataclass(frozen=True, slots=True)
class Key:
    id: str
    keys: str  # as Textual writes them, alternatives separated by commas
    action: str
    label: str  # a word or two, for the footer
    help: str
    scope: str
    footer: bool = False

    @property
    def shown(self) -> str:
        """What is printed on the key: '?' for question_mark."""
        return " ".join(printed(key) for key in self.keys.split(","))


_PRINTED = {
    "colon": ":",
    "question_mark": "?",
    "slash": "/",
    "plus": "+",
    "underscore": "_",
    "backslash": "\\",
    "comma": ",",
    "full_stop": ".",
    "less_than_sign": "<",
    "greater_than_sign": ">",
    "exclamation_mark": "!",
    "left_curly_bracket": "{",
    "right_curly_bracket": "}",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "escape": "esc",
}


def printed(key: str) -> str:
    return _PRINTED.get(key, key)


def _scope(scope: str, *rows: tuple[str, str, str, str, str] | tuple[str, str, str, str, str, bool]) -> list[Key]:
    return [Key(row[0], row[1], row[2], row[3], row[4], scope, len(row) == 6) for row in rows]


KEYS: tuple[Key, ...] = (
    *_scope(
        "anywhere",
        ("app.command", "colon", "command", "command", "command line: every verb in words", True),
        ("app.palette", "ctrl+p", "app.command_palette", "palette", "palette: find any command by its name"),
        ("app.help", "question_mark", "help", "help", "the keys of this screen", True),
        ("app.filter", "slash", "filter", "filter", "filter the jobs; in a log, search", True),
        ("app.back", "escape", "back", "back", "back: close, or clear the filter"),
        *(
            (f"app.screen_{n}", str(n), f"go({n})", name, f"screen {n}: {name}")
            for n, name in enumerate(
                ("Jobs", "Nodes", "Plan", "Sweeps", "Compare", "Artifacts", "Datasets", "Events"), start=1
            )
        ),
        ("app.next_pane", "tab", "next_pane", "pane", "next pane", True),
        ("app.previous_pane", "shift+tab", "previous_pane", "pane back", "previous pane"),
        ("app.theme", "t", "next_theme", "theme", "next theme"),
        ("app.refresh", "ctrl+r", "reload", "refresh", "read everything again"),
        ("app.undo", "z", "undo", "undo", "undo an edit of the queue (5 s)"),
        ("app.quit", "q", "leave", "leave", "leave; the jobs go on"),
    ),
    *_scope(
        "panes",
        ("app.previous_tab", "left_square_bracket", "previous_tab", "tab back", "previous tab of the job"),
        ("app.next_tab", "right_square_bracket", "next_tab", "tab", "next tab of the job"),
        ("app.larger", "plus", "resize_pane(1)", "larger", "make this pane larger"),
        ("app.smaller", "underscore", "resize_pane(-1)", "smaller", "make this pane smaller"),
    ),
    *_scope(
        "moving",
        ("move.down", "j,down", "cursor_down", "down", "down"),
        ("move.up", "k,up", "cursor_up", "up", "up"),
        ("move.first", "g,home", "cursor_first", "first", "to the first"),
        ("move.last", "G,end", "cursor_last", "last", "to the last"),
        ("move.half_down", "ctrl+d,pagedown", "half_down", "half page", "half a page down"),
        ("move.half_up", "ctrl+u,pageup", "half_up", "half page up", "half a page up"),
    ),
    *_scope(
        "marking",
        ("move.mark", "space", "mark", "mark", "mark; verbs act on all marked"),
        ("move.range", "v", "range", "range", "mark a range: v, move, v"),
        ("move.clear", "backslash", "clear_marks", "clear marks", "clear the marks"),
    ),
    *_scope(
        "table",
        ("table.sort_left", "comma", "sort_by(-1)", "sort left", "sort by the column to the left"),
        ("table.sort_right", "full_stop", "sort_by(1)", "sort right", "sort by the column to the right"),
        ("table.reverse", "O", "reverse", "reverse", "reverse the order"),
        ("table.columns", "W", "columns", "columns", "choose the columns"),
        ("table.copy", "y", "copy_id", "copy id", "copy the id (of all marked)"),
        ("table.export", "x", "export", "export", "export the table as CSV or JSON"),
    ),
    *_scope(
        "making",
        ("make.submit", "n", "submit", "new", "new job: file, editor, check, submit", True),
        ("make.paste", "N", "paste", "paste", "new job from pasted YAML"),
        ("make.clone", "c", "clone", "clone", "clone: a new job from this one"),
        ("make.edit", "e", "edit", "edit", "edit a job that has not started"),
    ),
    *_scope(
        "control",
        ("job.stop", "s", "stop", "stop", "stop; it can be resumed", True),
        ("job.kill", "K", "kill", "kill", "kill at once; asks first"),
        ("job.resume", "r", "resume", "resume", "resume from the last checkpoint", True),
        ("job.rerun", "R", "rerun", "rerun", "run again as a new job"),
        ("job.hold", "h", "hold", "hold", "hold, or release", True),
        ("job.lower", "less_than_sign", "lower", "lower", "lower the priority"),
        ("job.raise", "greater_than_sign", "raise_priority", "raise", "raise the priority"),
        ("job.earlier", "ctrl+up", "move_job(-1)", "earlier", "one place up in the queue"),
        ("job.later", "ctrl+down", "move_job(1)", "later", "one place down in the queue"),
        ("job.preempt", "P", "preempt", "preempt", "stop it and queue it again; asks first"),
        ("job.resolve", "u", "resolve", "unknown", "unknown job: gone or alive? asks first"),
        ("job.delete", "X", "remove", "delete", "delete ended or waiting jobs; asks first"),
    ),
    *_scope(
        "looking",
        ("look.detail", "enter", "detail", "detail", "the job's details, full size", True),
        ("look.log", "l", "show_tab('log')", "log", "its log", True),
        ("look.metrics", "m", "show_tab('curves')", "curves", "its curves", True),
        ("look.images", "i", "images", "images", "its pictures"),
        ("look.why", "w", "why", "why", "why it waits, or why it ended"),
        ("look.diff", "D", "diff", "diff", "what differs between marked jobs"),
        ("look.mlflow", "o", "mlflow", "MLflow", "open it in MLflow"),
        ("look.shell", "E", "shell", "shell", "a shell in its container"),
    ),
    *_scope(
        "nodes",
        ("node.drain", "d", "drain", "drain", "drain: nothing new starts there", True),
        ("node.drain_now", "D", "drain_now", "drain now", "drain, move its jobs away; asks first"),
        ("node.pause", "p", "pause", "pause", "pause for a time, or until resumed", True),
        ("node.pause_now", "P", "pause_now", "pause now", "pause, move its jobs away; asks first"),
        ("node.resume", "r", "resume", "resume", "jobs may start there again", True),
    ),
    *_scope(
        "events",
        ("events.open", "enter", "open", "go there", "to its job, or its node", True),
    ),
    *_scope(
        "log",
        ("log.follow", "f", "follow", "follow", "follow the end", True),
        ("log.wrap", "w", "wrap", "wrap", "wrap long lines", True),
        ("log.times", "T", "times", "times", "timestamps", True),
        ("log.next", "n", "next_match", "next", "next match", True),
        ("log.previous", "N", "previous_match", "previous", "previous match"),
        ("log.errors", "exclamation_mark", "errors_only", "errors", "only lines that look like errors", True),
    ),
    *_scope(
        "curves",
        ("curves.left", "left", "focus_chart(-1)", "chart", "the chart before"),
        ("curves.right", "right", "focus_chart(1)", "chart", "the next chart"),
        ("curves.up", "up", "focus_chart(-2)", "chart", "the chart above"),
        ("curves.down", "down", "focus_chart(2)", "chart", "the chart below"),
        ("curves.zoom", "enter", "zoom_chart", "zoom", "the chart alone, or all again", True),
        ("curves.log", "y", "log_axis", "log axis", "logarithmic axis", True),
        ("curves.smooth", "S", "smooth", "smooth", "smoothing: off, light, strong", True),
        ("curves.axis", "a", "time_axis", "axis", "by epoch or by time", True),
        ("curves.pin", "b", "pin", "pin", "pin this run under the others", True),
        ("curves.back", "left_curly_bracket", "scrub(-1)", "scrub back", "read the values one epoch back", True),
        ("curves.on", "right_curly_bracket", "scrub(1)", "scrub on", "read the values one epoch on", True),
    ),
)

BY_ID = {key.id: key for key in KEYS}


def bindings(*scopes: str) -> list[BindingType]:
    return [
        Binding(
            key.keys,
            key.action,
            key.label,
            show=key.footer,
            id=key.id,
            tooltip=key.help,
            priority=key.action in OPENS_PROMPT,
        )
        for key in KEYS
        if key.scope in scopes
    ]


# Done before the next key is looked at: what is typed or pasted in one go must land in the prompt, not act on jobs.
OPENS_PROMPT = frozenset({"command", "filter"})


def config_dir() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "wyolo"


def read_keymap(path: Path) -> tuple[dict[str, str], list[str]]:
    """What keys.toml says, and what is wrong with it. A missing file says nothing."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, []
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        return {}, [f"{path}: {error}. The usual keys are in place."]
    keymap: dict[str, str] = {}
    wrong: list[str] = []
    for name, keys in document.items():
        if name not in BY_ID:
            wrong.append(f"{path}: no binding is called {name!r}; docs/cockpit.md lists them")
        elif not isinstance(keys, str) or not keys:
            wrong.append(f'{path}: {name} wants keys as text, such as "s,ctrl+s"')
        else:
            keymap[name] = keys
    return keymap, wrong


def key_table(keys: Iterable[Key] = KEYS) -> str:
    """The Markdown table of docs/cockpit.md."""
    lines = ["| scope | keys | what it does | id |", "|---|---|---|---|"]
    for key in keys:
        shown = " ".join(f"`` {part} ``" if "`" in part else f"`{part}`" for part in key.shown.split(" "))
        lines.append(f"| {SCOPES[key.scope]} | {shown} | {key.help} | `{key.id}` |")
    return "\n".join(lines)
