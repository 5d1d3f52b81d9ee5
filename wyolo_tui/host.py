"""What every widget asks of the app it is in: its colours, glyphs, time zone, size and keys."""

from datetime import tzinfo
from typing import Protocol, cast

from textual.dom import DOMNode
from textual.geometry import Size

from wyolo_tui.present import Glyphs
from wyolo_tui.themes import Palette


class Host(Protocol):
    palette: Palette
    glyphs: Glyphs

    @property
    def zone(self) -> tzinfo | None: ...
    @property
    def size(self) -> Size: ...
    def key(self, id: str) -> str: ...


class Hosted:
    """Mixed into a widget: what it is drawn with."""

    @property
    def palette(self) -> Palette:
        return host_of(cast(DOMNode, self)).palette

    @property
    def glyphs(self) -> Glyphs:
        return host_of(cast(DOMNode, self)).glyphs


def host_of(node: DOMNode) -> Host:
    return cast(Host, node.app)  # pyright: ignore[reportUnknownMemberType]
