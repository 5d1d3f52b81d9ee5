"""Garbage of a long session goes when a person pauses, and not under their fingers."""

import gc
import weakref

import pytest

from wyolo_tui import collecting
from wyolo_tui.collecting import Collector


class Knot:
    def __init__(self) -> None:
        self.self = self


def old_garbage() -> "weakref.ref[Knot]":
    knot = Knot()
    gc.collect()  # by now it is old
    return weakref.ref(knot)


def test_it_is_collected_in_a_pause_and_not_while_somebody_types(monkeypatch: pytest.MonkeyPatch) -> None:
    at = 0.0
    monkeypatch.setattr(collecting, "monotonic", lambda: at)
    usual = gc.get_threshold()
    collector = Collector()
    collector.start()
    try:
        garbage = old_garbage()
        at = 30.0
        collector.typed()
        collector.look()
        assert garbage() is not None
        at = 32.0
        collector.look()
        assert garbage() is None

        garbage = old_garbage()
        at = 400.0
        collector.typed()
        collector.look()
        assert garbage() is None, "who never pauses does not fill the memory"
    finally:
        collector.stop()
    assert gc.get_threshold() == usual
