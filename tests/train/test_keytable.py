"""The broker's table of Ultralytics' arguments is that of the Ultralytics that trains."""

from importlib import import_module

import pytest

from broker.protocol import ultralytics_keys
from trainer import keytable

pytestmark = pytest.mark.train


def test_generated_table_is_that_of_the_installed_ultralytics() -> None:
    installed = import_module("ultralytics").__version__
    if installed != ultralytics_keys.VERSION:
        pytest.skip(f"the table is of Ultralytics {ultralytics_keys.VERSION}, {installed} is installed")
    written = keytable.OUTPUT.read_text(encoding="utf-8")
    assert written == keytable.render(keytable.build()), "run: python -m trainer.keytable"


def test_ultralytics_documents_every_value_that_we_allow() -> None:
    """The lists in keytable.ALLOWED are ours: each value must at least be named in default.yaml."""
    path = import_module("ultralytics.utils").DEFAULT_CFG_PATH
    documented = {
        name: comment for name, _, comment in (line.partition(":") for line in path.read_text("utf-8").splitlines())
    }
    for name, values in keytable.ALLOWED.items():
        for value in values:
            assert str(value).lower() in documented[name].lower(), (name, value)
