"""A data set of drawn faces on disk, in CelebA's layout."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fader.attributes import ATTRIBUTES
from fader.data.annotations import TEST, TRAIN, VALID
from fader.data.synthetic.face import DRAWN, SyntheticFace, face_number
from fader.errors import FaderError
from fader.files import file_lock, sweep_temporaries, write_text
from fader.progress import Progress

_SETTINGS_FILE = "synth.json"
_LOCK = ".lock"
_DRAWING_VERSION = 1  # raise when pictures change, so that no folder mixes two styles
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95]
_JPEG += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
_LANDMARK_NAMES = (
    "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y "
    "leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
)


def splits(n: int) -> list[int]:
    """The partition of ``n`` faces in order: 80 % train (0), 10 % valid (1), 10 % test (2)."""
    tenth = max(1, round(n / 10))
    return [TRAIN] * (n - 2 * tenth) + [VALID] * tenth + [TEST] * tenth


def write_dataset(
    dest: str | os.PathLike[str],
    n: int,
    seed: int = 0,
    counterfactuals: bool = True,
    progress: bool = True,
) -> None:
    """Draw ``n`` faces (3 … 999,999) into the folder ``dest``, in CelebA's layout.

    JPEGs of 178x218 at quality 95, each of its own person, with all annotation files. With
    ``counterfactuals`` every test face is drawn again for each of its editable attributes, as
    ``counterfactuals/Smiling/000123.jpg``; ``counterfactuals.csv`` lists them with the label
    before and after (-1 or 1) and, under ``also``, the labels that had to follow.
    ``synth.json`` holds the settings and the drawn attributes.

    The same seed gives the same bytes. A run that was stopped is finished by the same call; the
    annotation files come last, so a folder that has them is complete.

    Raises :class:`~fader.errors.FaderError` when ``dest`` holds anything else or another process
    is drawing into it, ``n`` is out of range, or the disk refuses.
    """
    if not 3 <= n <= 999_999:
        raise FaderError(f"cannot draw {n} faces; the number must be 3 to 999999")
    dest = Path(dest)
    settings = {
        "generator": "fader synth",
        "drawing_version": _DRAWING_VERSION,
        "n": n,
        "seed": seed,
        "counterfactuals": counterfactuals,
        "drawn_attributes": list(DRAWN),
    }
    try:
        _refuse_others(dest, settings)
        held = f"{dest}: another process is drawing into it; wait for it, or give a new folder"
        with file_lock(dest / _LOCK, held):
            sweep_temporaries(dest)
            _refuse_others(dest, settings)
            if not (dest / _SETTINGS_FILE).exists():
                write_text(dest / _SETTINGS_FILE, json.dumps(settings, indent=2) + "\n")
            faces = {_image_name(number): face_number(number, seed) for number in range(1, n + 1)}
            _write_dataset(dest, faces, counterfactuals, progress)
    except OSError as error:
        raise FaderError(f"{dest}: could not be written ({error.strerror or error})") from None


def _image_name(number: int) -> str:
    return f"{number:06d}.jpg"


def _refuse_others(dest: Path, settings: dict[str, Any]) -> None:
    """Raise :class:`FaderError` unless ``dest`` is absent, empty, or ours with these settings."""
    if dest.exists() and not dest.is_dir():
        raise FaderError(f"{dest}: is a file; give the name of a new folder")
    path = dest / _SETTINGS_FILE
    if path.exists():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            found = None
        if found != settings:
            raise FaderError(
                f"{dest}: holds faces drawn with other settings (see {path.name} in it); "
                "repeat with those, or give a new folder"
            )
    # Only the lock and a temporary file come before the settings.
    elif dest.exists() and any(
        path.name != _LOCK and not path.name.startswith(".tmp-") for path in dest.iterdir()
    ):
        raise FaderError(f"{dest}: is not empty; give a new or empty folder")


def _write_dataset(
    dest: Path, faces: dict[str, SyntheticFace], counterfactuals: bool, progress: bool
) -> None:
    pictures = {f"img_align_celeba/{name}": face for name, face in faces.items()}
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image", "attribute", "from", "to", "also", "file"])
    for (image, face), split in zip(faces.items(), splits(len(faces)), strict=True):
        for name in face.editable if split == TEST and counterfactuals else ():
            file = f"counterfactuals/{name}/{image}"
            pictures[file] = face.with_attribute(name, not face.attributes[name])
            table.writerow([image, name, *_moved_labels(name, face, pictures[file]), file])
    _draw_missing({dest / file: face for file, face in pictures.items()}, progress)
    if counterfactuals:
        write_text(dest / "counterfactuals.csv", text.getvalue())
    _write_annotations(dest, faces)


def _label(value: bool) -> int:
    return 1 if value else -1


def _moved_labels(name: str, face: SyntheticFace, changed: SyntheticFace) -> tuple[int, int, str]:
    """The label before and after, and what else has changed, as ``No_Beard=1;Mustache=-1``."""
    before, after = face.attributes, changed.attributes
    also = [other for other in DRAWN if other != name and after[other] != before[other]]
    text = ";".join(f"{other}={_label(after[other])}" for other in also)
    return _label(before[name]), _label(after[name]), text


def _draw_missing(pictures: dict[Path, SyntheticFace], progress: bool) -> None:
    for folder in {path.parent for path in pictures}:
        folder.mkdir(parents=True, exist_ok=True)
    with Progress(len(pictures), unit="face", shown=progress) as bar:
        for path, face in pictures.items():
            if not _is_whole_jpeg(path):
                _, data = cv2.imencode(".jpg", face.draw()[..., ::-1], _JPEG)
                # Renamed when complete, but not flushed to disk one by one as files.atomic_path
                # would: that costs more than the drawing, and a picture lost to a power cut is
                # drawn again.
                partial = path.with_suffix(".part")
                partial.write_bytes(data.tobytes())
                os.replace(partial, path)
            bar.update()


def _is_whole_jpeg(path: Path) -> bool:
    """Whether the file is there and ends with JPEG's end marker."""
    try:
        with open(path, "rb") as file:
            file.seek(-2, os.SEEK_END)
            return file.read() == b"\xff\xd9"
    except OSError:  # not there, or shorter than the marker
        return False


def _write_annotations(dest: Path, faces: dict[str, SyntheticFace]) -> None:
    """CelebA's four text files, spaced as CelebA spaces them."""

    def write(file: str, rows: Sequence[object], *header: str) -> None:
        lines = [*header, *(f"{name} {row}" for name, row in zip(faces, rows, strict=True))]
        write_text(dest / file, "\n".join(lines) + "\n")

    count = str(len(faces))
    points = [np.rint(face.landmarks).astype(int).ravel() for face in faces.values()]
    places = [" ".join(f"{value:3d}" for value in row) for row in points]
    labels = [
        " ".join(f"{_label(value):2d}" for value in face.attributes.values())
        for face in faces.values()
    ]
    write("identity_CelebA.txt", range(1, len(faces) + 1))
    write("list_eval_partition.txt", splits(len(faces)))
    write("list_landmarks_align_celeba.txt", places, count, _LANDMARK_NAMES)
    write("list_attr_celeba.txt", labels, count, " ".join(ATTRIBUTES))
