"""The command line: what can be said after `:`, how it is read, and how it is completed. Pure."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from broker.protocol.states import JobState
from wyolo_tui.order import SORTS
from wyolo_tui.themes import NAMES

JOB_VERBS = ("stop", "kill", "resume", "rerun", "hold", "release", "preempt", "remove", "priority", "move", "resolve")
PLACES = ("jobs", "nodes", "plan", "sweeps", "compare", "artifacts", "datasets", "events")


@dataclass(frozen=True, slots=True)
class Command:
    name: str
    ids: tuple[int, ...] = ()  # empty: the marked jobs, or the one under the cursor
    words: tuple[str, ...] = ()
    options: dict[str, str] = field(default_factory=dict[str, str])
    text: str = ""  # everything after the name, as typed


@dataclass(frozen=True, slots=True)
class Entry:
    name: str
    usage: str
    help: str
    words: tuple[str, ...] = ()  # what the first word may be


_IDS = "[id ...]"
ENTRIES: tuple[Entry, ...] = (
    Entry("submit", "[file]", "a new job"),
    Entry("stop", _IDS, "stop with a checkpoint; can be resumed"),
    Entry("kill", _IDS, "kill at once"),
    Entry("resume", f"{_IDS} [--epochs N]", "go on from the newest good checkpoint"),
    Entry("rerun", _IDS, "run again as a new job"),
    Entry("hold", _IDS, "hold queued jobs"),
    Entry("release", _IDS, "release held jobs"),
    Entry("priority", f"high|normal|low {_IDS}", "change the priority", ("high", "normal", "low")),
    Entry("move", f"first|last {_IDS}", "first or last of its priority", ("first", "last")),
    Entry("preempt", _IDS, "checkpoint and put back into the queue"),
    Entry("remove", f"{_IDS} [--files]", "delete from the list"),
    Entry("resolve", f"gone|alive {_IDS}", "a person's word about a job that is unknown", ("gone", "alive")),
    Entry(
        "node",
        "drain|pause|resume name [1h30m|17:00] [--now]",
        "take a node back for a while, or give it to the jobs again",
        ("drain", "pause", "resume"),
    ),
    Entry("edit", "[id]", "edit a job that has not started"),
    Entry("clone", "[id]", "a new job that starts from this one's configuration"),
    Entry("job", "id", "put the cursor on a job"),
    Entry("log", "[id]", "its log"),
    Entry("metrics", "[id]", "its curves"),
    Entry("why", "[id]", "why it waits, or why it ended"),
    Entry("diff", _IDS, "what differs in their configurations"),
    Entry("filter", "[text]", "show what matches; nothing: all"),
    Entry("sort", "column", "sort the table", tuple(name for name in SORTS if name)),
    Entry("columns", "", "choose the columns"),
    Entry("export", "csv|json [file]", "write what the table shows", ("csv", "json")),
    *(Entry(name, "", f"go to {name}") for name in PLACES),
    Entry("theme", "[name]", "change the colours", NAMES),
    Entry("undo", "", "undo the last edit of the queue"),
    Entry("refresh", "", "read everything again"),
    Entry("help", "", "the keys of this screen"),
    Entry("quit", "", "leave; the jobs go on"),
)
BY_NAME = {entry.name: entry for entry in ENTRIES}
ALIASES = {"q": "quit", "rm": "remove", "delete": "remove", "new": "submit", "ls": "jobs", "curves": "metrics"}


class CommandError(ValueError):
    """What is wrong, for the person who typed it."""


def parse(text: str) -> Command:
    """Raises CommandError."""
    name, _, rest = text.strip().partition(" ")
    name = ALIASES.get(name, name)
    if name not in BY_NAME:
        near = get_close_matches(name, BY_NAME, n=1)
        raise CommandError(f"there is no command {name!r}" + (f"; did you mean {near[0]}?" if near else ""))
    if name == "filter":
        return Command(name, text=rest.strip())
    try:
        parts = shlex.split(rest)
    except ValueError as error:
        raise CommandError(f"{error} in {rest!r}") from error
    ids: list[int] = []
    words: list[str] = []
    options: dict[str, str] = {}
    while parts:
        part = parts.pop(0)
        if part.startswith("--"):
            key, equals, value = part[2:].partition("=")
            options[key] = value if equals else parts.pop(0) if parts and key == "epochs" else "true"
        elif name not in ("submit", "node") and part.lstrip("#").isdigit():
            ids.append(int(part.lstrip("#")))
        elif name not in ("submit", "node") and _is_range(part):
            low, high = part.split("-")
            ids += range(int(low), min(int(high), int(low) + 10_000) + 1)
        else:
            words.append(part)
    entry = BY_NAME[name]
    if entry.words and name != "theme" and (not words or words[0] not in entry.words):
        raise CommandError(f":{name} wants one of {', '.join(entry.words)}")
    if not entry.usage and rest.strip():
        raise CommandError(f":{name} takes no words: {rest.strip()!r} was not expected")
    if not entry.words and words and name in (*JOB_VERBS, "job", "diff", "log", "metrics", "why", "edit", "clone"):
        raise CommandError(f":{name} wants the numbers of jobs, not {words[0]!r}")
    if name == "resume" and "epochs" in options and not options["epochs"].isdigit():
        raise CommandError(f"--epochs wants a number, not {options['epochs']!r}")
    return Command(name, tuple(ids), tuple(words), options, rest.strip())


def _is_range(part: str) -> bool:
    low, dash, high = part.partition("-")
    return bool(dash) and low.isdigit() and high.isdigit()


@dataclass(frozen=True, slots=True)
class Candidate:
    text: str  # the whole line once taken
    label: str
    help: str


def complete(
    line: str, job_ids: Sequence[int], files: Callable[[str], list[str]], nodes: Sequence[str] = ()
) -> list[Candidate]:
    """What may come next, best first. `files`: paths that begin with a text."""
    name, space, rest = line.partition(" ")
    if not space:
        found = [e for e in ENTRIES if e.name.startswith(name)] or [e for e in ENTRIES if name in e.name]
        return [Candidate(f"{e.name} " if e.usage else e.name, f"{e.name} {e.usage}".strip(), e.help) for e in found]
    entry = BY_NAME.get(ALIASES.get(name, name))
    if entry is None:
        return []
    head, _, last = rest.rpartition(" ")
    before = f"{name} {head} " if head else f"{name} "
    if entry.words and not head:
        return [Candidate(f"{before}{word} ", word, "") for word in entry.words if word.startswith(last)]
    if entry.name == "node":
        names = nodes if " " not in head else ["--now"]
        return [Candidate(f"{before}{name} ", name, "") for name in names if name.startswith(last)]
    if entry.name == "submit":
        return [Candidate(f"{before}{path}", path, "") for path in files(last)]
    if entry.name == "filter":
        return [Candidate(f"{before}{text}", text, "") for text in filter_words(last)]
    if "id" in entry.usage:
        ids = (str(id) for id in job_ids)
        return [Candidate(f"{before}{id} ", id, "") for id in ids if id.startswith(last) and id != last]
    return []


_FILTER_WORDS = (
    *(f"state:{state.value}" for state in JobState),
    *("state:waiting", "state:active", "state:ended"),
    *("@", "user:", "name:", "model:", "data:", "reason:"),
    *("priority:high", "priority:normal", "priority:low", "kind:train", "kind:command"),
    *("map50>", "fitness>", "epoch>", "!"),
)


def filter_words(last: str) -> list[str]:
    """How a term of a filter may go on."""
    return [word for word in _FILTER_WORDS if word.startswith(last) and word != last]
