"""Reading and writing photos: the one place where files become RGB arrays and back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fader.errors import FaderError, UnreadableImageError
from fader.files import atomic_path

ImageLike = str | os.PathLike[str] | Image.Image | np.ndarray

#: Suffixes taken for photos when a folder is searched.
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})


def open_image(source: ImageLike) -> Image.Image:
    """A photo as an upright RGB :class:`PIL.Image.Image`.

    ``source`` is a path, a PIL image, or an H×W×3 / H×W ``uint8`` array in RGB order. EXIF
    orientation is obeyed, so that the result is the photo as a viewer shows it.

    Raises :class:`~fader.errors.UnreadableImageError` when the file is not an image or is broken.
    """
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or not (
            source.ndim == 2 or (source.ndim == 3 and source.shape[2] == 3)
        ):
            raise UnreadableImageError(
                f"expected an H×W×3 uint8 RGB array, got shape {source.shape} of {source.dtype}"
            )
        return Image.fromarray(source).convert("RGB")
    if isinstance(source, Image.Image):
        return ImageOps.exif_transpose(source).convert("RGB")
    path = Path(source)
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError:
        raise UnreadableImageError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise UnreadableImageError(f"{path}: is a folder, not a photo") from None
    except PermissionError:
        raise UnreadableImageError(f"{path}: no permission to read it") from None
    except UnidentifiedImageError:
        raise UnreadableImageError(
            f"{path}: not an image, or of a kind Pillow cannot read; convert it to JPEG or PNG"
        ) from None
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(f"{path}: refused, its size is suspicious ({error})") from None
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError) as error:
        # Pillow's decoders answer broken data with any of these.
        raise UnreadableImageError(f"{path}: broken or cut short ({error})") from None


def save_image(image: Image.Image, path: str | os.PathLike[str], **options: Any) -> None:
    """Write ``image`` atomically; the format follows the suffix, JPEG at quality 95 by default.

    Raises :class:`~fader.errors.FaderError` when Pillow cannot write that suffix or the place
    cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in Image.registered_extensions():
        raise FaderError(
            f"{path}: cannot write {suffix or 'a file without suffix'!s}; use .png or .jpg"
        )
    if suffix in {".jpg", ".jpeg"}:
        options = {"quality": 95, "subsampling": 0, **options}
    try:
        with atomic_path(path) as temporary:
            image.save(temporary, **options)
    except OSError as error:
        raise FaderError(f"{path}: could not be written ({error.strerror or error})") from None
