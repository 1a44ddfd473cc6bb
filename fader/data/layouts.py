"""Which of the layouts of labelled photos a folder has: CelebA's, or photos with a CSV."""

from __future__ import annotations

import os
from pathlib import Path

from fader.data.annotations import AnnotatedImages
from fader.data.celeba import find_files, is_celeba, read_celeba
from fader.data.folder import find_labels, read_folder
from fader.errors import FaderError


def read_source(
    source: str | os.PathLike[str],
    labels: str | os.PathLike[str] | None = None,
    soft: bool = True,
) -> AnnotatedImages:
    """CelebA's layout or a labelled photo folder, told apart by the files in it.

    With ``labels`` given, ``source`` is read as a folder of photos that this CSV describes.
    Raises :class:`FaderError` when ``source`` is neither.
    """
    root = Path(source)
    if labels is None and root.is_dir() and is_celeba(root):
        return read_celeba(root, soft=soft)
    return read_folder(root, _labels_of_folder(root, labels))


def source_files(
    source: str | os.PathLike[str],
    labels: str | os.PathLike[str] | None = None,
    soft: bool = True,
) -> list[Path]:
    """The files :func:`read_source` would read (annotations, image zip), none of them opened."""
    root = Path(source)
    if labels is None and root.is_dir() and is_celeba(root):
        return list(find_files(root, soft).values())
    return [_labels_of_folder(root, labels)]


def _labels_of_folder(root: Path, labels: str | os.PathLike[str] | None) -> Path:
    if not root.is_dir():
        if root.exists():
            raise FaderError(f"{root}: is a file; give the folder that holds it")
        raise FaderError(f"{root}: there is no such folder")
    path = find_labels(root) if labels is None else Path(labels)
    if path is None:
        raise FaderError(
            f"{root}: holds neither CelebA (list_attr_celeba.txt with img_align_celeba.zip or "
            "img_align_celeba/) nor photos with a labels.csv"
        )
    return path
