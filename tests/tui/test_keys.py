"""One table of keys makes the bindings, the help and the page; it can be remapped."""

from pathlib import Path

import pytest

from tests.tui.cockpit import cockpit
from wyolo_tui.keymap import BY_ID, KEYS, SCOPES, key_table, read_keymap
from wyolo_tui.screens.events import EventsScreen
from wyolo_tui.screens.jobs import JobsScreen
from wyolo_tui.screens.nodes import NodeList, NodesScreen
from wyolo_tui.screens.page import Page
from wyolo_tui.widgets.curves_view import CurvesView
from wyolo_tui.widgets.jobs_table import JobsTable
from wyolo_tui.widgets.log_view import LogView
from wyolo_tui.widgets.text_view import TextView

PAGE = Path(__file__).parents[2] / "docs" / "cockpit.md"
OWNERS: dict[str, tuple[type, ...]] = {
    "anywhere": (Page,),
    "panes": (JobsScreen,),
    "moving": (JobsTable, NodeList, LogView),
    "marking": (JobsTable,),
    "table": (JobsScreen,),
    "making": (JobsScreen,),
    "control": (JobsScreen,),
    "looking": (JobsScreen,),
    "nodes": (NodesScreen,),
    "events": (EventsScreen,),
    "log": (LogView,),
    "curves": (CurvesView,),
}
FORBIDDEN = {"ctrl+i", "ctrl+m", "ctrl+j", "ctrl+h", "ctrl+w", "ctrl+n", "ctrl+t"}


def test_the_page_lists_every_key() -> None:
    assert key_table() in PAGE.read_text(encoding="utf-8")


def test_every_key_does_something() -> None:
    for key in KEYS:
        action = key.action.partition("(")[0]
        if action.startswith("app."):
            continue
        assert all(hasattr(owner, f"action_{action}") for owner in OWNERS[key.scope]), key


def test_no_key_is_one_that_terminals_or_browsers_take() -> None:
    for key in KEYS:
        for name in key.keys.split(","):
            assert name not in FORBIDDEN and not name.startswith(("alt+", "f1")), key


def test_within_a_scope_a_key_means_one_thing() -> None:
    for scope in SCOPES:
        keys = [name for key in KEYS if key.scope == scope for name in key.keys.split(",")]
        assert len(keys) == len(set(keys)), scope


def test_ids_are_unique() -> None:
    assert len(BY_ID) == len(KEYS)


@pytest.mark.parametrize("number", [1, 2, 3, 8])
async def test_the_help_of_a_screen_lists_only_keys_that_do_something_there(number: int) -> None:
    async with cockpit(size=(120, 40)) as tui:
        await tui.press(str(number))
        page = tui.app.page
        assert page is not None and page.number == number
        await tui.until(lambda: page.query("KeyBar"))
        bound = {binding.id for node in (page, *page.query("*")) for _, binding in node._bindings}  # pyright: ignore[reportPrivateUsage]
        shown = {key.id for key in KEYS if key.scope in page.scopes and key.scope != "curves"}
        assert shown <= bound, shown - bound
        await tui.press("question_mark")
        await tui.shows("Anywhere")
        help_lines = tui.app.screen.query_one("#help", TextView)
        while True:
            assert "…" not in "".join(help_lines.render_line(y).text for y in range(help_lines.size.height))
            if help_lines.scroll_y >= help_lines.max_scroll_y:
                break
            help_lines.scroll_to(y=help_lines.scroll_y + 10, animate=False, immediate=True)


async def test_a_binding_can_have_another_key(tmp_path: Path) -> None:
    (tmp_path / "keys.toml").write_text('"job.stop" = "ctrl+s"\n')
    async with cockpit(config_dir=tmp_path) as tui:
        await tui.on(41)
        await tui.press("s")
        await tui.press("ctrl+s")
        await tui.until(lambda: tui.asked("stop") == [(41,)])
        await tui.shows("ctrl+s stop")


async def test_a_wrong_keymap_is_said_and_the_usual_keys_stay(tmp_path: Path) -> None:
    (tmp_path / "keys.toml").write_text('"job.stpo" = "p"\n')
    async with cockpit(config_dir=tmp_path) as tui:
        await tui.until(lambda: any("no binding is called 'job.stpo'" in toast for toast in tui.toasts))
        await tui.on(41)
        await tui.press("s")
        await tui.until(lambda: tui.asked("stop") == [(41,)])


def test_a_keymap_that_is_no_toml_says_where(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text("job.stop = \n")
    keymap, wrong = read_keymap(path)
    assert not keymap
    assert "line 1" in wrong[0]


def test_no_keymap_is_no_error(tmp_path: Path) -> None:
    assert read_keymap(tmp_path / "keys.toml") == ({}, [])
