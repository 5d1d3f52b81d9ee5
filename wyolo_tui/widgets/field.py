"""A line of text that enter and escape end. What is typed behind these is not for it, and waits in the app until the
field's owner has done what they say, and tells it (`WyoloApp.prompt_ended`).
"""

from typing import ClassVar

from textual import events
from textual.widgets import Input


class Field(Input):
    """It does at once what its own keys say. By way of the app, where bindings are else looked up, enter and backspace
    would come after letters that were typed behind them.
    """

    ENDS: ClassVar[frozenset[str]] = frozenset({"enter", "escape"})

    async def _on_key(self, event: events.Key) -> None:
        if not event.is_printable and (own := self._bindings.key_to_bindings.get(event.key)):
            event.stop()
            event.prevent_default()
            await self.app.run_action(own[0].action, self)  # pyright: ignore[reportUnknownMemberType]
