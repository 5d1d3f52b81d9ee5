"""Parts that a broker has and parts that a trainer has are tested in one process here."""

import sys

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")


@pytest.fixture(autouse=True)
def plain_image_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Ultralytics was imported, Image.open takes the unknown for HEIF, and wants to install a plug-in."""
    if patches := sys.modules.get("ultralytics.utils.patches"):
        monkeypatch.setattr(patches, "_pil_plugins_registered", True)
