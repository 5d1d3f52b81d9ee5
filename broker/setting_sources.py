"""Where settings come from: flags, variables, TOML files. What cannot be read of them, and who says a setting."""

import difflib
import os
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

PREFIX = "WYOLO_"
_OTHERS = frozenset({"WYOLO_WEIGHTS"})  # read by other parts of wyolo, and like a setting's name


class Unreadable(Exception):
    """A file, or a variable, of which nothing can be read; it says which, and why."""


def default_config() -> Path | None:
    """$WYOLO_CONFIG, else $XDG_CONFIG_HOME/wyolo/wyolo.toml or ~/.config/wyolo/wyolo.toml where there is one."""
    if named := os.environ.get("WYOLO_CONFIG"):
        return Path(named)
    base = os.environ.get("XDG_CONFIG_HOME")
    path = (Path(base) if base else Path.home() / ".config") / "wyolo" / "wyolo.toml"
    return path if path.is_file() else None


def read_toml(path: Path) -> dict[str, Any]:
    """Raises Unreadable."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise Unreadable(f"there is no configuration file {path}") from error
    except UnicodeDecodeError as error:
        raise Unreadable(f"{path} cannot be read: not UTF-8 text (byte {error.start + 1})") from error
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise Unreadable(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def variable(setting: str) -> str:
    return f"{PREFIX}{setting}".upper()


def origin(setting: str, config: Path | None, flags: Mapping[str, Any]) -> str:
    """Who says a setting: its flag, its variable, or the file."""
    if flags.get(setting) is not None:
        return f"--{setting.replace('_', '-')}"
    name = variable(setting)
    return name if any(_whole(each) == name for each in os.environ) else str(config or default_config() or "")


def misspelt(variables: Iterable[str], settings: Collection[str]) -> Iterator[tuple[str, str]]:
    """Variables that look like a setting's and are none, each with the one that it looks like."""
    known = {variable(setting) for setting in settings}
    for name in variables:
        whole = _whole(name)
        if whole.startswith(PREFIX) and whole not in known | _OTHERS:
            stems = [each.removeprefix(PREFIX) for each in known]
            for near in difflib.get_close_matches(whole.removeprefix(PREFIX), stems, 1, 0.75):
                yield name, f"{PREFIX}{near}"


def _whole(name: str) -> str:
    """WYOLO_NODES of WYOLO_NODES__0__SLOTS: a part of a setting."""
    return name.upper().partition("__")[0]
