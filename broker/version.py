"""The version that is installed."""

from importlib.metadata import PackageNotFoundError, version


def _installed() -> str:
    try:
        return version("wyolo")
    except PackageNotFoundError:
        return "0+unknown"


VERSION = _installed()
