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

_IMAGES = "img_align_celeba"
_COUNTERFACTUALS = "counterfactuals"
_SETTINGS_FILE = "synth.json"
_LOCK = ".lock"
_DRAWING_VERSION = 1  # raise when pictures change, so that no folder mixes two styles
_JPEG = (
    cv2.IMWRITE_JPEG_QUALITY,
    95,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
)
_LANDMARK_NAMES = " ".join(
    f"{point}_{axis}"
    for point in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
    for axis in "xy"
)


def image_name(number: int) -> str:
    """``1`` → ``"000001.jpg"``, as in CelebA."""
    return f"{number:06d}.jpg"


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

    There are ``img_align_celeba/000001.jpg`` … (178x218, JPEG at quality 95), ``list_attr_celeba``,
    ``list_eval_partition``, ``identity_CelebA`` (each face is its own person) and
    ``list_landmarks_align_celeba`` (the true landmarks, rounded to pixels as CelebA's are). With
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
            _write_dataset(dest, settings, progress)
    except OSError as error:
        raise FaderError(f"{dest}: could not be written ({error.strerror or error})") from None


def _write_dataset(dest: Path, settings: dict[str, Any], progress: bool) -> None:
    n, seed = settings["n"], settings["seed"]
    if not (dest / _SETTINGS_FILE).exists():
        write_text(dest / _SETTINGS_FILE, json.dumps(settings, indent=2) + "\n")
    faces = [face_number(number, seed) for number in range(1, n + 1)]
    pictures = [(dest / _IMAGES / image_name(i), face) for i, face in enumerate(faces, 1)]
    changed = _counterfactuals(faces) if settings["counterfactuals"] else []
    pictures += [(dest / file, face) for _, _, file, face in changed]
    _draw_missing(pictures, progress)
    if settings["counterfactuals"]:
        write_text(dest / "counterfactuals.csv", _counterfactual_table(faces, changed))
    _write_annotations(dest, faces)


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


def _counterfactuals(
    faces: Sequence[SyntheticFace],
) -> list[tuple[int, str, str, SyntheticFace]]:
    """Number of the test face, attribute, file and changed face, for every editable attribute."""
    return [
        (
            number,
            name,
            f"{_COUNTERFACTUALS}/{name}/{image_name(number)}",
            face.with_attribute(name, not face.attributes[name]),
        )
        for number, (face, split) in enumerate(zip(faces, splits(len(faces)), strict=True), 1)
        if split == TEST
        for name in face.editable
    ]


def _draw_missing(pictures: Sequence[tuple[Path, SyntheticFace]], progress: bool) -> None:
    for folder in {path.parent for path, _ in pictures}:
        folder.mkdir(parents=True, exist_ok=True)
    with Progress(len(pictures), unit="face", shown=progress) as bar:
        for path, face in pictures:
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


def _label(value: bool) -> int:
    return 1 if value else -1


def _counterfactual_table(
    faces: Sequence[SyntheticFace], changed: Sequence[tuple[int, str, str, SyntheticFace]]
) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image", "attribute", "from", "to", "also", "file"])
    for number, name, file, face in changed:
        before, after = faces[number - 1].attributes, face.attributes
        also = [
            f"{other}={_label(after[other])}"
            for other in DRAWN
            if other != name and after[other] != before[other]
        ]
        labels = (_label(before[name]), _label(after[name]))
        table.writerow([image_name(number), name, *labels, ";".join(also), file])
    return text.getvalue()


def _write_annotations(dest: Path, faces: Sequence[SyntheticFace]) -> None:
    """CelebA's four text files, spaced as CelebA spaces them."""
    names = [image_name(number) for number in range(1, len(faces) + 1)]

    def write(file: str, header: Sequence[str], rows: Sequence[str]) -> None:
        lines = [*header, *(f"{name} {row}" for name, row in zip(names, rows, strict=True))]
        write_text(dest / file, "\n".join(lines) + "\n")

    count = str(len(faces))
    points = [np.rint(face.landmarks).astype(int).ravel() for face in faces]
    labels = [[_label(value) for value in face.attributes.values()] for face in faces]
    write("identity_CelebA.txt", [], [str(number) for number in range(1, len(faces) + 1)])
    write("list_eval_partition.txt", [], [str(split) for split in splits(len(faces))])
    write(
        "list_landmarks_align_celeba.txt",
        [count, _LANDMARK_NAMES],
        [" ".join(f"{value:3d}" for value in row) for row in points],
    )
    write(
        "list_attr_celeba.txt",
        [count, " ".join(ATTRIBUTES)],
        [" ".join(f"{value:2d}" for value in row) for row in labels],
    )
