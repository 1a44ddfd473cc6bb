"""Small datasets, drawn when a test runs; and one thread per process, since tests run side by side.

Set before PyTorch is imported, and passed on to the processes that tests start.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import pytest
from paths import ROOT
from small_celeba import write_celeba

os.environ.setdefault("OMP_NUM_THREADS", "1")
cv2.setNumThreads(1)

#: The modules that take longest, which begin first: else a core waits for the last of them.
LONGEST = ("train/test_counterfactual.py", "train/test_train.py", "edit/test_folder.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules of ``LONGEST`` first, in that order, and the others as they are."""
    ranks = {ROOT / "tests" / name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


@pytest.fixture
def celeba(tmp_path: Path) -> Callable[..., Path]:
    """``celeba(n=…, zipped=…, …)`` draws a small dataset in CelebA's layout; see above."""

    def draw(n: int = 12, *, name: str = "celeba", **options: object) -> Path:
        return write_celeba(tmp_path / name, n, **options)

    return draw


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real face data beside the checkout; a test that needs it skips without."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the face data in {folder}")
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache, for one test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as in a terminal; a shell's background jobs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
