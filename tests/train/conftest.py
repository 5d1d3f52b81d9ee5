"""Attempts for a whole test module: real trainings are shared by the tests that look at them."""

from collections.abc import Iterator

import pytest

from tests.train.attempts import Attempts


@pytest.fixture(scope="module")
def attempts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attempts]:
    started = Attempts(tmp_path_factory.mktemp("attempts"))
    yield started
    started.close()
