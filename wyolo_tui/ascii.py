"""`--no-unicode`: whatever a widget drew leaves as ASCII, of the same width."""

from functools import lru_cache
from unicodedata import normalize

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

_TABLE = str.maketrans(
    {
        **dict.fromkeys("─━╌┄┈═╴╶", "-"),
        **dict.fromkeys("│┃┆┊║╎▏▕", "|"),
        **dict.fromkeys("┌┐└┘╭╮╰╯├┤┬┴┼┏┓┗┛╋┳┻┣┫", "+"),
        **dict.fromkeys("█▇▆▅▉▊▋▌▐▀▄", "#"),
        **dict.fromkeys("▁▂▃▔▎▍", "_"),
        **dict.fromkeys("…", "~"),
        **dict.fromkeys("·•∙", "."),
        **dict.fromkeys("●▪■▶", "*"),
        **dict.fromkeys("○◔◌", "o"),
        **dict.fromkeys("▲△", "^"),
        **dict.fromkeys("▼▽", "v"),
        **dict.fromkeys("‘’", "'"),
        **dict.fromkeys("“”", '"'),
        **dict.fromkeys("–—", "-"),
        "→": ">",
        "←": "<",
        "✓": "+",
        "✗": "x",
        "×": "x",
        "°": " ",
        **dict.fromkeys("📁📂", "/ "),  # icons of the palette and the file picker
        **dict.fromkeys("📄🐍", "  "),
        "🔎": "> ",
        "\u2800": " ",
        "\u00a0": " ",
    }
)


@lru_cache(4096)
def ascii_only(text: str) -> str:
    if text.isascii():
        return text
    out: list[str] = []
    for char in text.translate(_TABLE):
        if char.isascii():
            out.append(char)
        elif 0x2800 < ord(char) <= 0x28FF:  # braille: by how many dots it has
            out.append(".:#"[min(2, (ord(char) - 0x2800).bit_count() // 3)])
        else:
            plain = normalize("NFKD", char).encode("ascii", "ignore").decode()
            out.append(plain if len(plain) == cell_len(char) else "?" * cell_len(char))
    return "".join(out)


class AsciiFilter(LineFilter):
    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [Segment(ascii_only(text), style, control) for text, style, control in segments]
