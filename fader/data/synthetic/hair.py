"""Hair and hats of synthetic faces."""

from __future__ import annotations

import math

import numpy as np

from fader.data.synthetic.canvas import Canvas, Colour, curve, ellipse, loop, shade, symmetric
from fader.data.synthetic.face import SyntheticFace


def _under_hat(points: np.ndarray, hat: bool) -> np.ndarray:
    """Hair pressed below a hat's edge, when there is one."""
    return np.column_stack([points[:, 0], np.maximum(points[:, 1], 82)]) if hat else points


def _hair_end(face: SyntheticFace) -> float:
    return 172 + 34 * face.look.hair_length


def draw_back_hair(canvas: Canvas, face: SyntheticFace) -> None:
    """Long hair behind neck and shoulders: a woman's."""
    if face.traits.male or face.traits.hair == "Bald":
        return
    end, wave, wide = _hair_end(face), 2.5 * face.look.hair_wave, 3 * face.look.hair_volume
    top = 46 - 5 * face.look.hair_volume
    right = [(0, top), (30, top + 8), (48, 74), (53 + wide, 100), (53 + wave + wide, 128)]
    right += [(54 - wave + wide, 150), (52 + wave + wide, end - 10), (40, end + 4)]
    right += [(20, end), (0, end - 4)]
    outline = _under_hat(loop(symmetric(right)), face.traits.hat)
    canvas.fill(outline, shade(face.hair_colour, 0.72))


def draw_front_hair(canvas: Canvas, face: SyntheticFace) -> None:
    """The hair on top with its strands, and a woman's locks over the sides of the face."""
    traits, look = face.traits, face.look
    if traits.hair == "Bald":
        return
    colour = face.hair_colour
    rise, line = 46 - 6 * look.hair_volume, 76 - 2 * look.hair_volume
    part = 16 * look.hair_part
    low = 117 if traits.male else 122
    outline = [(-46, low), (-48.5, 96), (-45.5, 72), (-29, rise + 7), (0, rise)]
    outer = curve([*outline, *((-x, y) for x, y in outline[-2::-1])])
    left = [(-41, low), (-40.5, 98), (-36, 87), (-20, line + 3)]
    hairline = curve([*left, (part, line - 2), *((-x, y) for x, y in left[::-1])])
    canvas.fill(_under_hat(np.concatenate([outer, hairline[::-1]]), traits.hat), colour)
    if not traits.hat:
        starts, ends = outer[8:-8:3], hairline[8:-8:3]
        for factor, pairs in ((1.28, slice(0, None, 2)), (0.72, slice(1, None, 2))):
            strands = [
                curve([a + (b - a) * 0.08, (a + b) / 2 + (part * 0.12, -2), a + (b - a) * 0.95])
                for a, b in zip(starts[pairs], ends[pairs], strict=True)
            ]
            canvas.stroke(strands, shade(colour, factor), 0.8)
        canvas.glow(-14, rise + 13, 22, 9, shade(colour, 1.5), 0.45)
    if not traits.male:
        _draw_locks(canvas, face, colour)


def _draw_locks(canvas: Canvas, face: SyntheticFace, colour: Colour) -> None:
    end, wave, wide = _hair_end(face), 2.5 * face.look.hair_wave, 3 * face.look.hair_volume
    for side in (-1, 1):
        lock = [(37.0, 84.0), (46.0, 76.0), (51 + wide, 100), (51 + wave + wide, 128)]
        lock += [(52 - wave + wide, 150), (50 + wave + wide, end - 12), (43, end)]
        lock += [(38 + wave, end - 14), (42 - wave, 152), (39.5 + 0.5 * wave, 132), (40, 106)]
        canvas.fill(loop(_under_hat(np.array(lock), face.traits.hat)) * (side, 1), colour)
        for x, factor in ((44.0, 1.28), (48.0, 0.72)):
            strand = [(x - 2, 92), (x + wide * 0.5 + 0.6 * wave, 128), (x - 1 - wave, end - 16)]
            canvas.stroke([curve(strand) * (side, 1)], shade(colour, factor), 0.8)


def draw_bangs(canvas: Canvas, face: SyntheticFace) -> None:
    """Hair over the forehead."""
    if not face.bangs:
        return
    look, colour = face.look, shade(face.hair_colour, 1.06)
    sweep = 2.0 * look.hair_part
    top = [(-42, 92), (-36, 76), (-18, 66), (0, 63), (18, 66), (36, 76), (42, 92)]
    tips = [(36.0 - 6 * i, (98.0, 94.5)[i % 2] - 0.002 * (36 - 6 * i) ** 2) for i in range(13)]
    tips = [(x, y + sweep * x / 36) for x, y in tips]
    canvas.fill(np.concatenate([curve(top), np.array(tips)]), colour)
    roots = np.linspace(20, -20, len(tips))
    strands = [
        curve([(root, 68), ((root + x) / 2 + math.copysign(2, x), 80), (x, y - 2.5)])
        for root, (x, y) in zip(roots, tips, strict=True)
    ]
    canvas.stroke(strands[1::2], shade(colour, 0.7), 0.9)
    canvas.stroke(strands[::2], shade(colour, 1.3), 0.7)


def draw_hat(canvas: Canvas, face: SyntheticFace) -> None:
    """A hat, over the hair."""
    if not face.traits.hat:
        return
    colour, style = face.look.hat_colour, face.look.hat_style
    dark = shade(colour, 0.62)
    crown = [(0, 30), (30, 36), (47, 56), (53, 78), (52, 90), (0, 88)]
    if style == "brim":
        crown = [(0, 33), (24, 30), (37, 38), (44, 62), (50, 84), (0, 90)]
    canvas.fill(loop(symmetric(crown)), colour)
    canvas.glow(-20, 54, 24, 22, shade(colour, 1.35), 0.5)
    if style == "beanie":
        band = [(0, 76), (30, 76.5), (54.5, 79), (54, 91), (30, 92), (0, 92.5)]
        canvas.fill(symmetric(band), shade(colour, 0.82))
        ribs = [[(x, 77.5), (x, 91)] for x in range(-48, 49, 6)]
        canvas.stroke(ribs, dark, 0.8)
    elif style == "cap":
        visor = [(0, 79), (26, 80.5), (49, 87), (42, 93), (22, 94.5), (0, 95)]
        canvas.fill(loop(symmetric(visor)), dark)
        seams = [[(0, 30), (0, 80)], *([(s * 20, 33), (s * 30, 56), (s * 32, 82)] for s in (-1, 1))]
        canvas.stroke([curve(seam) for seam in seams], dark, 0.8)
    else:
        canvas.fill(symmetric([(0, 72), (45.5, 68), (50, 84), (0, 88)]), dark)
        canvas.fill(ellipse(0, 86, 74, 7.5), shade(colour, 0.88))
        canvas.stroke([ellipse(0, 86, 74, 7.5)[:15]], dark, 1.2)
