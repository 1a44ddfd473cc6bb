"""Reading photos without a word of the libraries: what is wrong is told in one sentence of ours."""

from __future__ import annotations

import ctypes
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from PIL import Image

# What is silenced belongs to the whole process: from the first of several threads to the last.
_LOCK = threading.Lock()
_readers, _loud = 0, ExitStack()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Pillow, and the libtiff in it, from writing to standard error while the block runs."""
    global _readers
    with _LOCK:
        _readers += 1
        if _readers == 1:
            _silence(_loud)
    try:
        yield
    finally:
        with _LOCK:
            _readers -= 1
            if not _readers:
                _loud.close()


def _silence(loud: ExitStack) -> None:
    """Silence what may speak; ``loud`` undoes it when it is closed."""
    loud.enter_context(warnings.catch_warnings())
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logger = logging.getLogger("PIL")
    loud.callback(logger.setLevel, logger.level)
    logger.setLevel(logging.CRITICAL)
    # Found through the library that links it; where it is a part of that, as on Windows, it is not.
    with suppress(AttributeError, OSError):
        handle_errors = ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler
        handle_errors.restype, handle_errors.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
        loud.callback(handle_errors, handle_errors(None))
