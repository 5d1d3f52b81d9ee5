"""A text area that tells keys, numbers and words of YAML apart, and marks the lines that the broker finds wrong."""

from collections.abc import Iterable

from textual.widgets import TextArea
from textual.widgets.text_area import TextAreaTheme

from wyolo_tui.prose import yaml_cell
from wyolo_tui.themes import Palette


class YamlEditor(TextArea):
    def __init__(self, palette: Palette, id: str) -> None:
        self._wrong: frozenset[int] = frozenset()
        super().__init__(id=id, show_line_numbers=True, tab_behavior="focus", soft_wrap=False)
        roles = ("yaml.key", "yaml.number", "yaml.text", "yaml.word", "dim", "bad")
        styles = {role: palette[role] for role in roles}
        self.register_theme(TextAreaTheme("wyolo", syntax_styles=styles))
        self.theme = "wyolo"

    def mark_wrong(self, lines: Iterable[int]) -> None:
        """Lines, from 0, that are drawn as wrong."""
        self._wrong = frozenset(lines)
        self._build_highlight_map()
        self.refresh()

    def _build_highlight_map(self) -> None:
        """Instead of tree-sitter's, which would need a grammar: ours knows what a configuration is made of."""
        self._line_cache.clear()  # pyright: ignore[reportUnknownMemberType]
        self._highlights.clear()
        for row, line in enumerate(self.document.lines):
            if row in self._wrong:
                self._highlights[row].append((0, None, "bad"))
                continue
            at = 0
            for text, role in yaml_cell(line):
                size = len(text.encode())
                if role:
                    self._highlights[row].append((at, at + size, role))
                at += size
