"""What people write for a length of time or a moment."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from wyolo_tui.when import WhenError, moment, seconds

NOW = datetime(2026, 3, 14, 14, 2, 11, tzinfo=UTC)
EAST = timezone(timedelta(hours=3))


@pytest.mark.parametrize(
    ("text", "found"), [("1h30m", 5400), ("45m", 2700), ("1.5h", 5400), ("2d", 172800), ("90s", 90), ("1H 5M", 3900)]
)
def test_a_length_of_time(text: str, found: float) -> None:
    assert seconds(text) == found


@pytest.mark.parametrize("text", ["", "0m", "0s", "soon", "5", "-5m", "1h30", "m"])
def test_what_is_no_length_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(WhenError) as refused:
        seconds(text)
    assert "1h30m" in refused.value.hint


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("17:30", datetime(2026, 3, 14, 17, 30, tzinfo=EAST)),
        ("2026-03-15T08:00", datetime(2026, 3, 15, 8, 0, tzinfo=EAST)),
        ("2026-03-15T08:00Z", datetime(2026, 3, 15, 8, 0, tzinfo=UTC)),
    ],
)
def test_a_moment_is_of_the_person_who_says_it(text: str, found: datetime) -> None:
    assert moment(text, NOW, EAST) == found


def test_what_has_passed_is_refused_and_the_next_day_offered() -> None:
    with pytest.raises(WhenError, match="16:00 has passed") as refused:
        moment("16:00", NOW, EAST)
    assert "2026-03-15T16:00" in refused.value.hint
    with pytest.raises(WhenError, match="is no time"):
        moment("25:00", NOW, EAST)
