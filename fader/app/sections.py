"""Under which heading an attribute's fader stands."""

from __future__ import annotations

_SECTIONS: dict[str, tuple[str, ...]] = {
    "hair": (
        "Bald",
        "Bangs",
        "Black_Hair",
        "Blond_Hair",
        "Brown_Hair",
        "Gray_Hair",
        "Receding_Hairline",
        "Straight_Hair",
        "Wavy_Hair",
    ),
    "expression": ("High_Cheekbones", "Mouth_Slightly_Open", "Narrow_Eyes", "Smiling"),
}
_BY_NAME = {name: section for section, names in _SECTIONS.items() for name in names}


def section_of(attribute: str) -> str:
    """``"hair"``, ``"expression"``, or ``"face"`` for what is neither."""
    return _BY_NAME.get(attribute, "face")
