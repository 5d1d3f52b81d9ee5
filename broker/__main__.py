"""`python -m broker`: reads the settings, says what is wrong with them in a line, and runs the daemon.

Exit codes: 0 ended as asked, 1 broke, 2 could not start (settings, port, data directory in use).
"""

import argparse
import gc
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from broker.settings import Settings


def main() -> int:
    gc.disable()  # until the broker answers: what is loaded to start with stays
    given = _parser().parse_args()
    settings = _settings(given)
    from broker import daemon  # what it loads is not needed to say that the settings are wrong

    return daemon.main(settings)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="wyolo broker",
        description="The headless broker: queues jobs, runs them as supervised processes, and answers over HTTP.",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="wyolo.toml (default: ~/.config/wyolo/wyolo.toml)")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="ledger, jobs, key, embedded Redis")
    parser.add_argument("--host", help="address the API listens on")
    parser.add_argument("--port", type=int, help="port the API listens on; 0 = any free one")
    parser.add_argument("--redis-url", metavar="URL", help="an existing Redis; none = the broker starts its own")
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), help="how much broker.log says")
    return parser


class _Parser(argparse.ArgumentParser):
    def format_help(self) -> str:
        return f"{super().format_help()}\n{_every_setting()}\n"


def _every_setting() -> str:
    from broker.settings import NodeSettings, described

    lines = ["Every setting: flag, then environment, then file, then default.\n"]
    for setting in described():
        lines.append(f"  {setting.env}   [{setting.default}]")
        lines.append(textwrap.fill(setting.description, 100, initial_indent="      ", subsequent_indent="      "))
    lines.append("\nOf each [[nodes]] table in the file:\n")
    lines += [f"  {s.name} [{s.default}]: {s.description}" for s in described(NodeSettings, "")]
    return "\n".join(lines)


def _settings(given: argparse.Namespace) -> "Settings":
    from pydantic import ValidationError

    from broker import settings
    from broker.protocol.mistakes import mistakes
    from broker.setting_sources import Unreadable, origin

    flags = {name: value for name, value in vars(given).items() if name != "config"}
    try:
        return settings.load(given.config, **flags)
    except ValidationError as error:
        for wrong in error.errors(include_url=False):
            setting = str(wrong["loc"][0]) if wrong["loc"] else ""
            secret = setting in settings.SECRET
            for finding in mistakes([wrong], settings.Settings, settings.NodeSettings, secret=secret):
                who = origin(setting, given.config, flags)
                print(
                    f"wyolo broker: {who}: {finding.where}: {finding.message}. {finding.hint}".rstrip(". "),
                    file=sys.stderr,
                )
        raise SystemExit(2) from None
    except Unreadable as error:
        _refuse(str(error))


def _refuse(message: str) -> NoReturn:
    print(f"wyolo broker: {message}", file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    sys.exit(main())
