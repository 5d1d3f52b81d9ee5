"""Text of unknown origin -> text that a terminal shows and never obeys. Pure.

Escape sequences (colours, titles, clipboard) are dropped whole; any other control, bidirectional or invisible
character is made visible, so that a line cannot pretend to be another.
"""

import re

MAX_CHARS = 4096

_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor, erase
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"  # OSC, DCS, SOS, PM, APC
    r"|\x1b[ -/]+[0-~]"  # character sets
    r"|\x1b[0-Z\\^_`a-~]"  # two-character escapes
)
_UNSAFE = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f"  # C0 without tab, DEL, C1
    "\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # bidi, separators, invisible
    "\ud800-\udfff\U000e0000-\U000e007f]"  # surrogates, tags
)


def harmless(text: str, limit: int = MAX_CHARS) -> str:
    """One line that is safe to show, at most `limit` characters. Of a line that redraws itself with carriage returns,
    as progress bars do, the last drawing."""
    dropped = max(0, len(text) - 4 * limit)
    if dropped:
        text = text[: 4 * limit]
    if not text.isprintable():
        text = _SEQUENCE.sub("", text)
        if "\r" in text:
            text = next((drawn for drawn in reversed(text.split("\r")) if drawn.strip()), "")
        text = _UNSAFE.sub(_visible, text).replace("\t", "    ")
    if dropped or len(text) > limit:
        note = f" ... {dropped + len(text) - limit} more characters"
        text = text[: max(0, limit - len(note))] + note
    return text


def _visible(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    return f"<U+{code:04X}>"
