"""The version that is installed."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("wyolo")
except PackageNotFoundError:
    VERSION = "0+unknown"
