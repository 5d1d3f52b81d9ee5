"""The way to a daemon, where what answers is not what is needed."""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from broker.engines.docker_link import Link
from broker.errors import EngineError, EngineUnreachable

Answers = dict[str, tuple[int, dict[str, object]]]


class Daemon:
    """Answers by the end of the path; whatever else is asked is not there."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.answers: Answers = {}

    async def answer(self, request: web.Request) -> web.Response:
        status, body = self.answers.get(request.path.rpartition("/")[2], (404, {"message": "page not found"}))
        return web.json_response(body, status=status)


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    with tempfile.TemporaryDirectory(prefix="link-") as folder:  # a socket's path has an end
        daemon = Daemon(Path(folder) / "socket")
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", daemon.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.UnixSite(runner, str(daemon.socket)).start()
        yield daemon
        await runner.cleanup()


@pytest.fixture
async def link(daemon: Daemon) -> AsyncIterator[Link]:
    link = Link("box", f"unix://{daemon.socket}")
    yield link
    await link.close()


async def test_a_daemon_that_is_too_old_is_to_be_updated(daemon: Daemon, link: Link) -> None:
    daemon.answers = {"version": (200, {"ApiVersion": "1.38"}), "info": (200, {"ID": "x"})}
    with pytest.raises(EngineError, match=r"box speaks Docker's API v?1\.38, 1\.41 is needed: update it") as raised:
        await link.info()
    assert not isinstance(raised.value, EngineUnreachable)  # it answers, and will never do


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_a_daemon_in_trouble_is_not_believed(daemon: Daemon, link: Link, status: int) -> None:
    daemon.answers = {"version": (200, {"ApiVersion": "1.41"}), "info": (status, {"message": "out of order"})}
    with pytest.raises(EngineUnreachable, match="out of order"):
        await link.info()


async def test_whoever_may_not_use_the_socket_is_told_so(tmp_path: Path) -> None:
    link = Link("box", f"unix://{tmp_path}/nothing")
    with pytest.raises(EngineUnreachable, match="box cannot be reached"):
        await link.info()
    await link.close()
