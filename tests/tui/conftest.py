"""What the cockpits of one worker have in common."""

from collections.abc import Generator
from typing import Any
from unittest.mock import patch

import pytest
from textual.css.model import RuleSet
from textual.css.stylesheet import Stylesheet


@pytest.fixture(autouse=True, scope="package")
def styles_parsed_once() -> Generator[None]:
    """As within one cockpit, which keeps what it has parsed: anew for each it is a seventh of what these tests take."""
    parsed: dict[object, list[RuleSet]] = {}
    parse = Stylesheet._parse_rules  # pyright: ignore[reportPrivateUsage]

    def once(self: Stylesheet, *text: Any, **how: Any) -> list[RuleSet]:
        variables = frozenset(self._variables.items())  # pyright: ignore[reportPrivateUsage]
        key = (text, frozenset(how.items()), variables)
        if key not in parsed:
            parsed[key] = parse(self, *text, **how)
        return parsed[key]

    with patch.object(Stylesheet, "_parse_rules", once):
        yield
