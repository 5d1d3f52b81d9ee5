"""Opens images of a data set to see whether they decode. Only the formats that trainings use are tried."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from broker.dataset.files import spread
from broker.dataset.tally import Tally

_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")  # JPEG opens MPO too
_SUFFIXES = (".jpg", ".jpeg", ".mpo", ".png", ".bmp", ".tif", ".tiff", ".webp")
_SMALLEST = 10  # pixels; Ultralytics leaves smaller ones out
_THREADS = min(4, os.cpu_count() or 1)


def check(images: Sequence[str], most: int, tally: Tally) -> int:
    """Decode at most `most` of them, evenly spread. Returns how many."""
    chosen = spread([path for path in images if path.lower().endswith(_SUFFIXES)], most)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="preflight") as pool:
        for path, problem in zip(chosen, pool.map(_problem, chosen, chunksize=16), strict=True):
            if problem:
                tally.error("image that does not decode", path, problem, "export it again, or remove it and its labels")
    return len(chosen)


def _problem(path: str) -> str:
    """What is wrong with an image, or ''."""
    try:
        if not Path(path).is_file():  # a pipe would never answer
            return "there is no such image"
        with Image.open(path, formats=_FORMATS) as picture:
            width, height = picture.size
            if min(width, height) < _SMALLEST:
                return f"has {width}x{height} pixels, and at least {_SMALLEST} are needed on each side"
            picture.draft("RGB", (max(1, width // 8), max(1, height // 8)))  # a JPEG is read whole, but scaled down
            picture.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return "has too many pixels"
    except (OSError, ValueError, SyntaxError, EOFError, ArithmeticError, LookupError) as error:
        return f"does not decode: {_first_line(error)}"
    return ""


def _first_line(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image of a known format"
    text = str(error).split("\n", 1)[0]
    return text[:120] or type(error).__name__
