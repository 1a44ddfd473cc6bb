"""A store that is being made: the log of what is done, the pixels' file, and those who fill it."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fader import progress
from fader.data.annotations import AnnotatedImages
from fader.data.images import one_line
from fader.data.store import FORMAT, damaged
from fader.errors import FaderError, NoFaceError
from fader.files import FULL, flush, write_text
from fader.processes import WorkerPool, processors

#: Images per unit of work: what a kill can lose, for each worker.
BLOCK = 64
#: Width and height of CelebA's own aligned images, whose landmarks are the template's.
CELEBA_SIZE = (178, 218)

#: Rows of images that cannot be used, and why.
Rejected = list[tuple[int, str]]


class Progress:
    """The log of finished blocks; a torn last line (a kill while it was written) is ignored."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings: dict[str, Any] = {}
        self.rejected_by_block: dict[int, Rejected] = {}
        self.compacted = False
        if not path.exists():
            return
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            # The next entry must not be appended to the torn one.
            os.truncate(path, len(whole))
        try:
            settings, *entries = [json.loads(line) for line in whole.splitlines()]
            if settings.get("given_up"):
                return
            self.settings = settings
            self.settings.setdefault("alignment", "landmarks")  # from before it was recorded
            for entry in entries:
                if "block" in entry:
                    rejected = [(int(row), str(reason)) for row, reason in entry["rejected"]]
                    self.rejected_by_block[int(entry["block"])] = rejected
                else:
                    self.compacted = True
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise damaged(path) from None

    @property
    def rejected(self) -> dict[int, str]:
        """The rejected rows of all finished blocks, with their reasons."""
        return dict(pair for block in self.rejected_by_block.values() for pair in block)

    def start(self, settings: dict[str, Any]) -> None:
        """Begin the log, with the settings in its first line."""
        write_text(self.path, json.dumps(settings) + "\n")
        self.settings = settings

    def give_up(self) -> None:
        """Begin again next time, with whatever settings; the folder stays marked as ours."""
        write_text(self.path, json.dumps({"format": FORMAT, "size": 0, "given_up": True}) + "\n")

    def finish_block(self, start: int, rejected: Rejected) -> None:
        """Log the block from row ``start``."""
        self._append({"block": start, "rejected": rejected})
        self.rejected_by_block[start] = rejected

    def finish_compaction(self) -> None:
        """Log that the holes of the rejected images are filled."""
        self._append({"compacted": True})
        self.compacted = True

    def _append(self, entry: dict[str, Any]) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            flush(file.fileno())


def npy_header(count: int, size: int) -> bytes:
    """The bytes of an ``.npy`` file before its pixels; as many for any smaller count."""
    file = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size, 3)}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()


@dataclass(frozen=True)
class Pixels:
    """The pixels' file of a store, with room for ``count`` images."""

    path: Path
    count: int
    size: int

    def _bytes(self, count: int) -> int:
        return len(npy_header(count, self.size)) + count * self.size * self.size * 3

    def require_room(self) -> None:
        """Raise :class:`FaderError` when the disk has no room for it."""
        folder, total = self.path.parent, self._bytes(self.count)
        if (free := shutil.disk_usage(folder).free) < total:
            raise FaderError(
                f"{folder}: {total / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free on this "
                "disk; give a folder on another one, or a smaller --size or --limit"
            )

    def allocate(self) -> None:
        """Make the file, at its full size."""
        path, total = self.path, self._bytes(self.count)
        with open(path, "wb") as file:
            file.write(npy_header(self.count, self.size))
            file.flush()
            if hasattr(os, "posix_fallocate"):
                # Writing to a memory map on a disk that has become full would kill the process.
                try:
                    os.posix_fallocate(file.fileno(), 0, total)
                except OSError as error:
                    if error.errno in FULL:
                        raise FaderError(f"{path}: no room for it ({error.strerror})") from None
            file.truncate(total)

    def mapped(self) -> np.memmap:
        """All its rows, whatever count its header gives."""
        shape = (self.count, self.size, self.size, 3)
        offset = len(npy_header(self.count, self.size))
        try:
            return np.memmap(self.path, np.uint8, "r+", offset, shape)
        except (OSError, ValueError) as error:
            raise damaged(self.path, error) from None

    def fill_holes(self, log: Progress) -> np.ndarray:
        """Move the last images into the rows of the rejected ones; (kept,) int64 source rows. Done
        again after a kill it gives the same, since sources and targets never overlap."""
        rejected = log.rejected
        kept = self.count - len(rejected)
        rows = np.arange(self.count)
        holes = [row for row in sorted(rejected) if row < kept]
        fillers = [row for row in range(kept, self.count) if row not in rejected]
        rows[holes] = fillers
        if not log.compacted:
            images = self.mapped()
            for hole, filler in zip(holes, fillers, strict=True):
                images[hole] = images[filler]
            images.flush()
            log.finish_compaction()
        return rows[:kept]

    def truncate(self, count: int) -> None:
        """Cut the file to its first ``count`` images."""
        with open(self.path, "r+b") as file:
            file.write(npy_header(count, self.size))
            file.truncate(self._bytes(count))
            file.flush()
            flush(file.fileno())


class _Aligner:
    """Reads, aligns and stores single images; each worker process has one."""

    def __init__(self, data: AnnotatedImages, pixels: Pixels, alignment: str) -> None:
        self._data, self._alignment, self._size = data, alignment, pixels.size
        self._target = pixels.mapped()
        self._detector: Any = None

    def __call__(self, rows: tuple[int, int]) -> Rejected:
        """Store the images of the rows from the first to before the second."""
        rejected, data = [], self._data
        for row in range(*rows):
            try:
                image = data.images.read(data.names[row])
                self._target[row] = self._face(image, data.landmarks[row])
            except FaderError as error:
                rejected.append((row, str(error)))
            except ImportError:  # what detects is not installed: no fault of the image
                raise
            # Whatever one image brings about must not keep the others from being prepared.
            except Exception as error:
                rejected.append((row, f"could not be aligned ({one_line(error)})"))
        self._target.flush()
        return rejected

    def _face(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        from fader.faces.align import TEMPLATE, align

        if self._alignment == "template":
            height, width = image.shape[:2]
            if (width, height) != CELEBA_SIZE:
                raise FaderError(
                    f"is {width}x{height} pixels, and CelebA's aligned images are 178x218; "
                    "prepare with --detect to look for the faces"
                )
            landmarks = TEMPLATE
        elif self._alignment == "detected" or not np.isfinite(landmarks).all():
            landmarks = self._detect(image)
        else:
            # As far away as a face that is half out of view, and no farther.
            size = np.array(image.shape[1::-1], dtype=np.float64)
            away = ((landmarks < -size) | (landmarks > 2 * size)).any(axis=1)
            if away.any():
                x, y = landmarks[away][0]
                raise FaderError(
                    f"its landmark ({x:g}, {y:g}) is far outside its {size[0]:.0f}x{size[1]:.0f} "
                    "pixels; mend its row in the list of landmarks"
                )
        return align(image, landmarks, self._size)

    def _detect(self, image: np.ndarray) -> np.ndarray:
        """The landmarks of the largest face, or of those of like size the one in the middle."""
        if self._detector is None:
            from fader.faces.detect import Detector

            self._detector = Detector()
        faces = self._detector(image)
        if not faces:
            raise NoFaceError("no face found")
        height, width = image.shape[:2]

        def distance(face: Any) -> float:
            x0, y0, x1, y1 = face.box
            return math.hypot((x0 + x1 - width) / 2, (y0 + y1 - height) / 2)

        largest = max(face.area for face in faces)
        return min((face for face in faces if face.area > 0.7 * largest), key=distance).landmarks


def align_blocks(
    data: AnnotatedImages, pixels: Pixels, log: Progress, workers: int | None, shown: bool
) -> None:
    """Align the images of all blocks that are not finished, by so many processes, and log each."""
    count = pixels.count
    starts = set(range(0, count, BLOCK)) - log.rejected_by_block.keys()
    tasks = [(start, min(start + BLOCK, count)) for start in sorted(starts)]
    if not tasks:
        return

    def lost(task: tuple[int, int]) -> Rejected:
        raise FaderError(
            f"{pixels.path.parent}: a worker process died (out of memory?); run it again with "
            "fewer --workers, what is done is kept"
        )

    make = partial(_Aligner, data, pixels, log.settings["alignment"])
    pool = WorkerPool(make, tasks, min(workers or processors(), len(tasks)), lost)
    done = count - sum(stop - start for start, stop in tasks)
    bar = progress.Progress(count, done, unit="image", shown=shown)
    with bar, closing(pool):
        for (start, stop), rejected in pool:
            log.finish_block(start, rejected)
            bar.update(stop - start)
