"""From files and options to a SubmitRequest. What can be refused without a broker is refused here."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from broker.protocol.api import SubmitRequest
from broker.protocol.states import Priority
from wyolo_tui.cli.session import BadUse
from wyolo_tui.wire import asked

MOST_BYTES = 262_144
FROM_STDIN = "-"

Set = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY=VALUE", help="Change a key of the file: train.epochs=3. Repeatable."),
]
Name = Annotated[str | None, typer.Option("--name", "-n", help="A name to call it by.")]
User = Annotated[str | None, typer.Option("--user", help="Whose job it is.")]
Level = Annotated[
    Literal["high", "normal", "low"] | None, typer.Option("--priority", "-p", help="Who comes before whom.")
]
TaskId = Annotated[str | None, typer.Option("--task-id", metavar="ID", help="The id other programs know it by.")]
Labels = Annotated[
    list[str] | None,
    typer.Option("--label", "-l", metavar="K=V", help="Only on a node that has it. Repeatable."),
]
Image = Annotated[
    str | None, typer.Option("--image", metavar="NAME", help="Of its container, where the nodes allow it.")
]
Network = Annotated[
    str | None, typer.Option("--network", metavar="NAME", help="Of its container, where the nodes allow it: bridge.")
]
Hold = Annotated[bool, typer.Option("--hold", help="Do not start it before `release`.")]
Wait = Annotated[bool, typer.Option("--wait", "-w", help="Until it has ended; exit code 1 if it did not complete.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="As --wait, with its log.")]


def from_file(
    file: str,
    set: Sequence[str] | None = None,
    *,
    name: str | None = None,
    user: str | None = None,
    priority: Literal["high", "normal", "low"] | None = None,
    task_id: str | None = None,
    hold: bool = False,
    image: str | None = None,
    network: str | None = None,
    labels: Sequence[str] | None = None,
) -> SubmitRequest:
    """`file` may be - for standard input. Raises BadUse, ProblemError."""
    extras = {f"extras.{key}": value for key, value in (("image", image), ("network", network)) if value}
    return asked(
        SubmitRequest,
        config=_text(file),
        base_dir=str(Path.cwd() if file == FROM_STDIN else Path(file).absolute().parent),
        set=assignments(set or ()) | extras | _label_keys(labels or ()),
        name=name,
        user=user,
        priority=Priority(priority) if priority else None,
        task_id=task_id,
        hold=hold,
    )


def read_labels(given: Sequence[str]) -> dict[str, str]:
    """['zone=lab'] -> {'zone': 'lab'}. Raises BadUse."""
    found = dict[str, str]()
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise BadUse(f"--label {text}: no K=V", "as in --label zone=lab")
        found[name.strip()] = value.strip()
    return found


def _label_keys(given: Sequence[str]) -> dict[str, Any]:
    """As keys of a configuration, beside those that it has."""
    labels = read_labels(given)
    for name in labels:
        if "." in name:
            raise BadUse(f"--label {name}: a name with a dot", "write it into the file, below resources.labels")
    return {f"resources.labels.{name}": value for name, value in labels.items()}


def assignments(given: Sequence[str]) -> dict[str, Any]:
    """['train.epochs=3'] -> {'train.epochs': 3}; values are read as YAML. Raises BadUse."""
    from broker.protocol.document import DocumentError, parse_value

    values = dict[str, Any]()
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise BadUse(f"--set {text}: no KEY=VALUE", "as in --set train.epochs=3")
        try:
            values[key.strip()] = parse_value(value)
        except DocumentError as error:
            raise BadUse(f"--set {text}: {error.finding.message}", error.finding.hint) from error
    return values


def _text(file: str) -> str:
    try:
        if file == FROM_STDIN:
            data = sys.stdin.buffer.read(MOST_BYTES + 1)
        else:
            with Path(file).open("rb") as stream:
                data = stream.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise BadUse(f"there is no file {file}") from None
    except IsADirectoryError:
        raise BadUse(f"{file} is a folder", "name the configuration in it") from None
    except OSError as error:
        raise BadUse(f"{file} cannot be read ({error.strerror})") from error
    if len(data) > MOST_BYTES:
        raise BadUse(f"{file} has more than {MOST_BYTES // 1024} KiB: no configuration is so large")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BadUse(f"{file}: line {line}: not UTF-8 text", "save it as UTF-8") from error
