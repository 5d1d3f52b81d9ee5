"""What each screen and dialog looks like, at three sizes and in each theme. `--snapshot-update` accepts a new look."""

from collections.abc import Callable

import pytest

from tests.tui.scenes import SCENES, staged
from wyolo_tui.themes import NAMES

Compare = Callable[..., bool]
EACH_SIZE = ("jobs", "curves", "nodes", "paused", "events", "submit", "confirm", "help")
SIZES = [(80, 24), (120, 40), (200, 60)]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("scene", EACH_SIZE)
def test_it_looks_as_it_did(snap_compare: Compare, scene: str, size: tuple[int, int]) -> None:
    app, play = staged(scene)
    assert snap_compare(app, terminal_size=size, run_before=play)


@pytest.mark.parametrize("scene", sorted(SCENES.keys() - set(EACH_SIZE)))
def test_the_rest_looks_as_it_did(snap_compare: Compare, scene: str) -> None:
    app, play = staged(scene)
    assert snap_compare(app, terminal_size=(100, 30), run_before=play)


@pytest.mark.parametrize("theme", NAMES[1:])
def test_each_theme_looks_as_it_did(snap_compare: Compare, theme: str) -> None:
    app, play = staged("curves", theme=theme)
    assert snap_compare(app, terminal_size=(120, 40), run_before=play)


def test_without_unicode_it_looks_as_it_did(snap_compare: Compare) -> None:
    app, play = staged("curves", unicode=False)
    assert snap_compare(app, terminal_size=(120, 40), run_before=play)
