"""Where edited photos go, and what is never overwritten."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from fader.edit.results import Edit
from fader.errors import FaderError
from fader.files import check_folder
from fader.photo import can_write, copy_file, kind_of, photo_bytes, save_image

# Formats an edited photo may keep. Edits of others, which cannot be written or (GIF) hold too few
# colours to leave untouched pixels as they are, become PNGs.
_KEPT = {"JPEG", "PNG", "WEBP", "BMP", "TIFF", "AVIF", "HEIF"}

# What the usual file systems take for a name, in bytes.
_LONGEST_NAME = 255


def beside(photo: Path, variant: str = "") -> Path:
    """The default place of an edit: ``photo.jpg`` → ``photo.edited.jpg``, or with the name of a
    variant in place of "edited"."""
    suffix = photo.suffix if _keeps(photo) else ".png"
    return photo.with_name(_fitting(f"{photo.stem}.{variant or 'edited'}", suffix))


def inside(folder: Path, relative: Path, variant: str = "") -> Path:
    """The place in an output folder of the photo at ``relative``: ``a/b.jpg`` → ``OUT/a/b.jpg``.

    Where the format cannot be kept, ``b.gif`` → ``b.gif.png``, so that it meets no ``b.png``. A
    variant's name goes before the suffix: ``OUT/a/b.Male=0.jpg``.
    """
    stem, suffix = (relative.stem, relative.suffix) if _keeps(relative) else (relative.name, ".png")
    name = _fitting(f"{stem}.{variant}" if variant else stem, suffix)
    return folder / relative.with_name(name)


def plan(
    folder: Path,
    relatives: Sequence[Path],
    variants: Sequence[str] = ("",),
    fold: Callable[[str], str] = str,
) -> list[list[Path]]:
    """The places in an output folder of many photos, no two the same: a list per photo.

    A photo that keeps its name comes first; one whose new name is taken gets a number. ``fold``
    makes names alike that the disk takes for the same.
    """
    wanted = [[inside(folder, relative, name) for name in variants] for relative in relatives]
    taken: set[str] = set()
    renamed: list[tuple[list[Path], int]] = []
    for relative, places in zip(relatives, wanted, strict=True):
        for i, place in enumerate(places):
            if place == folder / relative and fold(str(place)) not in taken:
                taken.add(fold(str(place)))
            else:
                renamed.append((places, i))
    for places, i in renamed:
        number, free = 2, places[i]
        while fold(str(free)) in taken:
            free = free.with_name(_fitting(f"{places[i].stem}-{number}", free.suffix))
            number += 1
        taken.add(fold(str(free)))
        places[i] = free
    return wanted


def refuse_overwriting(output: Path, inputs: Iterable[Path], overwrite: bool) -> None:
    """Raise :class:`~fader.errors.FaderError` if writing ``output`` would destroy an input, by
    whatever name or link it is reached, or another file without ``overwrite``; or if a file is
    where its folder should be."""
    if not os.path.lexists(output):
        check_folder(output.parent)
        return
    if output.is_dir():
        raise FaderError(f"{output}: is a folder; name a file in it")
    for photo in inputs:
        if output.exists() and photo.exists() and output.samefile(photo):
            raise FaderError(f"{output}: is an input photo, never overwritten; choose another -o")
    if not overwrite:
        raise FaderError(
            f"{output}: is already there; replace it with --overwrite or choose another -o"
        )


def write_edit(
    edit: Edit, source: Path, output: Path, quality: int | None = None, provenance: bool = True
) -> tuple[str, ...]:
    """Write an edit of the file ``source``: see :meth:`Edit.save`; answers what could not be kept.
    Where nothing was changed and the format stays, the file itself is copied."""
    if _stays(edit, source, output, quality):
        copy_file(source, output)
        return ()
    return edit.save(output, quality=quality, provenance=provenance)


def edit_bytes(
    edit: Edit,
    source: tuple[Path, bytes],
    output: Path,
    quality: int | None = None,
    provenance: bool = True,
) -> tuple[bytes, tuple[str, ...]]:
    """What :func:`write_edit` would write to ``output``, of a source that is a name and its
    content, and its answer: nothing is read from a disk or written to it."""
    name, data = source
    if _stays(edit, name, output, quality):
        return data, ()
    mark = edit.provenance if provenance else None
    return photo_bytes(edit.photo, output.name, quality=quality, provenance=mark)


def _stays(edit: Edit, source: Path, output: Path, quality: int | None) -> bool:
    """Whether the output is to be the source itself: nothing was changed, its format neither."""
    same_kind = kind_of(output.suffix) == edit.photo.kind == kind_of(source.suffix)
    return edit.provenance is None and quality is None and same_kind


def write(image: Image.Image, output: Path, source: Path, **options: Any) -> None:
    """Write a picture made from the photo ``source``, with its colour profile and permissions, and
    ``options`` of Pillow's writer."""
    if profile := image.info.get("icc_profile"):
        options["icc_profile"] = profile
    save_image(image, output, stat.S_IMODE(source.stat().st_mode), **options)


def _keeps(photo: Path) -> bool:
    return kind_of(photo.suffix) in _KEPT and can_write(photo.suffix)


def _fitting(stem: str, suffix: str) -> str:
    """``stem + suffix``, with the end of the stem replaced by a hash where that is too long."""
    name = os.fsencode(stem + suffix)
    if len(name) <= _LONGEST_NAME:
        return stem + suffix
    end = f"~{hashlib.blake2b(name, digest_size=6).hexdigest()}{suffix}"
    while len(os.fsencode(stem + end)) > _LONGEST_NAME:
        stem = stem[:-1]
    return stem + end
