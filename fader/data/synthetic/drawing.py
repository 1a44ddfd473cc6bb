"""Draws synthetic faces: one function a feature, back to front in :func:`draw`; each reads only
the traits that belong to it, so changing one trait leaves all other pixels as they were."""

from __future__ import annotations

import math

import cv2
import numpy as np

from fader.data.synthetic.canvas import Canvas, curve, ellipse, loop, mix, ramp, shade, symmetric
from fader.data.synthetic.face import EYE_X, EYE_Y, MOUTH_DEPTH, NOSE_DEPTH, NOSE_Y, SyntheticFace
from fader.data.synthetic.hair import draw_back_hair, draw_bangs, draw_front_hair, draw_hat

WIDTH, HEIGHT = 178, 218
# It is drawn so many times larger, and shrunk at the end, so that edges come out smooth.
SUPERSAMPLING = 2
WHITE = (248, 246, 242)


def _background(face: SyntheticFace) -> np.ndarray:
    """A gradient between two colours, drawn tiny and enlarged."""
    look, angle = face.look, face.look.background_angle
    y, x = np.mgrid[-1:1:24j, -1:1:20j]
    slope = 0.5 + 0.36 * (x * math.cos(angle) + y * math.sin(angle))
    slope += 0.18 * np.sin(3 * x + 9 * look.skin) * np.cos(2.5 * y + angle)
    first, second = np.array(look.background), np.array(look.background_second)
    small = first + (second - first) * np.clip(slope, 0, 1)[..., None]
    small = np.rint(np.clip(small, 0, 255)).astype(np.uint8)
    return cv2.resize(small, (WIDTH * SUPERSAMPLING, HEIGHT * SUPERSAMPLING))


def _draw_body(canvas: Canvas, face: SyntheticFace) -> None:
    look, skin = face.look, face.skin_colour
    neck, shoulder = (28.0, 192.0) if face.traits.male else (20.5, 197.0)
    throat = [(neck, 140), (neck, 178), (neck + 3, 191), (neck + 3, 240)]
    canvas.fill(symmetric(throat), shade(skin, 0.9))
    shadow = face.outline * (0.94, 1) + (0, 6)
    shadow[:, 1] = np.maximum(shadow[:, 1], 145)  # the head covers the rest
    canvas.tint(shadow, shade(skin, 0.62), 0.6, feather=2)
    drop = (200, 208, 216)[look.clothes_style]
    edge = [(0, drop), (neck * 0.62, drop - 5), (neck + 4, 190)]
    cloth = [(neck + 14, shoulder + 2), (80, shoulder + 14), (100, 240), (0, 240)]
    canvas.fill(symmetric(edge + cloth), look.clothes)
    canvas.stroke([edge, [(-x, y) for x, y in edge]], shade(look.clothes, 0.72), 1.8)


def _draw_ears(canvas: Canvas, face: SyntheticFace) -> None:
    skin = face.skin_colour
    for side in (-1, 1):
        x = side * 43.5 * face.wide
        canvas.fill(ellipse(x, 122, 6.2, 12.5), shade(skin, 0.93))
        canvas.fill(ellipse(x + side * 0.6, 121, 3.2, 7.5), shade(skin, 0.78))


def _draw_head(canvas: Canvas, face: SyntheticFace) -> None:
    """The skin with its shading, and what lies in the skin: blush, smile cheeks, wrinkles."""
    outline, skin = face.outline, face.skin_colour
    canvas.fill(outline, skin)
    with canvas.inside(outline) as head:
        for side in (-1, 1):
            head.glow(side * 46, 140, 24, 62, shade(skin, 0.72), 0.6)
        head.glow(0, 184, 46, 20, shade(skin, 0.74), 0.5)
        head.glow(-6, 82, 34, 26, mix(skin, (255, 244, 232), 0.4), 0.5)
        inner = head.shifted(face.look.turn)
        for side in (-1, 1):
            if face.traits.rosy:
                inner.glow(side * 27, 137, 15, 12, mix(skin, (226, 58, 76), 0.75), 0.85)
            if face.traits.smiling:
                inner.glow(side * 25, 130, 13, 8, shade(skin, 1.14), 0.55)
                fold = [(side * 14, 138), (side * 20.5, 143), (side * 24, 151)]
                inner.stroke([curve(fold)], shade(skin, 0.74), 1.0)
        if not face.traits.young:
            _draw_wrinkles(inner, face)
    if face.traits.hair == "Bald":
        canvas.glow(-10, 68, 20, 9, (255, 255, 255), 0.45)


def _draw_wrinkles(canvas: Canvas, face: SyntheticFace) -> None:
    """Lines on the forehead, beside the eyes and around the mouth, and bags under the eyes."""
    line = shade(face.skin_colour, 0.66)
    for row, half in ((82, 20), (87.5, 23), (93, 19)):
        canvas.stroke([curve([(-half, row + 1.5), (0, row - 0.6), (half, row + 1.5)])], line, 1.0)
    canvas.stroke([[(-3, 97), (-2.4, 104)], [(3, 97), (2.4, 104)]], line, 1.0)
    for side in (-1, 1):
        x = side * EYE_X
        canvas.glow(x, 121.5, 10, 5, shade(face.skin_colour, 0.6), 0.6)
        bag = curve([(x - side * 7, 120), (x, 123.4), (x + side * 7.5, 120)])
        cheek = curve([(side * 10.5, 139), (side * 17, 146), (side * 21.5, 157)])
        chin = curve([(side * 19.5, 158), (side * 20.5, 163), (side * 19, 168)])
        crow = [[(side * 31, y), (side * 37.5, y + d)] for y, d in ((109, -3), (112, 0), (115, 3))]
        canvas.stroke([bag, cheek, chin, *crow], line, 1.1)


def _draw_beard(canvas: Canvas, face: SyntheticFace) -> None:
    """What grows on jaw and chin; the mouth is painted over it."""
    if face.beard == "none":
        return
    colour = shade(face.hair_colour, 0.86)
    chin = 182.0 + 1.5 * face.look.chin
    if face.beard == "goatee":
        right = [(0, 166.5), (5, 167), (12, 166), (14.5, 173), (11, chin + 1)]
    else:
        wide, jaw = face.wide, 1.2 * face.look.jaw
        right = [(0, 168), (12, 165.5), (21, 158), (27, 148), (35, 136), (40.5 * wide, 116)]
        right += [(44 * wide, 118), (42 * wide, 142), (38.5 + jaw, 160), (25 + jaw, 177)]
    shape = loop(symmetric([*right, (0, chin + 5)]))
    with canvas.inside(shape, alpha=0.94, feather=0.7) as beard:
        beard.pixels[:] = np.rint(colour)
        curls = [[(x, 140), (x * 1.03, 160), (x * 0.85, 190)] for x in range(-40, 41, 5)]
        beard.stroke(curls, shade(colour, 1.35), 0.6)
        beard.glow(0, chin, 40, 12, shade(colour, 0.6), 0.5)


def _draw_mustache(canvas: Canvas, face: SyntheticFace) -> None:
    if not face.mustache:
        return
    x, y = face.mouth_corner
    colour = shade(face.hair_colour, 0.8)
    right = [(0, 143.5), (7, 143.2), (13, 146), (x + 1.5, y - 0.5), (x, y + 2.2)]
    right += [(11, 150.6), (4, 149.8), (0, 149)]
    canvas.fill(loop(symmetric(right)), colour)
    tops = (-12, -9, -3, 3, 9, 12)
    hairs = [[(top, 144.5), (top + math.copysign(2.2, top), 149.2)] for top in tops]
    canvas.stroke(hairs, shade(colour, 1.4), 0.6)


def _draw_nose(canvas: Canvas, face: SyntheticFace) -> None:
    skin, dark = face.skin_colour, shade(face.skin_colour, 0.68)
    wing, tip = 8.2 + 1.4 * face.look.nose_width, NOSE_Y + face.look.nose_length
    canvas.glow(0, 121, 4, 18, shade(skin, 1.12), 0.6)
    canvas.glow(6.5, 126, 5, 18, shade(skin, 0.8), 0.6)
    canvas.glow(-6.5, 126, 5, 18, shade(skin, 0.84), 0.45)
    canvas.glow(0, tip - 0.5, 7, 5.5, shade(skin, 1.16), 0.8)
    for side in (-1, 1):
        ala = curve([(wing - 1.2, tip - 3.5), (wing, tip + 1), (wing - 2.4, tip + 4)])
        canvas.stroke([ala * (side, 1)], dark, 1.2)
        canvas.fill(ellipse(side * 3.9, tip + 3.6, 2.1, 1.1), shade(skin, 0.42))
    canvas.stroke([curve([(-3, tip + 4.4), (0, tip + 5.4), (3, tip + 4.4)])], dark, 1.0)


def _lip_colour(face: SyntheticFace) -> tuple[float, ...]:
    if face.traits.lipstick:
        return ramp(((206, 16, 50), (176, 12, 72)), face.look.lipstick_shade)
    share = 0.28 if face.traits.male else 0.4
    return mix(shade(face.skin_colour, 0.84), (178, 74, 78), share)


def _draw_mouth(canvas: Canvas, face: SyntheticFace) -> None:
    """Lips between the corners; an open mouth shows teeth, and more of them when smiling."""
    traits, look = face.traits, face.look
    x, y = face.mouth_corner
    bend = 4.4 if traits.smiling else -0.6  # how far the middle hangs below the corners
    gap = 0.0 if not traits.mouth_open else 6.5 if traits.smiling else 7.0
    full = (0.84 if traits.male else 1.12) * (1 + 0.16 * look.lip_fullness)
    upper, lower = 3.6 * full, 4.9 * full
    middle = y + bend - 0.12 * gap
    bottom = middle + gap
    lip = _lip_colour(face)

    # A smile's arc stays low between corner and middle; a resting mouth is nearly straight.
    slope = 0.62 * bend
    top_edge = [(-x, y), (-x * 0.55, y + slope - upper * 0.75), (-3.2, middle - upper)]
    top_edge += [(0, middle - upper + 1.0), (3.2, middle - upper)]
    top_edge += [(x * 0.55, y + slope - upper * 0.75), (x, y)]
    under = y + slope + 0.62 * gap
    side_low = under + lower * 0.75
    low_edge = [(x, y), (x * 0.6, side_low), (0, bottom + lower), (-x * 0.6, side_low), (-x, y)]
    canvas.glow(0, bottom + lower + 2.5, 11, 3.5, shade(face.skin_colour, 0.66), 0.55)
    canvas.fill(np.concatenate([curve(top_edge), curve(low_edge)]), lip)

    over = y + 0.72 * bend - 0.1 * gap
    inner_top = curve([(-x, y), (-x * 0.5, over), (0, middle), (x * 0.5, over), (x, y)])
    if traits.mouth_open:
        inset = 0.93
        deep = y + slope + 0.66 * gap
        right = [(x * inset, y), (x * 0.58, deep), (0, bottom)]
        left = [(-x * 0.58, deep), (-x * inset, y)]
        opening = np.concatenate([inner_top * (inset, 1), curve(right + left)])
        with canvas.inside(opening) as mouth:
            mouth.pixels[:] = (78, 22, 26)
            teeth = 5.2 if traits.smiling else 2.6
            mouth.fill(np.concatenate([inner_top, np.add(inner_top[::-1], (0, teeth))]), WHITE)
            if not traits.smiling:
                mouth.fill(ellipse(0, bottom + 1.5, 8, 3), (176, 72, 80))
        canvas.stroke([inner_top * (inset, 1)], shade(lip, 0.62), 0.9)
    else:
        canvas.stroke([inner_top], shade(lip, 0.5), 1.3)
        canvas.glow(0, bottom + lower * 0.5, 7, 2.2, shade(lip, 1.35), 0.5)
    for side in (-1, 1):
        canvas.stroke([[(side * (x - 0.6), y), (side * (x + 0.9), y - 0.7)]], shade(lip, 0.5), 1.2)


def _draw_eye(canvas: Canvas, face: SyntheticFace, side: int) -> None:
    traits, look, skin = face.traits, face.look, face.skin_colour
    x = side * EYE_X
    half = 8.6 + 0.4 * look.eye_size
    tall = (4.1 if traits.male else 4.8) + 0.5 * look.eye_size
    if traits.smiling:
        tall *= 0.76
    inner, outer = (x - side * half, EYE_Y + 1.2), (x + side * half, EYE_Y - 0.2)
    lid = curve([inner, (x - side * 3, EYE_Y - tall), (x + side * 4, EYE_Y - tall * 0.92), outer])
    lower = curve([outer, (x + side * 2, EYE_Y + tall * 0.82), inner])
    canvas.glow(x, EYE_Y - 5.5, half + 3, 6, shade(skin, 0.72), 0.5)
    with canvas.inside(np.concatenate([lid, lower])) as eye:
        eye.pixels[:] = np.rint(WHITE)
        eye.fill(ellipse(x, EYE_Y - 0.2, 4.4, 4.4), shade(look.iris, 0.55))
        eye.fill(ellipse(x, EYE_Y - 0.2, 3.7, 3.7), look.iris)
        eye.fill(ellipse(x, EYE_Y - 0.2, 1.9, 1.9), (14, 12, 14))
        eye.fill(ellipse(x - 1.4, EYE_Y - 1.7, 1.0, 1.0), (255, 255, 255))
        eye.stroke([np.add(lid, (0, 1.0))], (150, 140, 138), 0.8)
    ink = (34, 24, 22)
    if traits.male:
        canvas.stroke([lid], ink, 1.0)
    else:
        lash = [(x + side * half, EYE_Y - 0.2), (x + side * (half + 3.0), EYE_Y - 3.0)]
        mid = [(x + side * (half - 2), EYE_Y - 2.6), (x + side * (half + 0.8), EYE_Y - 5.6)]
        canvas.stroke([lid, lash, mid], ink, 1.6)
    canvas.stroke([lid - (0, 2.6)], shade(skin, 0.68), 0.7)
    canvas.stroke([lower], shade(skin, 0.6), 0.8)
    if traits.smiling:
        pouch = [(x - side * 6, EYE_Y + 5.4), (x, EYE_Y + 6.6), (x + side * 7, EYE_Y + 4.4)]
        canvas.stroke([curve(pouch)], shade(skin, 0.76), 0.8)


def _draw_brow(canvas: Canvas, face: SyntheticFace, side: int) -> None:
    """A man's brow is thick, low and straight; a woman's thin, high and arched."""
    look = face.look
    thick, arch, y = (4.6, 1.6, 102.6) if face.traits.male else (2.2, 4.2, 101.0)
    thick *= 1 + 0.15 * look.brow_weight
    y -= 0.8 * look.brow_height
    tilt = 0.7 * look.brow_angle
    top = [(8.5, y + tilt), (20, y - arch - 0.5), (31, y + 0.6 - tilt)]
    low = [(31, y + 1.4 - tilt), (20, y - arch + thick * 0.9), (9, y + thick + tilt)]
    shape = np.concatenate([curve(top), curve(low)]) * (side, 1)
    canvas.fill(shape, mix(shade(face.hair_colour, 0.62), (62, 44, 34), 0.35))


def _draw_earrings(canvas: Canvas, face: SyntheticFace) -> None:
    if not face.traits.earrings:
        return
    gold = ramp(((242, 204, 76), (226, 230, 240)), face.look.jewel_shade)
    for side in (-1, 1):
        x = side * 45.5 * face.wide
        canvas.stroke([ellipse(x, 142.5, 4.6, 6.4)], (70, 52, 24), 3.0, closed=True)
        canvas.stroke([ellipse(x, 142.5, 4.6, 6.4)], gold, 2.0, closed=True)
        canvas.fill(ellipse(x, 135.5, 2.2, 2.2), gold)


def _lens(style: str, side: int) -> np.ndarray:
    x, y = side * EYE_X, EYE_Y + 1.5
    if style == "round":
        return ellipse(x, y, 14.8, 13.6)
    if style == "square":
        corners = [(-14.5, -8.5), (-12, -10.5), (12.5, -10.5), (15.5, -8), (14.5, 7.5), (12, 10.5)]
        corners += [(-11, 10.5), (-13.5, 8)]
    else:
        corners = [(-13.5, -8), (0, -10), (15.5, -9), (15.5, 1), (8, 13), (-6, 13), (-13, 3)]
    return loop(np.array(corners) * (side, 1) + (x, y))


def _draw_glasses(canvas: Canvas, face: SyntheticFace) -> None:
    if not face.traits.eyeglasses:
        return
    frame, turn = face.look.glasses_colour, face.look.turn
    front = canvas.shifted(turn)
    for side in (-1, 1):
        lens = _lens(face.look.glasses_style, side)
        front.tint(lens, (214, 232, 244), 0.1)
        x = side * EYE_X
        with front.inside(lens, alpha=0.3) as glass:
            glass.stroke([[(x - 9, EYE_Y + 6), (x + 1, EYE_Y - 8)]], (255, 255, 255), 2.2)
        front.stroke([lens], frame, 2.4, closed=True)
        front.stroke([[(side * 34.5, 108.5), (side * 38.5, 108)]], frame, 2.4)
    front.stroke([curve([(-5.5, 111), (0, 108.4), (5.5, 111)])], frame, 2.4)
    # The temples end at the ears, which do not move when the head turns.
    temples = [[(side * 38 + turn, 108), (side * 45, 110)] for side in (-1, 1)]
    canvas.stroke(temples, frame, 2.2)


def _light(pixels: np.ndarray, face: SyntheticFace) -> np.ndarray:
    """Light from one side, and a camera's fine noise; the same for every variant of a face."""
    look = face.look
    x = np.linspace(-1, 1, WIDTH, dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, HEIGHT, dtype=np.float32)[:, None]
    slope = x * np.float32(math.cos(look.light_angle)) + y * np.float32(math.sin(look.light_angle))
    gain = np.float32(look.brightness) * (1 + np.float32(look.light_strength) * slope)
    noise = np.random.default_rng(look.noise_seed).standard_normal((HEIGHT, WIDTH), np.float32)
    lit = cv2.multiply(pixels, cv2.merge([gain] * 3), dtype=cv2.CV_32F)
    return cv2.add(lit, cv2.merge([noise * np.float32(look.noise)] * 3), dtype=cv2.CV_8U)


def draw(face: SyntheticFace) -> np.ndarray:
    """The picture of ``face``: (218, 178, 3) uint8 RGB, the same for equal faces."""
    pixels = _background(face)
    # Pixel centres: picture pixel p covers p·k … p·k + k - 1 of the large one.
    matrix = face.pose * SUPERSAMPLING
    matrix[:, 2] += (SUPERSAMPLING - 1) / 2
    canvas = Canvas(pixels, matrix)

    draw_back_hair(canvas, face)
    _draw_body(canvas, face)
    _draw_ears(canvas, face)
    _draw_head(canvas, face)
    _draw_nose(canvas.shifted(face.look.turn * NOSE_DEPTH), face)
    _draw_beard(canvas, face)
    mouth = canvas.shifted(face.look.turn * MOUTH_DEPTH)
    _draw_mouth(mouth, face)
    _draw_mustache(mouth, face)
    eyes = canvas.shifted(face.look.turn)
    for side in (-1, 1):
        _draw_eye(eyes, face, side)
        _draw_brow(eyes, face, side)
    draw_front_hair(canvas, face)
    draw_bangs(canvas, face)
    _draw_earrings(canvas, face)
    draw_hat(canvas, face)
    _draw_glasses(canvas, face)

    return _light(cv2.resize(pixels, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), face)
