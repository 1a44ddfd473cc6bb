"""Reading and writing photos: the one place where files become RGB arrays and back."""

from __future__ import annotations

import errno
import io
import os
import stat
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageCms, JpegImagePlugin, PngImagePlugin, UnidentifiedImageError

from fader.deep import read_deep, write_deep_png, write_deep_tiff
from fader.errors import DiskFullError, FaderError, UnreadableImageError
from fader.files import atomic_path
from fader.metadata import Provenance, marked_xmp, read_provenance, upright_exif, upright_xmp

ImageLike = str | os.PathLike[str] | Image.Image | np.ndarray

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

# Entries of a TIFF's directory that describe the photo and not the way its pixels are stored.
_DESCRIBING = (
    *(ExifTags.Base.ImageDescription, ExifTags.Base.Make, ExifTags.Base.Model),
    *(ExifTags.Base.Software, ExifTags.Base.DateTime, ExifTags.Base.Artist),
    *(ExifTags.Base.HostComputer, ExifTags.Base.Rating, ExifTags.Base.Copyright),
    *range(0x9C9B, 0x9CA0),  # title, comment, author, keywords and subject, as Windows writes them
    *(ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo),
)
_XMP_TAG = 700

# Compressions of TIFF that lose nothing; a photo that had another one is written as deflate.
_LOSSLESS_TIFF = {"raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "zstd"}


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo upright, and all that is to be written back with it.

    ``pixels`` is H×W×3 uint8 RGB, whatever the file holds: what faces are found and edited in.
    Beside it: is the photo ``grey``; its ``alpha`` (H, W), uint8 or uint16; its pixels at ``deep``
    16 bits (H, W, 3) uint16; metadata as the file had it (orientation set to upright); ``dpi``;
    PNG's ``texts``; and ``encoding``, options of Pillow's writer that repeat how the file was
    compressed. ``kind`` is Pillow's name of its format, None for a photo that was no file.
    ``notes`` are short phrases on what of the file is not kept.
    """

    pixels: np.ndarray
    name: str = "the image"
    kind: str | None = None
    grey: bool = False
    alpha: np.ndarray | None = None
    deep: np.ndarray | None = None
    exif: bytes = b""
    icc: bytes | None = None
    xmp: bytes = b""
    dpi: tuple[float, float] | None = None
    texts: dict[str, str] = field(default_factory=dict)
    encoding: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def provenance(self) -> Provenance | None:
        """What the file says about being edited by a trained model."""
        return read_provenance(self.xmp)

    def edited(self, pixels: np.ndarray) -> Photo:
        """The same photo with other ``pixels`` (H×W×3 uint8).

        A photo of 16 bits changes by as much as ``pixels`` did, so that where they are the same it
        keeps every bit; a grey photo stays grey.
        """
        if self.grey:
            pixels = _stacked(np.asarray(Image.fromarray(pixels).convert("L")))
        deep = self.deep
        if deep is not None:
            deep = deep.copy()
            changed = (pixels != self.pixels).any(axis=2)
            change = pixels[changed].astype(np.int32) - self.pixels[changed]
            deep[changed] = np.clip(deep[changed] + 257 * change, 0, 65535)
        return replace(self, pixels=pixels, deep=deep)

    def image(self) -> Image.Image:
        """The photo for Pillow: RGB, or RGBA with its alpha, with its ICC profile and ``dpi``."""
        image = Image.fromarray(self.pixels)
        if self.alpha is not None:
            image.putalpha(Image.fromarray(_eight_bit(self.alpha)))
        if self.icc and not self.grey:
            image.info["icc_profile"] = self.icc
        if self.dpi:
            image.info["dpi"] = self.dpi
        return image


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
        return Photo(source if source.ndim == 3 else _stacked(source))
    if isinstance(source, Image.Image):
        return _photo_of(source, "the image", None)
    path = Path(source)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            kind = "a folder" if path.is_dir() else "no regular file"
            if path.is_dir() and not os.access(path, os.R_OK | os.X_OK):
                raise UnreadableImageError(f"{path}: no permission to look into this folder")
            raise UnreadableImageError(f"{path}: is {kind}, not a photo")
        with open(path, "rb") as file:
            return _read(file, str(path))
    except UnreadableImageError:
        raise
    except FileNotFoundError:
        raise UnreadableImageError(f"{path}: there is no such file") from None
    except PermissionError:
        raise UnreadableImageError(f"{path}: no permission to read it") from None
    except OSError as error:
        raise UnreadableImageError(
            f"{path}: broken or cut short ({error.strerror or error})"
        ) from None


def read_photo(data: bytes, name: str, formats: Sequence[str] | None = None) -> Photo:
    """:func:`open_photo` for the content of a file that is called ``name``, whatever its suffix.

    ``formats`` are those that are read, by Pillow's names; all that it knows without.
    """
    return _read(io.BytesIO(data), name, formats)


def open_image(source: ImageLike) -> Image.Image:
    """A photo as an upright RGB :class:`PIL.Image.Image`; see :func:`open_photo`."""
    return Image.fromarray(open_photo(source).pixels)


def save_photo(
    photo: Photo,
    path: str | os.PathLike[str],
    *,
    quality: int | None = None,
    provenance: Provenance | None = None,
) -> None:
    """Write ``photo`` atomically, with its metadata; the format follows the suffix.

    Without ``quality`` (1..100) a JPEG that comes from a JPEG is compressed with that file's own
    tables, and other lossy files with quality 95. With ``provenance`` the file says that it was
    edited.

    Raises :class:`~fader.errors.FaderError` when that suffix or place cannot be written,
    :class:`~fader.errors.DiskFullError` when the disk is full.
    """
    path = Path(path)
    kind = _kind_to_write(path)
    _write(path, lambda temporary: _encode_to(temporary, photo, kind, quality, provenance))


def photo_bytes(
    photo: Photo,
    name: str,
    *,
    quality: int | None = None,
    provenance: Provenance | None = None,
) -> bytes:
    """What :func:`save_photo` would write to a file that is called ``name``; raises the same."""
    kind = _kind_to_write(Path(name))
    buffer = io.BytesIO()
    with _reasons(Path(name)):
        _encode(buffer, photo, kind, quality, provenance)
    return buffer.getvalue()


def _encode_to(path: Path, photo: Photo, *how: Any) -> None:
    with open(path, "wb") as file:
        _encode(file, photo, *how)


def _encode(
    file: BinaryIO, photo: Photo, kind: str, quality: int | None, provenance: Provenance | None
) -> None:
    xmp, software = photo.xmp, None
    if provenance:
        xmp, software = marked_xmp(photo.xmp, provenance), str(provenance)
    exif = upright_exif(photo.exif, software)
    options: dict[str, Any] = {"icc_profile": photo.icc or None}
    if photo.dpi:
        options["dpi"] = photo.dpi
    if kind == photo.kind:
        options |= photo.encoding
    if kind in ("JPEG", "WEBP", "AVIF", "HEIF") and not options.get("lossless"):
        if quality or not options.get("qtables"):
            options |= {"quality": quality or 95}
            options.pop("qtables", None)
        if kind == "JPEG":
            options.setdefault("subsampling", 0)
    alpha, deep = photo.alpha, photo.deep
    if kind in ("PNG", "TIFF") and deep is not None:
        depth: np.ndarray | None = deep[:, :, :1] if photo.grey else deep
        if alpha is not None:
            factor = np.uint16(1 if alpha.dtype == np.uint16 else 257)
            depth = np.dstack([depth, alpha * factor])
    else:
        depth = None

    if kind == "PNG":
        options["pnginfo"] = _png_texts(photo, xmp, provenance)
        options["exif"] = exif or None
    elif kind == "TIFF":
        options["exif"] = _tiff_directory(exif, xmp)
    elif kind in ("JPEG", "WEBP", "AVIF", "HEIF"):
        # An APP1 segment holds 64 kB; what does not fit there any more goes without our additions.
        limit = 65_000 if kind == "JPEG" else 2**31
        options["exif"] = exif if len(exif) < limit else upright_exif(b"", software)
        xmp = xmp if len(xmp) < limit or not provenance else marked_xmp(b"", provenance)
        options["xmp"] = xmp if len(xmp) < limit else b""

    if depth is not None:
        (write_deep_png if kind == "PNG" else write_deep_tiff)(file, depth, options)
        return
    _for_writing(photo, kind).save(file, kind, **_given(options))


def save_image(image: Image.Image, path: str | os.PathLike[str], **options: Any) -> None:
    """Write ``image`` atomically; the format follows the suffix, JPEG at quality 95 by default.

    Raises what :func:`save_photo` raises.
    """
    path = Path(path)
    if _kind_to_write(path) == "JPEG":
        options = {"quality": 95, "subsampling": 0, **options}
    _write(path, lambda temporary: image.save(temporary, **options))


def copy_file(source: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Write a copy of the file ``source`` atomically; raises what :func:`save_photo` raises."""
    data = Path(source).read_bytes()
    _write(Path(path), lambda temporary: temporary.write_bytes(data))


def can_write(suffix: str) -> bool:
    """Whether a file with this suffix can be written."""
    register_heif()
    return Image.registered_extensions().get(suffix.lower()) in Image.SAVE


def kind_of(suffix: str) -> str | None:
    """Pillow's name of the format that has this suffix, such as ``"JPEG"``; None for none."""
    register_heif()
    return Image.registered_extensions().get(suffix.lower())


# Reading.


def _read(file: BinaryIO, name: str, formats: Sequence[str] | None = None) -> Photo:
    try:
        register_heif()
        if formats is not None:
            Image.init()
            formats = [kind for kind in formats if kind in Image.OPEN]
        with Image.open(file, formats=formats) as image:
            return _photo_of(image, name, file)
    except UnreadableImageError:
        raise
    except UnidentifiedImageError:
        raise UnreadableImageError(f"{name}: {_why_unidentified(file)}") from None
    except Image.DecompressionBombError:
        raise UnreadableImageError(
            f"{name}: refused, it claims to have more than "
            f"{2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} megapixels"
        ) from None
    except MemoryError:
        raise UnreadableImageError(f"{name}: too large for this machine's memory") from None
    except Exception as error:
        # Decoders answer broken data with any exception there is.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableImageError(f"{name}: broken or cut short ({reason})") from None


def _photo_of(image: Image.Image, name: str, file: BinaryIO | None) -> Photo:
    kind = "JPEG" if image.format == "MPO" else image.format
    if 0 in image.size:
        raise UnreadableImageError(f"{name}: has no pixels, its size is {image.size}")
    notes = []
    if (frames := getattr(image, "n_frames", 1)) > 1:
        notes.append(f"only the first of its {frames} frames or pages")
    is_deep = file is not None and ";16" in str(image.tile) and not image.mode.startswith("I")
    lossless = file is not None and kind == "WEBP" and _is_lossless_webp(file)
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
        deep = _stacked(values.astype(np.uint16))
        pixels, grey = _eight_bit(deep), True
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
        pixels = _stacked(values) if grey else values
    pixels = _turned(pixels, orientation)
    alpha = None if alpha is None else _turned(alpha, orientation)
    deep = None if deep is None else _turned(deep, orientation)
    if is_deep:
        values = read_deep(_whole(file))
        # TIFFs, unlike PNGs, come from OpenCV and from Pillow turned upright already.
        values = None if values is None else _turned(values, orientation)
        if values is not None and values.shape[:2] == pixels.shape[:2]:
            colour = values.shape[2] >= 3
            deep = values[:, :, :3] if colour else _stacked(values[:, :, 0])
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


def _stacked(grey: np.ndarray) -> np.ndarray:
    """(H, W) → (H, W, 3)."""
    return np.repeat(grey[:, :, None], 3, axis=2)


def _eight_bit(values: np.ndarray) -> np.ndarray:
    return (values >> 8).astype(np.uint8) if values.dtype == np.uint16 else values


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


def _is_lossless_webp(file: BinaryIO) -> bool:
    begin = file.tell()
    try:
        file.seek(12)
        while len(header := file.read(8)) == 8:
            if header[:4] in (b"VP8L", b"VP8 "):
                return header[:4] == b"VP8L"
            (length,) = struct.unpack("<I", header[4:])
            file.seek(length + length % 2, os.SEEK_CUR)
        return False
    finally:
        file.seek(begin)


def _whole(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()


def _exif(image: Image.Image, kind: str | None) -> bytes:
    if kind != "TIFF":
        exif = image.info.get("exif")
        return exif if isinstance(exif, bytes) else b""
    try:
        whole, kept = image.getexif(), Image.Exif()
        for tag in _DESCRIBING:
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


@cache
def register_heif() -> None:
    """Let Pillow read and write HEIC, if the library for it is installed."""
    try:
        import pillow_heif
    except ImportError:
        return
    pillow_heif.register_heif_opener()


def _why_unidentified(file: BinaryIO) -> str:
    head = _whole(file)[:32]
    if not head:
        return "is empty (zero bytes)"
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1"):
        return "reading HEIC photos needs a library; install it with: pip install 'fader[heif]'"
    return "not an image, or of a kind Pillow cannot read; convert it to JPEG or PNG"


# Writing.


def _kind_to_write(path: Path) -> str:
    suffix = path.suffix.lower()
    if not can_write(suffix):
        raise FaderError(
            f"{path}: cannot write {suffix or 'a file without suffix'!s}; use .png or .jpg"
        )
    return Image.registered_extensions()[suffix]


def _write(path: Path, encode: Callable[[Path], Any]) -> None:
    with _reasons(path), atomic_path(path) as temporary:
        encode(temporary)


@contextmanager
def _reasons(path: Path) -> Iterator[None]:
    """Failures of what writes ``path``, in words."""
    try:
        yield
    except (OSError, ValueError, TypeError, AttributeError) as error:
        # The last two are Pillow's answer to damaged EXIF that is to go into a TIFF.
        reason = getattr(error, "strerror", None) or error
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(f"{path}: the disk is full; no half of it was left") from None
        raise FaderError(f"{path}: could not be written ({reason})") from None


def _for_writing(photo: Photo, kind: str) -> Image.Image:
    """The photo in the mode that ``kind`` can hold and the source had."""
    image = Image.fromarray(photo.pixels[:, :, 0] if photo.grey else photo.pixels)
    if photo.alpha is None or kind == "BMP":
        return image
    alpha = Image.fromarray(_eight_bit(photo.alpha))
    if kind == "JPEG":  # has no alpha: what is transparent is seen on white, as in most viewers
        white = Image.new(image.mode, image.size, "white")
        white.paste(image, mask=alpha)
        return white
    if kind not in ("PNG", "TIFF"):
        image = image.convert("RGB")
    image.putalpha(alpha)
    return image


def _png_texts(photo: Photo, xmp: bytes, provenance: Provenance | None) -> PngImagePlugin.PngInfo:
    texts = PngImagePlugin.PngInfo()
    for key, text in photo.texts.items():
        if 0 < len(key) < 80 and key.isascii() and key.isprintable():
            texts.add_itxt(key, text) if not text.isascii() else texts.add_text(key, text)
    if provenance:
        texts.add_text("Software", str(provenance))
    if xmp:
        texts.add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8", "replace"))
    return texts


def _tiff_directory(exif: bytes, xmp: bytes) -> Image.Exif:
    directory = Image.Exif()
    if exif:
        directory.load(exif)
    for tag in list(directory):
        if tag not in _DESCRIBING:
            del directory[tag]
    if xmp:
        directory[_XMP_TAG] = xmp
    return directory


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value is not None}
