"""Photos as files: read upright with all that belongs to them, and written back with it."""

from fader.photo.formats import IMAGE_SUFFIXES, can_write, kind_of
from fader.photo.metadata import Provenance
from fader.photo.photo import ImageLike, Photo
from fader.photo.read import open_image, open_photo, open_reduced, photo_file, read_photo
from fader.photo.write import copy_file, photo_bytes, save_image, save_photo, write_bytes

__all__ = [
    "IMAGE_SUFFIXES",
    "ImageLike",
    "Photo",
    "Provenance",
    "can_write",
    "copy_file",
    "kind_of",
    "open_image",
    "open_photo",
    "open_reduced",
    "photo_bytes",
    "photo_file",
    "read_photo",
    "save_image",
    "save_photo",
    "write_bytes",
]
