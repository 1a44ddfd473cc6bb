"""How numbers are said."""

from __future__ import annotations


def plural(n: int, one: str, many: str = "") -> str:
    """``1 photo``, ``2 photos``; ``many`` is what more than one are where an s does not make it."""
    return f"{n} {one if n == 1 else many or one + 's'}"
