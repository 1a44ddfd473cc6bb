"""Errors whose message is written for the user: one sentence that names the input and the mend.

The command line prints the message alone and exits with 1; anything that is not a
:class:`FaderError` is a bug and keeps its traceback.
"""


class FaderError(Exception):
    """Work that failed for a reason the user can act on."""


class UnreadableImageError(FaderError):
    """A file that is not an image, or a broken one."""


class DiskFullError(FaderError):
    """There is no room left to write a file."""


class NotFiniteError(FaderError):
    """What a network makes are no numbers: its weights are damaged, or its training diverged."""


class NoFaceError(FaderError):
    """A readable photo in which no face (or not the asked one) was found. ``found`` is the number
    of faces that are there, for all that."""

    found: int = 0


class UnknownAttributeError(FaderError, ValueError):
    """An attribute name outside CelebA's forty, or one the model was not trained on."""
