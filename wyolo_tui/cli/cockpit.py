"""Opens the cockpit, with a broker behind it: the one there is, else one in the background that outlives it.

Imports little: the first frame is painted before the HTTP library is read.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from wyolo_tui import discovery
from wyolo_tui.unanswered import BrokerOut, ProblemError

if TYPE_CHECKING:
    from wyolo_tui.link import Link

BAD_INPUT, BROKER_OUT = 2, 3  # exit codes, as in session.py, which brings the client along
# Textual reads this as it is loaded. What follows a key may wait for two of its frames; what comes by itself is told at
# most four times a second, so that shorter frames are not more of them.
FRAMES = {"TEXTUAL_FPS": "200"}
THEMES = ("dark", "light", "colour-blind", "ansi")


async def open_cockpit(
    url: str | None = None,
    data_dir: Path | None = None,
    *,
    theme: str | None = None,
    unicode: bool = True,
    notice: str = "",
) -> int:
    """The exit code. `notice` is said when it opens."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        print("error: the cockpit needs a terminal\n→ for programs: wyolo jobs --json, wyolo --help", file=sys.stderr)
        return BAD_INPUT
    if theme is not None and theme.removeprefix("wyolo-") not in THEMES:
        print(f"error: there is no theme {theme}\n→ there are {', '.join(THEMES)}", file=sys.stderr)
        return BAD_INPUT
    try:
        where = discovery.find(url, data_dir)
    except ProblemError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except BrokerOut as error:
        if discovery.named(url):
            print(f"error: {error}\n→ {error.remedy}", file=sys.stderr)
            return BROKER_OUT
        print(f"{error}: starting one in the background", file=sys.stderr)
        try:
            where, _ = await discovery.start(data_dir)
        except BrokerOut as failure:
            print(f"error: {failure}\n→ {failure.remedy}", file=sys.stderr)
            return BROKER_OUT
        notice = notice or "Started a broker in the background. It outlives this screen; wyolo broker stop ends it."
    for name, value in FRAMES.items():
        os.environ.setdefault(name, value)
    from wyolo_tui.app import WyoloApp
    from wyolo_tui.options import Options

    plain = not unicode or (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    options = Options(
        unicode=not plain,
        theme=theme,
        notice=notice,
        address=urlsplit(where.url).netloc,
        door={"WYOLO_URL": where.url, "WYOLO_KEY": where.key},
    )

    async def connect() -> "Link":
        from wyolo_tui.live import BrokerLink

        return BrokerLink(where.url, where.key, refind=where.refind)

    await WyoloApp(connect, options).run_async()
    return 0
