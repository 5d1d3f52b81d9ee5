"""The `wyolo` command."""

import os
import sys
from io import TextIOWrapper


def main() -> None:
    _open_what_is_closed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that knows no arrow gets a question mark, not a traceback
            stream.reconfigure(errors="replace")
    arguments = sys.argv[1:]
    if (
        not arguments and "_WYOLO_COMPLETE" not in os.environ
    ):  # no verb is parsed: the first frame is painted in half the time
        import asyncio

        from wyolo_tui.cli.cockpit import open_cockpit

        sys.exit(asyncio.run(open_cockpit()))
    from wyolo_tui.cli.app import main

    sys.exit(main(arguments))


def _open_what_is_closed() -> None:
    """Nothing to read and nobody to tell are fine. What has nowhere to put its answer is refused before it begins."""
    if sys.__stdin__ is None:
        sys.stdin = os.fdopen(os.open(os.devnull, os.O_RDONLY))
    if sys.__stderr__ is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    if sys.__stdout__ is None:
        print("error: standard output is closed\n→ to see nothing: > /dev/null", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
