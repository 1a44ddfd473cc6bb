"""What photos are called: the one list of suffixes for all that look for them in a folder."""

from __future__ import annotations

#: Suffixes taken for photos when a folder or an archive is searched, in small letters. A file that
#: is named is read whatever it is called.
IMAGE_SUFFIXES = frozenset(
    suffix
    for kind in (
        ".jpg .jpeg .jpe .jfif .jif .mpo",
        ".png .apng .gif .webp .bmp .dib .tif .tiff",
        ".avif .avifs .heic .heics .heif .heifs .hif",
        ".jp2 .j2k .j2c .jpc .jpf .jpx",
        ".tga .pcx .psd .sgi .ppm .pgm .pbm .pnm",
    )
    for suffix in kind.split()
)
