"""What the broker's log makes of what nobody waited for."""

import asyncio
import gc
import logging

import pytest

from broker import daemon


@pytest.mark.parametrize(("error", "told"), [(ConnectionResetError(), False), (RuntimeError("broke"), True)])
def test_only_a_broken_connection_that_nobody_waited_for_is_no_news(
    error: Exception, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def drop() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(daemon.unheard)
        loop.create_future().set_exception(error)
        gc.collect()

    with caplog.at_level(logging.ERROR):
        asyncio.run(drop())
    assert ("never retrieved" in caplog.text) is told
