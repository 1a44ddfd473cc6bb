"""Where an attribute is: the part of an aligned face that an edit of it may change.

A decoder told that hair is gray has seen that gray hair mostly comes with old eyes, and draws those
too; what it adds far from the hair is at best another attribute and often a stain. Faces are
aligned to one template (:mod:`fader.faces.align`), so where hair, eyes and mouth are is known, and
the decoding with other attributes is taken only there:

    D(E(x), y) + r · (D(E(x), y′) − D(E(x), y))

with r the largest region of the attributes that differ. Attributes of the whole face, and those
that may be anywhere, have all of it. What adds nothing to a head's outline stays within it
(:mod:`fader.models.format1.silhouette`), so that hair changes and the background does not. Some
attributes have little colour of their own, and hardly darken skin: if younger skin comes out
green, or with dark jaws, that is the decoder's doing, so theirs is let through in part. Hair
that only gets another colour keeps its strands: what changes is smooth within it, blond is not
olive, and hair that turns gray keeps half of the colour it had. Other hair keeps its hue, also
where it grows. Skin that comes out from under hair has the colour of the forehead, and glasses
that are put on are gray frames rather than tinted lenses. Glasses that stay on are mostly left
as they are, and so are bare foreheads when hair changes and bald heads that stay bald. Younger
skin has fewer lines, and gets no lighter in one place than in another.

Beyond 0..1 nothing more is asked of decoders (but to take hair away): the picture goes on as it did
from the one end to the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fader.models.format1 import silhouette as silhouettes
from fader.models.format1.colours import (
    LIT,
    as_bright,
    as_colourful,
    box_mean,
    brightness,
    mean_colour,
)

# Two values this far apart differ in full; nearer, by their distance in these. Labels of a face and
# the values asked for it differ a little in everything.
_DIFFERENT = 0.25

# Where each part is, in widths of the crop from its upper left corner (the eyes are at
# (0.39, 0.52) and (0.61, 0.52), the mouth's corners at y = 0.75): centre, half axes, the power of
# the superellipse, and how far its border fades to either side, in half axes.
_PARTS: dict[str, tuple[str, tuple[tuple[float, ...], ...]]] = {
    "hair": ("outside", ((0.503, 0.745, 0.19, 0.255, 4, 0.13),)),
    "eyes": ("inside", ((0.503, 0.50, 0.25, 0.12, 4, 0.2),)),
    "glasses": ("inside", ((0.503, 0.53, 0.40, 0.15, 4, 0.25),)),
    "nose": ("inside", ((0.50, 0.60, 0.13, 0.16, 2, 0.25),)),
    "mouth": ("inside", ((0.50, 0.80, 0.23, 0.22, 2, 0.25),)),
    "cheeks": ("inside", ((0.50, 0.76, 0.27, 0.24, 2, 0.25),)),
    "skin": (
        "inside",
        ((0.503, 0.655, 0.23, 0.30, 2.5, 0.15), (0.503, 0.76, 0.31, 0.24, 2.5, 0.15)),
    ),
    "beard": ("inside", ((0.50, 0.80, 0.29, 0.27, 2, 0.2),)),
    "head": ("inside", ((0.503, 0.52, 0.38, 0.47, 3, 0.2),)),
    "above the ears": ("inside", ((0.50, 0.20, 1.0, 0.40, 6, 0.2),)),
    "forehead": ("inside", ((0.503, 0.37, 0.19, 0.10, 2, 0.3),)),
    "near the head": ("inside", ((0.503, 0.56, 0.40, 0.52, 3, 0.15),)),
    "around the mouth": ("outside", ((0.50, 0.765, 0.15, 0.075, 2, 0.3),)),
    "around the eyes": (
        "outside",
        ((0.392, 0.517, 0.065, 0.036, 2, 0.4), (0.614, 0.518, 0.065, 0.036, 2, 0.4)),
    ),
}
_PARTS["dyed hair"] = _PARTS["skull"] = _PARTS["hair"]
_PARTS["but for the eyes"] = _PARTS["around the eyes"]

# How much of a change of hair the face below it takes, but for the eyes. Brows and stubble are
# hair, too, and with none of it hair ends in a seam.
_FACE_OF = {"hair": 0.39, "skull": 0.25, "dyed hair": 0.25}

# How much of a change of "but for the eyes" these take: a man is seen by his lashes, too, but with
# all of it irises pale.
_EYES_OF_MAN = 0.7

# How much of a change of the head its mouth takes.
_MOUTH_OF_HEAD = 0.3

_PART_OF: dict[str, str] = {
    "5_o_Clock_Shadow": "beard",
    "Arched_Eyebrows": "eyes",
    "Bags_Under_Eyes": "eyes",
    "Bald": "skull",
    "Bangs": "hair",
    "Big_Lips": "mouth",
    "Big_Nose": "nose",
    "Black_Hair": "hair",
    "Blond_Hair": "hair",
    "Brown_Hair": "hair",
    "Bushy_Eyebrows": "eyes",
    "Eyeglasses": "glasses",
    "Goatee": "beard",
    "Gray_Hair": "hair",
    "High_Cheekbones": "cheeks",
    "Mouth_Slightly_Open": "mouth",
    "Mustache": "beard",
    "Narrow_Eyes": "eyes",
    "No_Beard": "beard",
    "Pointy_Nose": "nose",
    "Receding_Hairline": "skull",
    "Rosy_Cheeks": "cheeks",
    "Smiling": "cheeks",
    "Straight_Hair": "hair",
    "Wavy_Hair": "hair",
    "Wearing_Hat": "hair",
    "Wearing_Lipstick": "mouth",
}

# Parts with nothing of the hair.
_OF_THE_FACE = ("eyes", "glasses", "nose", "mouth", "cheeks", "beard")

# Parts for one direction only: younger eyes differ in the skin around them, and in them decoders
# paint shadows, and mouths pale; older ones have other lids. What is behind a head that gets
# younger stays. Skin is not blond.
_PART_OF_RISING: dict[str, str] = {
    "Young": "head",
    "Blond_Hair": "dyed hair",
    "Male": "but for the eyes",
}

# What stays within the person's outline. Hair that grows might not, but what decoders add beyond
# the outline is haze.
_WITHIN_PERSON = (
    "Bald",
    "Black_Hair",
    "Blond_Hair",
    "Brown_Hair",
    "Gray_Hair",
    "High_Cheekbones",
    "Male",
    "Receding_Hairline",
    "Young",
)

# What is spared, by direction, where hair could be and is none, such as foreheads, and how much of
# it: it could not be dyed, and on it decoders paint bands. A tint of the face is part of looking
# gray.
_SPARING_BARE = {
    ("Black_Hair", 1): 0.85,
    ("Blond_Hair", 1): 0.85,
    ("Brown_Hair", 1): 0.85,
    ("Gray_Hair", 1): 0.25,
    ("Male", 1): 0.25,
    ("Young", 1): 0.65,
}

# What is spared of hair, by direction, and how much of it: decoders do not cut it, they stain it,
# and beside glasses they paint skin on it.
_SPARING_HAIR = {("Male", 1): 0.75, ("Eyeglasses", 1): 0.7}

# What has little colour of its own, by direction (up is 1), and how much of it is let through: with
# none, younger faces are not seen to be younger (hair was gray), nor women by their lips.
_COLOUR = {
    ("Young", 0): 0.35,
    ("Young", 1): 0.3,
    ("High_Cheekbones", 0): 0.5,
    ("High_Cheekbones", 1): 0.3,
    ("Smiling", 0): 0.6,
    ("Smiling", 1): 0.5,
    ("Mouth_Slightly_Open", 1): 0.6,
    ("No_Beard", 0): 0.5,
    ("Eyeglasses", 0): 0.5,
    ("Eyeglasses", 1): 0.1,
    ("Male", 0): 0.3,
    ("Male", 1): 0.5,
}

# What does not darken skin, by direction, and how much of that is let through: a younger man is
# seen by his dark brows and stubble, too, but more of it is stains.
_DARKNESS = {
    ("Young", 1): 0.62,
    ("High_Cheekbones", 1): 0.3,
    ("Gray_Hair", 1): 0.65,
    ("Male", 0): 0.7,
}

# How much darker (in -1..1) than it was skin is where what lightens it again has the skin's hue: of
# light added to what is darker, cheeks got gray.
_SHADE = 0.1

# What takes colour away when it rises (hair that turns gray came out yellow, or pink), how much of
# the hair's own colour it leaves, and how much skin beside it keeps its hue.
_GREYING, _COLOUR_OF_GRAY, _HUE_BESIDE_GRAY = "Gray_Hair", 0.5, 0.5

# The hue (in 0..1) of hair that was gray, and how much of it it has: decoders make it plum, or red,
# and of yellowish white olive.
_DARK_HAIR, _DARK_HUE = (0.30, 0.21, 0.15), 0.7

# What leaves hair its hue, by direction, and how much of it: darkened gray hair came out blue, and
# that of men made women red. What also draws hair over foreheads. How much darker or lighter (in
# -1..1) a strand is than another that was in its place; the least share of hair to speak of; half
# the width of a lock, in widths of the crop.
_HUED = {("Male", 0): 1.0, ("Male", 1): 1.0, ("Young", 0): 0.7, ("Young", 1): 1.0}
_GROWING = (("Male", 0),)
_ANOTHER_STRAND, _HAIRY, _LOCK = 0.3, 0.02, 1 / 32

# What gives hair another colour and leaves its strands where they are, by direction, and the part
# where it does no more than that (None: everywhere): decoders weave strands of their own into it.
_DYES = ("Black", "Blond", "Brown", "Gray")
_TINTS: dict[tuple[str, int], str | None] = {
    **{(f"{name}_Hair", up): None for name in _DYES for up in (0, 1)},
    ("Young", 1): "hair",
}

# Over how much of it a tint is smooth (half a window, in widths of the crop), and the variance of
# brightness (in -1..1) that is an edge of hair rather than a strand of it (guided filter, He et al.
# 2013, "Guided Image Filtering").
_TINT_WINDOW, _TINT_EDGE = 3 / 128, 0.001

# What takes lines out of skin, by direction, and how much of them: decoders leave their wrinkles to
# people made younger or women, and shreds of frames where glasses were. Over how much (as above) it
# is smooth then, and the variance of an edge.
_SMOOTHING = {("Young", 1): 1.2, ("Male", 0): 0.6, ("Eyeglasses", 0): 0.6}
_LINE_WINDOW, _LINE_EDGE = 4 / 128, 0.04

# What makes skin no lighter in one place than in another, by direction, and how much of that is
# taken back: decoders make old men younger with light cheeks. Over how much (as above) the change
# is compared with all of it.
_EVENING = {("Young", 1): 0.5}
_EVEN_WINDOW = 6 / 128

# What is smooth on skin, by direction, and over how much (as above): hair that turns blond or gray
# specks cheeks.
_SMOOTH_ON_SKIN = {("Blond_Hair", 1): 2 / 128, ("Gray_Hair", 1): 1 / 128}

# What makes hair yellow when it rises, the colours that light and dark strands have then (in 0..1),
# and how bright light ones are: decoders, told to make dark hair blond, make it olive, orange, or
# purple, and one hue for all is olive where it is dark.
_YELLOWING, _BLOND, _DARK_BLOND = "Blond_Hair", (0.86, 0.70, 0.44), (0.40, 0.27, 0.16)
_LIGHT = 0.7

# What lays skin bare where hair was, when it rises: it has the forehead's colour, and so have
# foreheads for the larger part. How much brighter (in -1..1) than foreheads it may be, and how much
# of what is brighter yet is taken back. Decoders make it yellow and white.
_BARING, _BARE_HUE, _BARE_LIGHT, _GLARE_TAKEN = "Bald", 0.8, 0.15, 0.75

# How much less colourful the hair is that grows on bald heads: decoders draw it green.
_GROWN_GRAY = 0.7

# What draws frames when it rises, over how much of the crop what it darkens is a tinted lens rather
# than a frame (half a window, in widths of it), and how much of that is taken back.
_FRAMING, _LENS_WINDOW, _LENS_TAKEN = "Eyeglasses", 1 / 64, 0.75

# How much less colourful frames are than the skin beneath, where they are this much darker (in
# -1..1) than it, or than lenses, and how much darker yet they get: with the lenses, decoders'
# frames pale.
_FRAME_GRAY, _DARK_FRAME, _FRAME_DARKER = 0.35, 0.2, 0.4

# How much of a change is spared where something is that stays: with all of it, wearers of glasses
# made younger are not seen to be younger. On bald heads decoders paint bands and haze in the place
# of hair.
_SPARED = {"Eyeglasses": ("glasses", 0.4), "Bald": ("hair", 0.7)}

# What makes faces shine that need not: of skin that gets brighter than it was, and than bare skin
# may be, as much is taken back as of what is laid bare.
_SHINING = (("Male", 0), ("Young", 1))

#: How much of the way from one end of the range to the other a unit beyond it adds.
EXAGGERATION = 0.5

# How much of what that darkens is let through, by direction: faces that come out with a smile have
# dark cheeks, those without one a black mouth, and white hair dyed blond is darker.
_SHADE_BEYOND = {
    ("Blond_Hair", 1): 0.0,
    ("Gray_Hair", 1): 0.0,
    ("High_Cheekbones", 0): 0.3,
    ("High_Cheekbones", 1): 0.1,
    ("Smiling", 0): 0.3,
    ("Smiling", 1): 0.3,
}

# How much further hair goes, by direction of a dye, and what is smooth on skin (over how much of
# the crop, as above): whiter yet, gray hair is taken for a hat, and what it has of faces is a
# lattice.
_DYED_BEYOND = {("Gray_Hair", 1): (0.5, 2.0), ("Blond_Hair", 1): (1.0, 1.0)}
_TINT_BEYOND = 4 / 128

# What ends rather than goes on, so that decoders are told more of it: they take away what they left
# of the hair.
_ENDING = (("Bald", 1),)

# What goes in part along with another, when that falls and it is not set itself: a laughing mouth
# that does not laugh, but is as open, comes out round, with shreds of teeth.
_ALONG = {"Smiling": ("Mouth_Slightly_Open", 0.3)}


class Regions(nn.Module):
    """Where each of ``attributes`` is in aligned faces of ``size`` pixels.

    ``maps`` is n×2×size×size in 0..1: the first of two maps is for moves down, the second for moves
    up; 1 is inside, borders are soft. An attribute that is not known is everywhere. ``groups``
    (3×n) says which are decoded apart: what has nothing of the hair, its colours, and the rest.
    """

    maps: Tensor
    glasses: Tensor
    hair: Tensor
    bare: Tensor
    skin: Tensor
    shining: Tensor
    smooth: Tensor
    groups: Tensor
    ending: Tensor

    def __init__(self, attributes: Sequence[str], size: int) -> None:
        super().__init__()
        parts = _PART_OF, {**_PART_OF, **_PART_OF_RISING}
        maps = [torch.stack([_part(part.get(name), size) for part in parts]) for name in attributes]
        maps = torch.stack(maps) if maps else torch.ones(0, 2, size, size)
        self.register_buffer("maps", maps, persistent=False)
        self.register_buffer("glasses", _part("glasses", size), persistent=False)
        # Without the face's share: to the judge, its tint is part of looking gray.
        hair = (_part("hair", size) - _FACE_OF["hair"]) / (1 - _FACE_OF["hair"])
        self.register_buffer("hair", hair.clamp(min=0), persistent=False)
        self.register_buffer("skin", _part("skin", size), persistent=False)
        shining = self.skin * _part("around the eyes", size)
        self.register_buffer("shining", shining, persistent=False)
        smooth = shining * _part("around the mouth", size)
        self.register_buffer("smooth", smooth, persistent=False)
        bare = self.shining * _part("above the ears", size)
        bare = bare * _part("forehead", size).clamp(min=0.1)
        self.register_buffer("bare", bare, persistent=False)
        ending = torch.tensor([[(a, up) in _ENDING for up in (0, 1)] for a in attributes])
        self.register_buffer("ending", ending.reshape(-1, 2).bool(), persistent=False)
        self._within = {attributes.index(a) for a in _WITHIN_PERSON if a in attributes}
        self._dyes = {attributes.index(f"{a}_Hair") for a in _DYES if f"{a}_Hair" in attributes}
        inner = [_PART_OF.get(name) in _OF_THE_FACE for name in attributes]
        dyes = [column in self._dyes for column in range(len(attributes))]
        groups = torch.tensor([inner, dyes], dtype=torch.bool).reshape(2, -1)
        groups = torch.cat([groups, ~groups.any(dim=0, keepdim=True)])
        self.register_buffer("groups", groups, persistent=False)

        def columns(shares: dict[tuple[str, int], Any]) -> dict[tuple[int, int], Any]:
            return {
                (attributes.index(a), up): v for (a, up), v in shares.items() if a in attributes
            }

        self._colour, self._darkness = columns(_COLOUR), columns(_DARKNESS)
        self._bare, self._hair = columns(_SPARING_BARE), columns(_SPARING_HAIR)
        self._tints = columns(_TINTS)
        self._shade_beyond, self._dyed_beyond = columns(_SHADE_BEYOND), columns(_DYED_BEYOND)
        self._smoothing = columns(_SMOOTHING)
        self._evening = columns(_EVENING)
        self._smooth_on_skin = columns(_SMOOTH_ON_SKIN)
        self._shining = columns(dict.fromkeys(_SHINING))
        self._hued = columns(_HUED)
        self._growing = columns(dict.fromkeys(_GROWING))
        outlined = {
            column for column, _ in [*self._bare, *self._hair, *self._hued, *self._smoothing]
        }
        self._outlined = sorted(self._within | outlined)
        self._greying = attributes.index(_GREYING) if _GREYING in attributes else None
        self._framing = attributes.index(_FRAMING) if _FRAMING in attributes else None
        self._baring = attributes.index(_BARING) if _BARING in attributes else None
        self._yellowing = attributes.index(_YELLOWING) if _YELLOWING in attributes else None
        self._along = [
            (attributes.index(a), attributes.index(b), share)
            for a, (b, share) in _ALONG.items()
            if a in attributes and b in attributes
        ]
        self._staying = [
            (attributes.index(a), part, share)
            for a, (part, share) in _SPARED.items()
            if a in attributes
        ]

    @property
    def rules(self) -> tuple[object, ...]:
        """What decides, beside the maps, how much of a change is let through."""
        kept = self._colour, self._darkness, _SHADE, self._greying, _COLOUR_OF_GRAY, _SPARED
        spared = self._bare, self._hair
        grays = _HUE_BESIDE_GRAY, _DARK_HAIR, _DARK_HUE
        hues = self._hued, self._growing, _ANOTHER_STRAND, _HAIRY, _LOCK, LIT
        tints = self._tints, _TINT_WINDOW, _TINT_EDGE, _BLOND, _DARK_BLOND, _LIGHT
        lenses = _LENS_WINDOW, _LENS_TAKEN, _FRAME_GRAY, _DARK_FRAME, _FRAME_DARKER
        skin = _BARE_HUE, _BARE_LIGHT, _GLARE_TAKEN, _GROWN_GRAY, self._shining
        lines = self._smoothing, _LINE_WINDOW, _LINE_EDGE
        even = self._evening, _EVEN_WINDOW, self._smooth_on_skin
        further = EXAGGERATION, self._shade_beyond, self._dyed_beyond, _TINT_BEYOND, self._along
        outlines = sorted(self._within), silhouettes.fingerprint()
        return *kept, grays, hues, spared, tints, lenses, skin, lines, even, further, *outlines

    def forward(self, changed: Tensor, decoded: Tensor, asked: Tensor, own: Tensor) -> Tensor:
        """M decodings (M×3×S×S in [-1, 1]) ``changed`` with values ``asked`` (M×n), where these are
        not the ``own`` values N×n of the N faces; elsewhere ``decoded``, N×3×S×S. M ≥ N; row m is
        of face m mod N."""
        faces, rows = decoded, torch.arange(len(asked), device=asked.device) % len(own)
        decoded, own = faces[rows], own[rows]
        changed = changed.to(decoded.dtype)
        amounts = _amounts(asked, own)
        person = hair = decoded.new_ones(1)
        if amounts[:, self._outlined].any():
            person, hair = silhouettes.silhouette(faces)[rows].split(1, dim=1)
        # Hair, and where it could be; locks over the face, too.
        dyed = torch.maximum(self.hair, hair)
        tinted = self.tinted(asked, own)
        changed = self._with_smooth_skin(changed, decoded, amounts, hair)
        if tinted is not None:
            # On the face decoders draw what goes with the colour, such as lines with gray hair.
            tinted = (tinted * dyed).to(decoded.dtype)
            changed = torch.lerp(changed, _as_strands(decoded, changed, hair), tinted)
        coloured, darker = amounts.clone(), amounts.clone()
        for reduced, shares in ((coloured, self._colour), (darker, self._darkness)):
            for (column, up), share in shares.items():
                reduced[:, column, up] *= share
        for column, along, _ in self._along:
            # What goes along is as colourful as that: muzzles came out yellow.
            less = 1 - self._colour.get((column, 0), 1.0)
            coloured[:, along, 0] *= 1 - less * amounts[:, column, 0]
        regions = self._regions(person, hair, amounts)
        where, colour, dark = (self._largest(some, regions) for some in (amounts, coloured, darker))
        for column, part, share in self._staying:
            had = torch.minimum(own, asked)[:, column]
            stays = 1 - amounts[:, column].amax(dim=1)
            spared = ((had - 0.5) / _DIFFERENT).clamp(0, 1) * stays
            spared = share * spared[:, None, None, None] * getattr(self, part)
            where, colour, dark = (some * (1 - spared) for some in (where, colour, dark))
        where, colour, dark = (part.to(changed.dtype) for part in (where, colour, dark))
        frames = None
        if (framed := self._moved(amounts, self._framing)) is not None:
            framed = (framed * self.glasses).to(changed.dtype)
            lens, frame = _glasses(decoded, changed)
            changed = changed + framed * (_LENS_TAKEN * lens - _FRAME_DARKER * frame)
            frames = framed * (frame / _DARK_FRAME).clamp(max=1)
        if (colour < where).any():
            # Of what changes here, the part that changes in colour, too.
            share = colour / where.clamp(min=1e-3)
            changed = torch.lerp(as_bright(decoded, changed), changed, share)
        if frames is not None:
            grey = brightness(changed).expand_as(changed)
            changed = torch.lerp(changed, grey, _FRAME_GRAY * frames)
        changed = self._turned_gray(changed, decoded, amounts, hair)
        changed = self._with_hair_s_hue(changed, decoded, amounts, person, hair)
        if (dark_haired := self._moved(amounts, self._greying, 0)) is not None:
            hue = changed.new_tensor(_DARK_HAIR)[:, None, None].expand_as(changed) * 2 - 1
            there = self._grown(changed, decoded, person, hair)
            share = (_DARK_HUE * dark_haired * there).to(changed.dtype)
            changed = torch.lerp(changed, as_bright(hue, changed), share)
        if (blond := self._moved(amounts, self._yellowing)) is not None:
            changed = torch.lerp(changed, _blond(changed), (blond * hair).to(changed.dtype))
        if (grown := self._moved(amounts, self._baring, 0)) is not None:
            strands = _darker(decoded, changed).clamp(min=0) * self.hair * person
            share = (_GROWN_GRAY * grown * strands).to(changed.dtype)
            changed = torch.lerp(changed, brightness(changed).expand_as(changed), share)
        changed = self._laid_bare(changed, decoded, amounts, person, hair)
        # Once, even for a man made a young woman: of more than all of a line a light one is left.
        if (share := self._most(amounts, self._smoothing)) is not None:
            skin = share * self.smooth * (1 - hair)
            changed = changed - (skin * _lines(decoded)).to(changed.dtype)
        changed = self._even(changed, decoded, amounts, hair)
        changed = self._without_shine(changed, decoded, amounts, hair)
        if (dark < where).any():
            kept = (1 - dark / where.clamp(min=1e-3)) * self.skin.to(changed.dtype)
            darkened = (brightness(decoded) - brightness(changed)).clamp(min=0)
            changed = changed + kept * darkened
            shade = kept * (darkened / _SHADE).clamp(max=1)
            changed = torch.lerp(changed, as_bright(decoded, changed), shade)
        return torch.lerp(decoded, changed, where)

    def within(self, y: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        """What decoders are to be told (M×n) of faces with ``own`` values N×n, where ``y`` are
        wanted, and how far beyond that :meth:`exaggerated` is to go: all that is beyond 0..1, but
        for what ends there, which they are told as far as a face has it not."""
        own = own[torch.arange(len(y), device=y.device) % len(own)]
        inside = y.clamp(0, 1)
        past, below = y - inside, y < 0
        ending = torch.where(below, *self.ending.unbind(1))
        lacking = torch.where(below, own, 1 - own).clamp(0, 1)
        told = torch.where(ending, inside + lacking * past, inside)
        return told, past.masked_fill(ending, 0)

    def eased(self, y: Tensor, own: Tensor, held: Tensor | None = None) -> Tensor:
        """Values M×n to ask for, of faces with ``own`` values N×n, when ``y`` are wanted: what goes
        along with an attribute that falls does so, unless it is to change, too, or to stay
        (``held``, N×n)."""
        rows = torch.arange(len(y), device=y.device) % len(own)
        own, eased = own[rows], y.clone()
        for column, along, share in self._along:
            less = (own[:, column] - y[:, column]).clamp(0, 1)
            free = y[:, along] == own[:, along]
            if held is not None:
                free &= ~held[rows, along]
            eased[:, along] -= torch.where(free, share * less * own[:, along], 0.0)
        return eased

    def exaggerated(self, end: Tensor, other: Tensor, decoded: Tensor, past: Tensor) -> Tensor:
        """Faces M×3×S×S in [-1, 1] with values ``past`` the range 0..1 (M×n): the way from
        ``other``, those with the values' opposite ends, to ``end`` goes on, for
        :data:`EXAGGERATION` of it per unit. ``decoded`` are the faces as they were.

        Told as much, decoders weave lattices; and of the face, dyes take but a smooth tint.
        """
        units = torch.stack([-past, past], dim=2).clamp(min=0)
        hair = silhouettes.silhouette(decoded)[:, 1:]
        further = self.maps.new_zeros(len(past), 1, *self.maps.shape[2:])
        tinted, shade = further.clone(), further.new_ones(len(past), 1, 1, 1)
        skin = self.shining * (1 - hair)
        for column, up in units.any(dim=0).nonzero().tolist():
            far = units[:, column, up, None, None, None]
            there, smooth = far, 0 * far
            if column in self._dyes:
                of_hair, of_skin = self._dyed_beyond.get((column, up), (1.0, 0.0))
                there, smooth = far * of_hair * hair, far * of_skin * skin
            further, tinted = torch.maximum(further, there), torch.maximum(tinted, smooth)
            share = self._shade_beyond.get((column, up), 1.0)
            shade = torch.where(far > 0, shade.clamp(max=share), shade)
        # As decoders end in a hyperbolic tangent, so that what is white or black stays in range.
        before, after = (brightness(x.float()).clamp(-0.98, 0.98).atanh() for x in (other, end))
        way = further * (after - before)
        if tinted.any():
            way = way + tinted * _mean_near(after - before, skin, _TINT_BEYOND)
        way = EXAGGERATION * way
        far = (after + torch.maximum(way, shade * way)).tanh().expand_as(end)
        far = as_bright(end.float(), far)
        far = self._even(far, end.float(), units.clamp(max=1), hair)
        return self._without_shine(far, decoded.float(), units.clamp(max=1), hair)

    def tinted(self, asked: Tensor, own: Tensor) -> Tensor | None:
        """Where nothing but the colour of hair differs between values M×n: M×1×S×S in 0..1, or
        None where that is nowhere."""
        amounts = _amounts(asked, own)
        others, tints = amounts.clone(), []
        for (column, up), part in self._tints.items():
            if (amount := amounts[:, column, up, None, None, None]).any():
                others[:, column, up] = 0
                inside = torch.ones_like(self.hair) if part is None else getattr(self, part)
                tints.append((amount, self.maps[column, up], inside))
        if not tints:
            return None
        where = self._largest(others, {})
        for amount, region, inside in tints:
            where = torch.maximum(where, amount * region * (1 - inside))
        return torch.stack([amount * inside for amount, _, inside in tints]).amax(0) * (1 - where)

    def _moved(self, amounts: Tensor, column: int | None, up: int = 1) -> Tensor | None:
        """How much a column moves up, or down, M×1×1×1 in 0..1, or None where it does in no row."""
        if column is None or not amounts[:, column, up].any():
            return None
        return amounts[:, column, up, None, None, None]

    def _most(self, amounts: Tensor, shares: dict[tuple[int, int], float]) -> Tensor | None:
        """The largest of the shares of moves that there are, as :meth:`_moved`."""
        found = [
            share * moved
            for (column, up), share in shares.items()
            if (moved := self._moved(amounts, column, up)) is not None
        ]
        return torch.stack(found).amax(dim=0) if found else None

    def _with_smooth_skin(
        self, changed: Tensor, decoded: Tensor, amounts: Tensor, hair: Tensor
    ) -> Tensor:
        """``changed``, where what changes of skin has to be smooth, and nothing else changes it."""
        if self._most(amounts, self._smooth_on_skin) is None:
            return changed
        others = amounts.clone()
        others[:, list(self._dyes)] = 0
        skin = self.shining * (1 - hair)
        alone = skin * (1 - self._largest(others, {}))
        for (column, up), window in self._smooth_on_skin.items():
            if (moved := self._moved(amounts, column, up)) is None:
                continue
            smooth = decoded + _mean_near(changed - decoded, skin, window)
            share = (moved * alone).to(changed.dtype)
            changed = torch.lerp(changed, smooth.to(changed.dtype), share)
        return changed

    def _even(self, changed: Tensor, decoded: Tensor, amounts: Tensor, hair: Tensor) -> Tensor:
        """``changed``, where of skin one place gets lighter than another, with less of that."""
        share = self._most(amounts, self._evening)
        if share is None:
            return changed
        skin, change = self.shining * (1 - hair), (changed - decoded).float()
        near = _mean_near(_mean_near(change, skin, _EVEN_WINDOW), skin, _EVEN_WINDOW)
        uneven = near - mean_colour(change, skin)
        # Stubble is darker in one place than in another, too.
        uneven = uneven - brightness(uneven).clamp(max=0)
        # Less than decoders do, never more: what shone gets no brighter.
        even = torch.maximum(
            torch.minimum(change - uneven, change.clamp(min=0)), change.clamp(max=0)
        )
        return changed - (share * skin * (change - even)).to(changed.dtype)

    def _turned_gray(
        self, changed: Tensor, decoded: Tensor, amounts: Tensor, hair: Tensor
    ) -> Tensor:
        """``changed``, where hair turns gray, with less of the colour that was there."""
        greyed = self._moved(amounts, self._greying)
        if greyed is None:
            return changed
        left = (1 - (1 - _COLOUR_OF_GRAY) * hair).to(changed.dtype)
        faded = as_colourful(decoded, changed, left)
        hued = brightness(changed) + left * (decoded - brightness(decoded))
        kept = hair + _HUE_BESIDE_GRAY * (1 - hair)
        gray = torch.lerp(faded, hued.clamp(-1, 1), kept.to(changed.dtype))
        return torch.lerp(changed, gray, greyed.to(changed.dtype))

    def _with_hair_s_hue(
        self, changed: Tensor, decoded: Tensor, amounts: Tensor, person: Tensor, hair: Tensor
    ) -> Tensor:
        """``changed``, its hair, and what grows of it over foreheads, of the hue that hair had."""
        for (column, up), share in self._hued.items():
            hued = share * amounts[:, column, up, None, None, None]
            if not hued.any():
                continue
            there, mixed = hair, hair * _darker(decoded, changed).abs()
            if (column, up) in self._growing:
                there = mixed = self._grown(changed, decoded, person, hair)
            # What differs much is not the strand that was here; at borders that was half skin.
            mean = mean_colour(decoded, (hair * person).pow(4) * self.hair)
            own = torch.lerp(decoded, mean, mixed.to(decoded.dtype))
            hued = (hued * there).to(changed.dtype)
            changed = torch.lerp(changed, as_bright(own, changed), hued)
        return changed

    def _grown(self, changed: Tensor, decoded: Tensor, person: Tensor, hair: Tensor) -> Tensor:
        """Where ``changed`` has hair, M×1×S×S, if some of it grew over foreheads."""
        # Where foreheads get darker is hair that was not there, if there is hair at all.
        hairy = (hair * self.hair).sum(dim=(2, 3), keepdim=True) > _HAIRY * self.hair.sum()
        forehead = self.hair * person
        darker = _darker(decoded, changed).clamp(min=0)
        there = torch.maximum(hair, hairy * (1 - hair) * forehead * darker)
        # Nor is what is as bright among it skin.
        around = box_mean(there, max(1, round(_LOCK * decoded.shape[-1])))
        return torch.maximum(there, (1.5 * around).clamp(max=1) * forehead)

    def _laid_bare(
        self, changed: Tensor, decoded: Tensor, amounts: Tensor, person: Tensor, hair: Tensor
    ) -> Tensor:
        """``changed``, heads that get bald with the skin of their foreheads."""
        bared = self._moved(amounts, self._baring)
        if bared is None:
            return changed
        # Of all bare skin, where foreheads are not.
        forehead = self._forehead(decoded, hair)
        laid = torch.maximum(hair, _BARE_HUE * self.hair * person)
        skin = torch.lerp(decoded, forehead, laid.to(decoded.dtype))
        glare = _glare(changed, brightness(forehead) + _BARE_LIGHT)
        skin = as_bright(skin, changed - glare)
        return torch.lerp(changed, skin, (bared * person).to(changed.dtype))

    def _without_shine(
        self, changed: Tensor, decoded: Tensor, amounts: Tensor, hair: Tensor
    ) -> Tensor:
        """``changed``, where faces would shine, hardly brighter than bare skin may be."""
        for column, up in self._shining:
            if (moved := self._moved(amounts, column, up)) is None:
                continue
            most = brightness(self._forehead(decoded, hair)) + _BARE_LIGHT
            glare = _glare(changed, torch.maximum(most, brightness(decoded)))
            taken = moved * self.shining * glare
            changed = as_bright(changed, changed - taken.to(changed.dtype))
        return changed

    def _forehead(self, decoded: Tensor, hair: Tensor) -> Tensor:
        """The mean colour of bare skin, mostly of the forehead, M×3×1×1."""
        return mean_colour(decoded, self.bare * (1 - hair))

    def _regions(
        self, person: Tensor, hair: Tensor, amounts: Tensor
    ) -> dict[tuple[int, int], Tensor]:
        """Where each move that there is may change each face, in 0..1."""
        regions: dict[tuple[int, int], Tensor] = {}
        for column, up in amounts.amax(dim=0).nonzero().tolist():
            region = self.maps[column, up]
            if column in self._dyes:
                region = torch.maximum(region, hair)
            if column in self._within:
                region = region * person
            if share := self._hair.get((column, up)):
                region = region * (1 - share * hair)
            if share := self._bare.get((column, up)):
                region = region * (1 - share * self.hair * (1 - hair))
            regions[column, up] = region
        return regions

    def _largest(self, amounts: Tensor, regions: dict[tuple[int, int], Tensor]) -> Tensor:
        where = self.maps.new_zeros(len(amounts), 1, *self.maps.shape[2:])
        # One at a time, for what it takes of memory; most edits move few.
        for column, up in amounts.amax(dim=0).nonzero().tolist():
            region = regions.get((column, up), self.maps[column, up])
            where = torch.maximum(where, amounts[:, column, up, None, None, None] * region)
        return where


def _amounts(asked: Tensor, own: Tensor) -> Tensor:
    """How much values M×n differ, down and up, M×n×2 in 0..1."""
    move = (asked - own) / _DIFFERENT
    return torch.stack([-move, move], dim=2).clamp(0, 1)


def _as_strands(decoded: Tensor, changed: Tensor, hair: Tensor) -> Tensor:
    """``changed``, its difference from ``decoded`` smooth within the hair (M×1×S×S in 0..1) but for
    the edges of ``decoded``."""
    # A little of everything, for where there is no hair near.
    weight = hair.float() + 0.01
    guide, change = brightness(decoded.float()), (changed - decoded).float()
    smooth = _guided(guide, change, weight, _TINT_WINDOW, _TINT_EDGE)
    return (decoded + smooth.to(decoded.dtype)).clamp(-1, 1)


def _lines(decoded: Tensor) -> Tensor:
    """How much brighter ``decoded`` is for its fine lines, M×1×S×S."""
    bright = brightness(decoded.float())
    return bright - _guided(bright, bright, torch.ones_like(bright), _LINE_WINDOW, _LINE_EDGE)


def _mean_near(x: Tensor, where: Tensor, window: float) -> Tensor:
    """The mean of ``x`` around each pixel, of what is in ``where`` (M×1×S×S in 0..1)."""
    reach = max(1, round(window * x.shape[-1]))
    # A little of everything, for where there is none of it near.
    weight = where.float() + 0.001
    return box_mean(x.float() * weight, reach) / box_mean(weight, reach)


def _guided(guide: Tensor, x: Tensor, weight: Tensor, window: float, edge: float) -> Tensor:
    """``x`` smooth but for the edges of ``guide`` (M×1×S×S), as far as ``weight`` says."""
    reach = max(1, round(window * guide.shape[-1]))
    total = box_mean(weight, reach)

    def mean(some: Tensor) -> Tensor:
        return box_mean(some * weight, reach) / total

    level, tint = mean(guide), mean(x)
    slope = (mean(guide * x) - level * tint) / (mean(guide * guide) - level**2 + edge)
    return mean(slope) * guide + mean(tint - slope * level)


def _glare(changed: Tensor, most: Tensor) -> Tensor:
    """What is to be taken from ``changed`` where it is brighter than ``most``, M×1×S×S."""
    return _GLARE_TAKEN * (brightness(changed) - most).clamp(min=0)


def _darker(decoded: Tensor, changed: Tensor) -> Tensor:
    """How much darker ``changed`` is, M×1×S×S in -1..1, where 1 is another strand for sure."""
    return ((brightness(decoded) - brightness(changed)) / _ANOTHER_STRAND).clamp(-1, 1)


def _glasses(decoded: Tensor, changed: Tensor) -> tuple[Tensor, Tensor]:
    """How much darker ``changed`` is by lenses, over more than the width of a frame, and by the
    frames in them."""
    reach = max(1, round(_LENS_WINDOW * decoded.shape[-1]))
    darker = (brightness(decoded) - brightness(changed)).clamp(min=0)
    # A lens is where all around is darker, too.
    least = -F.max_pool2d(-darker, 2 * reach + 1, 1, reach)
    broad = F.max_pool2d(least, 2 * reach + 1, 1, reach)
    lens = torch.minimum(box_mean(broad, reach), darker)
    return lens, darker - lens


def _blond(changed: Tensor) -> Tensor:
    """``changed``, its pixels as bright as they are and blond."""
    dark, light = (
        changed.new_tensor(colour)[:, None, None] * 2 - 1 for colour in (_DARK_BLOND, _BLOND)
    )
    lightness = ((brightness(changed) + 1) / 2 / _LIGHT).clamp(0, 1)
    hue = torch.lerp(dark.expand_as(changed), light.expand_as(changed), lightness)
    return as_bright(hue, changed)


def _part(name: str | None, size: int) -> Tensor:
    if name is None:
        return torch.ones(size, size)
    side, shapes = _PARTS[name]
    at = (torch.arange(size) + 0.5) / size
    inside = torch.zeros(size, size)
    for x, y, across, down, power, fade in shapes:
        u, v = ((at - x) / across).abs()[None], ((at - y) / down).abs()[:, None]
        distance = (u**power + v**power) ** (1 / power)
        t = ((1 + fade - distance) / (2 * fade)).clamp(0, 1)
        inside = torch.maximum(inside, t * t * (3 - 2 * t))
    if name == "head":
        mouth = 1 - (1 - _MOUTH_OF_HEAD) * (1 - _part("around the mouth", size))
        return inside * _part("around the eyes", size) * mouth
    if side == "inside":
        return inside
    outside = 1 - inside
    if name == "but for the eyes":
        return outside.clamp(min=_EYES_OF_MAN)
    if name in _FACE_OF:
        # Further out there is no hair, and decoders paint the background.
        hair = outside.clamp(min=_FACE_OF[name]) * _part("near the head", size)
        # Long hair does not come and go with a bald head: decoders only stain it.
        hair = hair * _part("above the ears", size) if name == "skull" else hair
        return hair * _part("around the eyes", size)
    return outside
