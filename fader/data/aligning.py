"""Aligning the faces of many images into the pixels' file of a store, by several processes."""

from __future__ import annotations

import math
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fader import progress
from fader.data.annotations import AnnotatedImages
from fader.data.store import IMAGES
from fader.data.unfinished import Progress, map_images
from fader.errors import FaderError, NoFaceError
from fader.processes import WorkerPool, processors

#: Images per unit of work: what a kill can lose, for each worker.
BLOCK = 64
#: Width and height of CelebA's own aligned images, whose landmarks are the template's.
CELEBA_SIZE = (178, 218)


class _Aligner:
    """Reads, aligns and stores single images; each worker process has one."""

    def __init__(
        self, data: AnnotatedImages, path: Path, count: int, size: int, alignment: str
    ) -> None:
        self._data = data
        self._size = size
        self._alignment = alignment
        self._target = map_images(path, count, size)
        self._detector: Any = None

    def __call__(self, rows: tuple[int, int]) -> list[tuple[int, str]]:
        """Store the images of the rows from the first to before the second; the rejected rows with
        their reasons."""
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
                reason = " ".join(str(error).split()) or type(error).__name__
                rejected.append((row, f"could not be aligned ({reason})"))
        self._target.flush()  # type: ignore[attr-defined]
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
            _require_inside(landmarks, image)
        return align(image, landmarks, self._size)

    def _detect(self, image: np.ndarray) -> np.ndarray:
        if self._detector is None:
            from fader.faces.detect import Detector

            self._detector = Detector()
        faces = self._detector(image)
        if not faces:
            raise NoFaceError("no face found")

        def area(face: Any) -> float:
            x0, y0, x1, y1 = face.box
            return float((x1 - x0) * (y1 - y0))

        def distance(face: Any) -> float:
            x0, y0, x1, y1 = face.box
            height, width = image.shape[:2]
            return math.hypot((x0 + x1 - width) / 2, (y0 + y1 - height) / 2)

        largest = max(map(area, faces))
        return min((face for face in faces if area(face) > 0.7 * largest), key=distance).landmarks


def _require_inside(landmarks: np.ndarray, image: np.ndarray) -> None:
    """Raise :class:`FaderError` for landmarks farther away than a face that is half out of view."""
    size = np.array(image.shape[1::-1], dtype=np.float64)
    away = (landmarks < -size) | (landmarks > 2 * size)
    if away.any():
        x, y = landmarks[away.any(axis=1)][0]
        raise FaderError(
            f"its landmark ({x:g}, {y:g}) is far outside its {size[0]:.0f}x{size[1]:.0f} pixels; "
            "mend its row in the list of landmarks"
        )


def align_blocks(
    data: AnnotatedImages,
    dest: Path,
    settings: dict[str, Any],
    count: int,
    todo: list[int],
    log: Progress,
    workers: int | None,
    shown: bool,
) -> None:
    """Align the images of the blocks ``todo``, by so many processes, and log each block."""
    alignment = settings["alignment"]
    make = partial(_Aligner, data, dest / IMAGES, count, settings["size"], alignment)
    tasks = [(start, min(start + BLOCK, count)) for start in todo]

    def lost(task: tuple[int, int]) -> list[tuple[int, str]]:
        raise FaderError(
            f"{dest}: a worker process died (out of memory?); run it again with fewer --workers, "
            "what is done is kept"
        )

    pool = WorkerPool(make, tasks, min(workers or processors(), len(todo)), lost)
    done = count - sum(stop - start for start, stop in tasks)
    with (
        progress.Progress(count, done, unit="image", shown=shown) as bar,
        closing(pool),
    ):
        for (start, stop), rejected in pool:
            log.finish_block(start, rejected)
            bar.update(stop - start)
