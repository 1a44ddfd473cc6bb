"""Aligning the faces of many images into the pixels' file of a store, by several processes."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np

from fader import progress
from fader.data.annotations import AnnotatedImages
from fader.data.images import FolderImages, ZipImages
from fader.data.store import IMAGES
from fader.data.unfinished import Progress, map_images
from fader.errors import FaderError, NoFaceError

#: Images per unit of work: what a kill can lose, for each worker.
BLOCK = 64
#: Width and height of CelebA's own aligned images, whose landmarks are the template's.
CELEBA_SIZE = (178, 218)


class _Aligner:
    """Reads, aligns and stores single images; each worker process has one."""

    def __init__(
        self, images: FolderImages | ZipImages, path: Path, count: int, size: int, alignment: str
    ) -> None:
        self._source = images
        self._size = size
        self._alignment = alignment
        self._target = map_images(path, count, size)
        self._detector: Any = None

    def block(self, start: int, names: list[str], landmarks: np.ndarray) -> list[tuple[int, str]]:
        """Store the images of rows ``start``…; the rejected rows with their reasons."""
        rejected = []
        for row, (name, points) in enumerate(zip(names, landmarks, strict=True), start):
            try:
                self._target[row] = self._face(self._source.read(name), points)
            except FaderError as error:
                rejected.append((row, str(error)))
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


_aligner: _Aligner


def _start_worker(
    images: FolderImages | ZipImages,
    path: Path,
    count: int,
    size: int,
    alignment: str,
    detect: bool,
) -> None:
    import cv2

    # One process per processor: threads inside them would only get in each other's way.
    cv2.setNumThreads(1)
    if detect:
        import torch

        torch.set_num_threads(1)
    # What Pillow warns of is answered by results, in one sentence each.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    # Ctrl-C is the parent's to handle.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A killed parent cannot stop its workers, and one that goes on would write into a store that
    # a resumed run has finished meanwhile.
    threading.Thread(target=_die_with_parent, daemon=True).start()
    global _aligner
    _aligner = _Aligner(images, path, count, size, alignment)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(start: int, names: list[str], landmarks: np.ndarray) -> list[tuple[int, str]]:
    return _aligner.block(start, names, landmarks)


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
    arguments = (data.images, dest / IMAGES, count, settings["size"], alignment)
    workers = min(workers or _processors(), len(todo))
    tasks = [
        (start, data.names[start:stop], data.landmarks[start:stop])
        for start in todo
        for stop in [min(start + BLOCK, count)]
    ]
    known = all(np.isfinite(landmarks).all() for _, _, landmarks in tasks)
    detect = alignment == "detected" or (alignment == "landmarks" and not known)
    done = count - sum(len(names) for _, names, _ in tasks)
    with progress.Progress(count, done, unit="image", shown=shown) as bar:
        if workers == 1:
            aligner = _Aligner(*arguments)
            for start, names, landmarks in tasks:
                log.finish_block(start, aligner.block(start, names, landmarks))
                bar.update(len(names))
            return
        executor = ProcessPoolExecutor(
            workers,
            # Forking a process in which torch already runs threads can deadlock.
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start_worker,
            initargs=(*arguments, detect),
        )
        try:
            futures = {executor.submit(_work, *task): task for task in tasks}
            for future in as_completed(futures):
                start, names, _ = futures[future]
                log.finish_block(start, future.result())
                bar.update(len(names))
        except BrokenProcessPool:
            raise FaderError(
                f"{dest}: a worker process died (out of memory?); run it again with fewer "
                "--workers, what is done is kept"
            ) from None
        finally:
            executor.shutdown(wait=True, cancel_futures=True)


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
