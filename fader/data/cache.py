"""Data that was prepared on the way: where it is kept, how much of it, and how to be rid of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fader.errors import FaderError
from fader.files import file_lock, sweep_temporaries

#: How many gigabytes are kept, where $FADER_CACHE_GB does not say otherwise.
LIMIT_GB = 20.0

# What is made there: prepared stores, and judges of classes (one file each). Nothing else is ours.
_STORE = re.compile(r"[0-9a-f]{16}-\d+")
_JUDGE = re.compile(r"judge-[0-9a-f]{16}(\.\w+)?")
_STORE_FILES = frozenset(
    "images.npy labels.npy split.npy identity.npy names.json meta.json progress.jsonl "
    "rejected.csv".split()  # noqa: SIM905
)
_LOCK = ".lock"


def cache_folder() -> Path:
    """Where it is: ``fader`` in ``$XDG_CACHE_HOME``, or in ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fader"
