"""A data set in CelebA's layout, of a few faces drawn when a test runs."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from fader.attributes import ATTRIBUTES

#: Where a drawn face has its eyes, nose and mouth corners, in CelebA's 178x218 frame.
DRAWN_LANDMARKS = np.array([(70, 112), (109, 112), (89, 137), (73, 153), (106, 153)])


def draw_face(seed: int, smiling: bool) -> np.ndarray:
    """(218, 178, 3) uint8 RGB: a cartoon of a face, its parts at ``DRAWN_LANDMARKS``."""
    random = np.random.default_rng(seed)
    image = np.full((218, 178, 3), random.integers(0, 256, 3), dtype=np.uint8)
    hair, skin = random.integers(0, 120, 3).tolist(), random.integers(150, 240, 3).tolist()
    cv2.ellipse(image, (89, 105), (50, 68), 0, 0, 360, hair, -1, cv2.LINE_AA)
    cv2.ellipse(image, (89, 122), (40, 55), 0, 0, 360, skin, -1, cv2.LINE_AA)
    for x, y in DRAWN_LANDMARKS[:2].tolist():
        cv2.ellipse(image, (x, y), (9, 5), 0, 0, 360, (255, 255, 255), -1, cv2.LINE_AA)
        cv2.circle(image, (x, y), 4, (20, 20, 20), -1, cv2.LINE_AA)
    cv2.line(image, (89, 115), (89, 137), (120, 80, 70), 3, cv2.LINE_AA)
    bend = (17, 9 if smiling else 1)
    cv2.ellipse(image, (89, 153), bend, 0, 0, 180, (160, 30, 40), -1, cv2.LINE_AA)
    return image


def write_celeba(
    folder: Path,
    n: int = 12,
    *,
    zipped: bool = False,
    partition: bool = True,
    identity: bool = True,
    landmarks: bool = True,
    soft: Sequence[str] = (),
    seed: int = 0,
) -> Path:
    """Draw ``n`` faces into ``folder`` in CelebA's layout, with the files asked for.

    Smiling, Male and Young vary, the first as drawn; persons have two images each; of the
    images the last sixth is for testing, the sixth before it for validation.
    """
    random = np.random.default_rng(seed)
    names = [f"{index:06d}.jpg" for index in range(1, n + 1)]
    labels = np.full((n, len(ATTRIBUTES)), -1)
    for attribute in ("Smiling", "Male", "Young"):
        labels[:, ATTRIBUTES.index(attribute)] = random.choice((-1, 1), n)
    folder.mkdir(parents=True, exist_ok=True)
    images = {
        name: cv2.imencode(".jpg", draw_face(seed * 100_000 + row, smiling)[:, :, ::-1])[1]
        for row, (name, smiling) in enumerate(
            zip(names, labels[:, ATTRIBUTES.index("Smiling")] > 0, strict=True)
        )
    }
    if zipped:
        with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as archive:
            for name, data in images.items():
                archive.writestr(f"img_align_celeba/{name}", data.tobytes())
    else:
        (folder / "img_align_celeba").mkdir(exist_ok=True)
        for name, data in images.items():
            (folder / "img_align_celeba" / name).write_bytes(data.tobytes())

    def table(file: str, rows: Sequence[object], header: str | None = None) -> None:
        lines = [str(n), header] if header else []
        lines += [f"{name} {row}" for name, row in zip(names, rows, strict=True)]
        (folder / file).write_text("\n".join(lines) + "\n")

    rows = [" ".join(f"{value:2d}" for value in row) for row in labels]
    table("list_attr_celeba.txt", rows, " ".join(ATTRIBUTES))
    if partition:
        sixth = n // 6
        table("list_eval_partition.txt", [0] * (n - 2 * sixth) + [1] * sixth + [2] * sixth)
    if identity:
        table("identity_CelebA.txt", [1 + row // 2 for row in range(n)])
    if landmarks:
        points = " ".join(map(str, DRAWN_LANDMARKS.ravel()))
        header = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y "
        header += "leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
        table("list_landmarks_align_celeba.txt", [points] * n, header)
    if soft:
        lines = [",".join(("image", *soft))]
        for name in names:
            lines.append(",".join((name, *(f"{p:.3f}" for p in random.random(len(soft))))))
        (folder / "soft_attributes.csv").write_text("\n".join(lines) + "\n")
    return folder
