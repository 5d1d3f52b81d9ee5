"""Why a text is not YAML, in words for the person who wrote it: where, what was found, what to change. Pure."""

import re

import yaml

from broker.protocol.api import Finding

_NO_SPACE = re.compile(r"^\s*(?:- )?[A-Za-z_][\w.-]*:[^\s/:]")
_CONTEXTS = (
    ("quoted scalar", "a quote was opened here and never closed", "close the quote"),
    ("flow sequence", "a bracket [ was opened here and never closed", "close it with ], with commas between the items"),
    ("flow mapping", "a brace { was opened here and never closed", "close it with }, with commas between the items"),
)


def syntax_finding(error: yaml.YAMLError, text: str) -> Finding:
    """The parser's error as a finding; `where` is 'line L, column C' (from 1)."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return _unreadable(error, text)
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return Finding(message=str(error.problem or error))
    problem, context = error.problem or "", error.context or ""
    lines = text.splitlines()
    if error.context_mark is not None:
        for words, message, hint in _CONTEXTS:
            if words in context and "escape" not in problem:
                return Finding(where=_place(error.context_mark), message=message, hint=hint)
    where = _place(mark)
    found = lines[mark.line] if mark.line < len(lines) else ""
    before = next((line for line in reversed(lines[: mark.line]) if line.strip()), "")
    if "\t" in found[: mark.column + 1] and not found[: mark.column].strip():
        return Finding(where=where, message="a tab indents this line", hint="indent with spaces: YAML allows no tabs")
    for line in (found, before):
        if _NO_SPACE.match(line):
            return Finding(
                where=where, message=_in_words(problem), hint=f"put a space after the colon: {_spaced(line)}"
            )
    return Finding(where=where, message=_in_words(problem), hint=_hint(problem, found, mark.column))


def _unreadable(error: yaml.YAMLError, text: str) -> Finding:
    """A character that YAML does not allow; the parser tells its offset only."""
    offset = getattr(error, "position", None)
    for index, character in enumerate(text):
        code = ord(character)
        if (code < 32 and character not in "\t\n\r") or code == 127 or (0x80 <= code < 0xA0 and code != 0x85):
            line = text.count("\n", 0, index)
            column = index - (text.rfind("\n", 0, index) + 1)
            return Finding(
                where=f"line {line + 1}, column {column + 1}",
                message=f"the control character U+{code:04X} is not allowed",
                hint="is this a text file? remove the character",
            )
    return Finding(message=f"not readable as text at character {offset}", hint="save the file as UTF-8 text")


def _in_words(problem: str) -> str:
    if "mapping values are not allowed" in problem:
        return "a second colon, or a deeper indented `key:` than the line above allows"
    if "could not find expected ':'" in problem:
        return "a line without `key: value`"
    if "did not find expected key" in problem:
        return "expected a key here"
    if "cannot start any token" in problem:
        return "a value cannot begin with this character"
    if "did not find expected '-'" in problem:
        return "expected `- ` for the next item of the list"
    if "did not find expected node content" in problem:
        return "expected a value here"
    if "expected alphabetic or numeric character" in problem:
        return "* and & begin a reference, which is not read"
    return problem or "not YAML"


def _hint(problem: str, line: str, column: int) -> str:
    if "mapping values are not allowed" in problem:
        return "quote text that holds a colon, and indent the keys of one section alike"
    if "cannot start any token" in problem:
        character = line[column] if column < len(line) else ""
        return "indent with spaces: YAML allows no tabs" if character == "\t" else f"quote the text: '{character}…'"
    if "did not find expected key" in problem:
        return "indent the keys of one section alike, and close quotes and brackets"
    if "could not find expected ':'" in problem:
        return "write `key: value`, with a space after the colon"
    if "expected alphabetic or numeric character" in problem:
        return 'quote text that begins with * or &: "*.jpg"'
    return "check the indentation, quotes and brackets on this line and the one above"


def _spaced(line: str) -> str:
    key, _, value = line.strip().partition(":")
    return f"`{key}: {value[:30]}`"


def _place(mark: yaml.Mark) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}"
