"""Reading photos: the one place where files become RGB arrays."""

from __future__ import annotations

import io
import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms, JpegImagePlugin, UnidentifiedImageError

from fader.errors import UnreadableImageError
from fader.photo.formats import register_heif
from fader.photo.metadata import DESCRIBING, upright_xmp
from fader.photo.photo import ImageLike, Photo, eight_bit, stacked
from fader.photo.sixteen_bit import read_deep

# What each EXIF orientation asks for, to be upright.
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a.swapaxes(0, 1), 2),
    8: np.rot90,
}

# Compressions of TIFF that lose nothing; a photo that had another one is written as deflate.
_LOSSLESS_TIFF = {"raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "zstd"}


def open_photo(source: ImageLike | Photo) -> Photo:
    """A photo with everything that is to be written back.

    ``source`` is a path, a PIL image, or an H×W×3 / H×W ``uint8`` array in RGB order. EXIF
    orientation is obeyed; CMYK becomes sRGB (through its profile where it has one); of an
    animation or a file of several pages it is the first.

    Raises :class:`~fader.errors.UnreadableImageError` when the file is not an image or is broken.
    """
    if isinstance(source, Photo):
        return source
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or not (
            source.ndim == 2 or (source.ndim == 3 and source.shape[2] == 3)
        ):
            raise UnreadableImageError(
                f"expected an H×W×3 uint8 RGB array, got shape {source.shape} of {source.dtype}"
            )
        if not source.size:
            raise UnreadableImageError(f"the array is empty: its shape is {source.shape}")
        # A grey array, unlike a grey file, is asked about in RGB and answered in it.
        return Photo(source if source.ndim == 3 else stacked(source))
    if isinstance(source, Image.Image):
        return _photo_of(source, "the image", None)
    path = Path(source)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            kind = "a folder" if path.is_dir() else "no regular file"
            if path.is_dir() and not os.access(path, os.R_OK | os.X_OK):
                raise UnreadableImageError(f"{path}: no permission to look into this folder")
            raise UnreadableImageError(f"{path}: is {kind}, not a photo")
        register_heif()
        with Image.open(path) as image:
            return _photo_of(image, str(path), path)
    except UnreadableImageError:
        raise
    except FileNotFoundError:
        raise UnreadableImageError(f"{path}: there is no such file") from None
    except PermissionError:
        raise UnreadableImageError(f"{path}: no permission to read it") from None
    except UnidentifiedImageError:
        raise UnreadableImageError(f"{path}: {_why_unidentified(path)}") from None
    except Image.DecompressionBombError:
        raise UnreadableImageError(
            f"{path}: refused, it claims to have more than "
            f"{2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} megapixels"
        ) from None
    except MemoryError:
        raise UnreadableImageError(f"{path}: too large for this machine's memory") from None
    except Exception as error:
        # Decoders answer broken data with any exception there is.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableImageError(f"{path}: broken or cut short ({reason})") from None


def open_image(source: ImageLike) -> Image.Image:
    """A photo as an upright RGB :class:`PIL.Image.Image`; see :func:`open_photo`."""
    return Image.fromarray(open_photo(source).pixels)


def _photo_of(image: Image.Image, name: str, path: Path | None) -> Photo:
    kind = "JPEG" if image.format == "MPO" else image.format
    if 0 in image.size:
        raise UnreadableImageError(f"{name}: has no pixels, its size is {image.size}")
    notes = []
    if (frames := getattr(image, "n_frames", 1)) > 1:
        notes.append(f"only the first of its {frames} frames or pages")
    is_deep = path is not None and ";16" in str(image.tile) and not image.mode.startswith("I")
    lossless = path is not None and kind == "WEBP" and _is_lossless_webp(path)
    image.load()
    orientation = _orientation(image)
    encoding = _encoding(image, kind, lossless)
    info = dict(image.info)
    exif = _exif(image, kind)
    icc = info.get("icc_profile")

    deep = alpha = None
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise UnreadableImageError(f"{name}: its values do not fit 16 bits; convert it to 8")
        deep = stacked(values.astype(np.uint16))
        pixels, grey = eight_bit(deep), True
    elif image.mode == "F":
        raise UnreadableImageError(
            f"{name}: holds floating-point values; convert it to 8 or 16 bits per channel"
        )
    else:
        grey = image.mode in ("1", "L", "LA", "La")
        if image.mode == "CMYK":
            image = _from_cmyk(image, kind, icc)
            icc = None
            notes.append("written as RGB, not CMYK")
        elif image.has_transparency_data:
            image = image.convert("LA" if grey else "RGBA")
            alpha = np.asarray(image.getchannel("A"))
        # Dropping the alpha channel by hand keeps the colours of transparent pixels.
        mode = "L" if grey else "RGB"
        values = np.asarray(image if image.mode == mode else image.convert(mode))
        pixels = stacked(values) if grey else values
    pixels = _turned(pixels, orientation)
    alpha = None if alpha is None else _turned(alpha, orientation)
    deep = None if deep is None else _turned(deep, orientation)
    if is_deep:
        values = read_deep(path)
        # TIFFs, unlike PNGs, come from OpenCV and from Pillow turned upright already.
        values = None if values is None else _turned(values, orientation)
        if values is not None and values.shape[:2] == pixels.shape[:2]:
            colour = values.shape[2] >= 3
            deep = values[:, :, :3] if colour else stacked(values[:, :, 0])
            if alpha is not None and values.shape[2] in (2, 4):
                alpha = np.ascontiguousarray(values[:, :, -1])
        else:
            notes.append("written with 8 bits per channel, not 16")
    profile_space = {"RGB ": False, "GRAY": True}.get((icc or b"")[16:20].decode("latin-1"))
    return Photo(
        pixels=pixels,
        name=name,
        kind=kind,
        grey=grey,
        alpha=alpha,
        deep=deep,
        exif=exif,
        # A profile for other values than those written does not apply.
        icc=icc if profile_space is grey else None,
        xmp=upright_xmp(_xmp(info)),
        dpi=_dpi(info),
        texts={
            key: str(text)
            for key, text in getattr(image, "text", info if kind == "PNG" else {}).items()
            if isinstance(text, str) and key not in ("XML:com.adobe.xmp", "Software")
        },
        encoding=encoding,
        notes=tuple(notes),
    )


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # broken EXIF, answered with whatever its parser ran into
        return 1
    return orientation if orientation in _TURNS else 1


def _turned(values: np.ndarray, orientation: int) -> np.ndarray:
    turn = _TURNS.get(orientation)
    return np.ascontiguousarray(turn(values) if turn else values)


def _from_cmyk(image: Image.Image, kind: str | None, icc: bytes | None) -> Image.Image:
    if kind == "JPEG" and "adobe" not in image.info:
        # Adobe stores its inks inverted and Pillow takes all CMYK JPEGs to be Adobe's.
        image = Image.fromarray(255 - np.asarray(image), "CMYK")
    if icc and icc[16:20] == b"CMYK":
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            target = ImageCms.createProfile("sRGB")
            return ImageCms.profileToProfile(image, source, target, outputMode="RGB")
        except (ImageCms.PyCMSError, OSError):
            pass  # A broken profile: the plain conversion shows the photo all the same.
    return image.convert("RGB")


def _encoding(image: Image.Image, kind: str | None, lossless: bool) -> dict[str, Any]:
    """How the file was compressed, as options of Pillow's writer."""
    if kind == "JPEG" and getattr(image, "quantization", None):
        sampling = JpegImagePlugin.get_sampling(image) if image.layers == 3 else 0
        return {
            "qtables": [image.quantization[key] for key in sorted(image.quantization)][:2],
            "subsampling": max(0, sampling),
            "progressive": bool(image.info.get("progressive")),
            "optimize": True,
        }
    if kind == "WEBP" and lossless:
        return {"lossless": True, "exact": True}
    if kind == "TIFF":
        compression = image.info.get("compression", "raw")
        compression = compression if compression in _LOSSLESS_TIFF else "tiff_adobe_deflate"
        return {"compression": None if compression == "raw" else compression}
    return {}


def _is_lossless_webp(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(12)
        while len(header := file.read(8)) == 8:
            if header[:4] in (b"VP8L", b"VP8 "):
                return header[:4] == b"VP8L"
            (length,) = struct.unpack("<I", header[4:])
            file.seek(length + length % 2, os.SEEK_CUR)
    return False


def _exif(image: Image.Image, kind: str | None) -> bytes:
    if kind != "TIFF":
        exif = image.info.get("exif")
        return exif if isinstance(exif, bytes) else b""
    try:
        whole, kept = image.getexif(), Image.Exif()
        for tag in DESCRIBING:
            if tag in whole:
                kept[tag] = whole.get_ifd(tag) if tag in tuple(ExifTags.IFD) else whole[tag]
        return kept.tobytes() if len(kept) else b""
    except Exception:  # broken, answered with whatever its parser ran into
        return b""


def _xmp(info: dict[str, Any]) -> bytes:
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp") or b""
    return xmp.encode() if isinstance(xmp, str) else bytes(xmp) if isinstance(xmp, bytes) else b""


def _dpi(info: dict[str, Any]) -> tuple[float, float] | None:
    try:
        x, y = (float(v) for v in info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    # A TIFF without resolution is said to have 1.
    return (x, y) if 1 < x < 65536 and 1 < y < 65536 else None


def _why_unidentified(path: Path) -> str:
    with open(path, "rb") as file:
        head = file.read(32)
    if not head:
        return "is empty (zero bytes)"
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1"):
        return "reading HEIC photos needs a library; install it with: pip install 'fader[heif]'"
    return "not an image, or of a kind Pillow cannot read; convert it to JPEG or PNG"
