"""A real terminal: tmux with a server of its own, keys typed into it and its screen read."""

import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.waiting import until_sync


class Terminal:
    """`with Terminal(argv, 120, 40) as terminal`."""

    def __init__(self, argv: Sequence[str], columns: int, rows: int, folder: Path, env: dict[str, str]) -> None:
        self._socket = str(folder / f"tmux-{uuid.uuid4().hex[:8]}")
        self._size = ["-x", str(columns), "-y", str(rows)]
        self._argv = argv
        sized = {"COLUMNS", "LINES"}  # pytest-xdist sets them, and they go before the terminal's own word
        kept = {name: value for name, value in env.items() if name not in sized}
        self._env = kept | {"TERM": "xterm-256color", "LANG": "C.UTF-8"}

    def __enter__(self) -> Self:
        # the pane stays when its program has ended, so that its last words can be read
        self._tmux("new-session", "-d", "-s", "wyolo", *self._size, *self._argv, ";", "set", "remain-on-exit", "on")
        return self

    def __exit__(self, *_: object) -> None:
        self._tmux("kill-server")

    @property
    def screen(self) -> str:
        return self._tmux("capture-pane", "-p", "-t", "wyolo")

    def type(self, *keys: str) -> None:
        """Names as tmux knows them: `j`, `Enter`, `C-r`."""
        self._tmux("send-keys", "-t", "wyolo", *keys)

    def shows(self, *texts: str, timeout: float = 20.0) -> str:
        """The screen once it has all of these."""

        def seen() -> str:
            screen = self.screen
            return screen if all(text in screen for text in texts) else ""

        try:
            return until_sync(seen, timeout)
        except AssertionError:
            raise AssertionError(f"{texts} not on the screen:\n{self.screen}") from None

    @property
    def ended(self) -> bool:
        return self._tmux("display-message", "-p", "-t", "wyolo", "#{pane_dead}").strip() == "1"

    def _tmux(self, *arguments: str) -> str:
        command = ["tmux", "-S", self._socket, "-f", "/dev/null", *arguments]
        return subprocess.run(command, env=self._env, capture_output=True, text=True, check=True, timeout=20).stdout
