"""The `wyolo` command."""

import os
import sys
from io import TextIOWrapper


def main() -> None:
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


if __name__ == "__main__":
    main()
