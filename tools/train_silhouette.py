"""Train the network that tells a person and their hair from the background in aligned faces.

    pip install mediapipe==0.10.14
    python tools/train_silhouette.py --store STORE [--out FILE]

STORE is what ``fader prepare`` wrote; without --out it is the packaged network that is trained. Its
teachers are MediaPipe's Selfie Segmentation, which finds the person, and Face Mesh (both Apache
2.0, their weights are in the package), which finds the face in it; GrabCut (OpenCV) divides what is
left into hair and skin. Most of what the network sees are heads cut out and put before backgrounds
they never had. Prints how far it agrees with its teachers on validation faces, as they are and
before such backgrounds.
"""

from __future__ import annotations

from pathlib import Path

import click
import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from fader.data.prepared import PreparedStore
from fader.files import atomic_path
from fader.models.silhouette import SIZE, WEIGHTS, SilhouetteNet
from fader.train.device import best_precision

TRAIN, VALID = 0, 1
BATCH = 48
CPU = torch.device("cpu")

# How many of the images are as they are, and of the rest the shares of other backgrounds: parts of
# other photos, and stripes; what is left is plain.
PHOTOS, OTHERS, STRIPES = 0.3, 0.4, 0.4

# How much more hair that is left out counts than what is taken for it, below the eyes (in heights
# of the crop): of long hair GrabCut misses the ends, where clothes are.
HAIR_LEFT_OUT, EYES = 3, 0.52

# The side of the images that the teachers look at.
TEACHER = 256

# How unlike the face's skin the forehead's may be, and how unlike it is what surely is hair: in
# log(R/G), log(G/B) and how much darker in log brightness. (The forehead may be brighter.)
FOREHEAD, HAIR = (0.1, 0.15, 0.2), (0.2, 0.3, 0.55)

# Points of the mesh, and where the nose is in aligned faces, in widths of the crop.
NOSE, TOP, CHIN = 1, 10, 152
NOSE_AT = 0.5, 0.62

# That nothing is known of a face's hair.
UNKNOWN = 255


class Teachers:
    """Who tells where a person and their hair are.

    Raises :class:`click.ClickException` where there is no MediaPipe.
    """

    def __init__(self) -> None:
        try:
            from mediapipe.python.solutions import face_mesh, selfie_segmentation
        except ImportError:
            raise click.ClickException(
                "the teachers are missing: pip install mediapipe==0.10.14"
            ) from None
        self._segmentation = selfie_segmentation.SelfieSegmentation(model_selection=0)
        self._mesh = face_mesh.FaceMesh(
            static_image_mode=True, max_num_faces=3, min_detection_confidence=0.3
        )
        self._oval = _points(face_mesh.FACEMESH_FACE_OVAL)
        brows = face_mesh.FACEMESH_LEFT_EYEBROW, face_mesh.FACEMESH_RIGHT_EYEBROW
        eyes = face_mesh.FACEMESH_LEFT_EYE, face_mesh.FACEMESH_RIGHT_EYE
        self._brows = [_points(part) for part in brows]
        self._features = self._brows + [_points(part) for part in (*eyes, face_mesh.FACEMESH_LIPS)]

    def __call__(self, images: np.ndarray) -> Tensor:
        """Of uint8 images N×S×S×3: how sure they are of the person, in 0..255, and 1 where there
        is hair or :data:`UNKNOWN`: N×2×S×S uint8."""
        found = [self._of(image) for image in tqdm(images, "teachers", unit="face")]
        return torch.from_numpy(np.stack(found))

    def _of(self, image: np.ndarray) -> np.ndarray:
        large = cv2.resize(image, (TEACHER, TEACHER), interpolation=cv2.INTER_CUBIC)
        mirrored = np.ascontiguousarray(large[:, ::-1])
        both = self._segmentation.process(large).segmentation_mask
        both = both + self._segmentation.process(mirrored).segmentation_mask[:, ::-1]
        person = cv2.resize(both / 2, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        hair = np.full((SIZE, SIZE), UNKNOWN, np.uint8)
        faces = [
            np.array([[point.x, point.y] for point in face.landmark]) * SIZE
            for face in self._mesh.process(large).multi_face_landmarks or ()
        ]
        if faces:
            # Of several, the one that the crop was aligned to.
            away = [np.linalg.norm(face[NOSE] - np.multiply(NOSE_AT, SIZE)) for face in faces]
            if min(away) < 0.15 * SIZE:
                hair = self._hair(image, person > 0.5, faces[int(np.argmin(away))])
        return np.stack([np.round(person * 255).astype(np.uint8), hair])

    def _hair(self, image: np.ndarray, person: np.ndarray, face: np.ndarray) -> np.ndarray:
        """1 where hair is, of a person's mask S×S and the mesh of the face, in pixels."""
        y, x = np.mgrid[:SIZE, :SIZE]
        top, chin = face[TOP], face[CHIN]
        height = np.linalg.norm(chin - top)
        brows = min(face[part][:, 1].min() for part in self._brows)
        oval = _hull(face[self._oval])
        features = np.max([_grown(_hull(face[part]), 1) for part in self._features], axis=0) > 0
        skin = (_grown(oval, -0.05 * height) > 0) & ~features & (y > brows - 0.02 * height)
        outside, near = _grown(oval, 0.04 * height) == 0, np.abs(x - top[0]) < 0.62 * height
        crown = (_grown(person, -1) > 0) & outside & (y < brows - 0.02 * height)
        if skin.sum() < 30:
            return np.full((SIZE, SIZE), UNKNOWN, np.uint8)
        if crown.sum() < 0.02 * height**2:
            return np.zeros((SIZE, SIZE), np.uint8)
        look = np.log(image.astype(np.float32) + 8)
        unlike = look - np.median(look[skin], axis=0)
        hue, darker = np.abs(np.diff(unlike, axis=2)), -unlike.mean(axis=2)
        bare = (hue < FOREHEAD[:2]).all(axis=2) & (darker < FOREHEAD[2])
        bare &= (oval > 0) & (y < brows) & ~features
        surely = (hue > HAIR[:2]).any(axis=2) | (darker > HAIR[2])
        neck = (np.abs(x - chin[0]) < 0.22 * height) & (y > chin[1] - 0.05 * height)
        clothes = (y > chin[1]) & ~(
            (np.abs(x - chin[0]) < 0.75 * height) & (y < chin[1] + 0.15 * height)
        )
        labels = np.full((SIZE, SIZE), cv2.GC_PR_BGD, np.uint8)
        labels[person & outside & near & (y < brows + 0.25 * height)] = cv2.GC_PR_FGD
        labels[crown & near & surely] = cv2.GC_FGD
        labels[clothes] = cv2.GC_PR_BGD
        labels[skin | bare | features | neck | ~person] = cv2.GC_BGD
        # What is not to be divided looks like skin, so that no colour of it counts.
        plain = np.median(image[skin | bare], axis=0)
        plain = plain + np.random.default_rng(0).normal(0, 6, image.shape)
        other = (~person | features | neck)[..., None]
        seen = np.where(other, plain.clip(0, 255), image).astype(np.uint8)
        cv2.setRNGSeed(0)
        models = np.zeros((1, 65)), np.zeros((1, 65))
        lab = cv2.cvtColor(seen, cv2.COLOR_RGB2LAB)
        if (labels & 1).any():
            cv2.grabCut(lab, labels, None, *models, 3, cv2.GC_INIT_WITH_MASK)
        # Only what reaches the temples: black suits look like black hair.
        parts = cv2.morphologyEx(labels & 1, cv2.MORPH_OPEN, np.ones((3, 3)))
        count, of = cv2.connectedComponents(parts)
        high = near & (y < brows + 0.3 * height)
        sizes = np.bincount(of[high], minlength=count)
        return np.isin(of, 1 + np.flatnonzero(sizes[1:] > 0.01 * height**2)) & person


def _points(connections: frozenset[tuple[int, int]]) -> list[int]:
    return sorted({point for pair in connections for point in pair})


def _hull(points: np.ndarray) -> np.ndarray:
    """The convex hull of points in pixels, as a mask."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    return cv2.fillConvexPoly(mask, cv2.convexHull(np.round(points).astype(np.int32)), 1)


def _grown(mask: np.ndarray, pixels: float) -> np.ndarray:
    """A mask, that many pixels larger all round, or smaller."""
    change = cv2.dilate if pixels > 0 else cv2.erode
    return change(mask.astype(np.uint8), np.ones((2 * int(abs(pixels)) + 1,) * 2))


def as_input(images: np.ndarray) -> Tensor:
    """uint8 N×S×S×3 → N×3×S×S in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.inference_mode()
def found_by(network: SilhouetteNet, images: np.ndarray) -> Tensor:
    """How sure a network is of the person and their hair, N×2×S×S in 0..1."""
    return torch.cat(
        [network(as_input(images[i : i + BATCH])) for i in range(0, len(images), BATCH)]
    ).sigmoid()


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of N×S×S masks, N."""
    return (a & b).sum((1, 2)) / (a | b).sum((1, 2))


def stripes(colours: Tensor) -> Tensor:
    """Bent stripes in two or three of the colours N×3×3 (which, RGB): N×3×S×S."""
    n = len(colours)
    at = torch.linspace(-1, 1, SIZE)
    v, u = torch.meshgrid(at, at, indexing="ij")
    angle, width, bend, shift = torch.rand(4, n, 1, 1)
    angle, width = angle * torch.pi, 0.08 + 0.5 * width
    across = u * angle.cos() + v * angle.sin() + 0.3 * bend * (3 * v + 6 * shift).sin()
    which = (across / width + 5 * shift).floor().long() % torch.randint(2, 4, (n, 1, 1))
    return (
        colours.transpose(1, 2)
        .gather(2, which.flatten(1)[:, None].expand(-1, 3, -1))
        .view(n, 3, SIZE, SIZE)
    )


def backgrounds(heads: Tensor, others: Tensor) -> Tensor:
    """Something else for N heads N×3×S×S: parts of the ``others``, stripes, or plain."""
    n = len(heads)
    # Their own colours, too: a wall may be as bright as the hair before it.
    places = torch.randint(SIZE, (2, n, 3))
    own = heads.permute(0, 2, 3, 1)[torch.arange(n)[:, None], places[0], places[1]]
    colours = torch.where(torch.rand(n, 3, 1) < 0.6, own, torch.rand(n, 3, 3) * 2 - 1)
    kind = torch.rand(n, 1, 1, 1)
    size = 0.25 + 0.5 * torch.rand(n)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = size
    theta[:, :, 2] = (torch.rand(n, 2) * 2 - 1) * (1 - size[:, None])
    grid = F.affine_grid(theta, list(others.shape), align_corners=False)
    part = F.grid_sample(others, grid, align_corners=False)
    fade = torch.linspace(0, 1, SIZE)[:, None] ** (3 * torch.rand(n, 1, 1, 1)).exp()
    plain = colours[:, 0, :, None, None].lerp(colours[:, 1, :, None, None], fade)
    striped = stripes(colours) + 0.2 * (plain - plain.mean((2, 3), keepdim=True))
    found = torch.where(kind < OTHERS, part, torch.where(kind < OTHERS + STRIPES, striped, plain))
    soft = F.interpolate(F.avg_pool2d(found, 4), scale_factor=4.0, mode="bilinear")
    return found.lerp(soft, torch.rand(n, 1, 1, 1))


def before_others(seen: Tensor, wanted: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Persons N×3×S×S cut out by the first of masks N×2×S×S, before other backgrounds: images,
    masks."""
    # A little less all round, so that no rim of the old background tells.
    inside = ((wanted[:, :1] - 0.5) / 0.4).clamp(0, 1)
    seen = torch.lerp(backgrounds(seen, others), seen, inside)
    return seen, torch.cat([inside, torch.minimum(wanted[:, 1:], inside)], dim=1)


def as_masks(taught: Tensor) -> tuple[Tensor, Tensor]:
    """What teachers say, N×2×S×S uint8: masks in 0..1, and 1 where something is known."""
    person, hair = taught.split(1, dim=1)
    known = hair != UNKNOWN
    masks = torch.cat([person.float() / 255, (hair * known).float()], dim=1)
    return masks, torch.cat([torch.ones_like(known), known], dim=1).float()


def train(network: SilhouetteNet, images: np.ndarray, taught: Tensor, steps: int) -> None:
    """Teach the network what teachers say (N×2×S×S) of uint8 images."""
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    some = int(BATCH * (1 - PHOTOS))
    for step in (bar := tqdm(range(steps), desc="network")):
        rows = torch.randint(len(images), (BATCH,))
        seen, (wanted, known) = as_input(images[rows.numpy()]), as_masks(taught[rows])
        others = as_input(images[torch.randint(len(images), (some,)).numpy()])
        seen[:some], wanted[:some] = before_others(seen[:some], wanted[:some], others)
        if step % 2:
            seen, wanted, known = seen.flip(-1), wanted.flip(-1), known.flip(-1)
        # Other light; decodings are softer than photos, those of small models more so.
        seen = seen * (1 + 0.2 * torch.randn(BATCH, 3, 1, 1)) + 0.15 * torch.randn(BATCH, 3, 1, 1)
        if step % 3 == 0:
            seen = F.avg_pool2d(F.pad(seen, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        elif step % 3 == 1:
            seen = F.interpolate(F.avg_pool2d(seen, 2), scale_factor=2.0, mode="bilinear")
        seen = seen.clamp(-1, 1)
        with torch.autocast("cpu", torch.bfloat16, enabled=best_precision(CPU) == "bf16"):
            logits = network(seen.contiguous(memory_format=torch.channels_last))
        # Absolute differences: teachers err, too, and a minority of errors does not count.
        wrong = logits.float().sigmoid() - wanted
        wrong[:, 1, int(EYES * SIZE) :] *= 1 + (HAIR_LEFT_OUT - 1) * (
            wanted[:, 1, int(EYES * SIZE) :] > 0.5
        )
        loss = (wrong.abs() * known).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        bar.set_postfix(loss=f"{float(loss.detach()):.4f}")
    network.eval()


def sample(store: PreparedStore, partition: int, most: int) -> np.ndarray:
    """Images N×S×S×3 uint8 of a partition."""
    rows = store.indices(partition)
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:most])
    return np.stack([np.asarray(store.images[row]) for row in rows])


def measure(network: SilhouetteNet, images: np.ndarray, taught: Tensor) -> None:
    """Print how far the network agrees with its teachers."""
    seen, (wanted, known) = as_input(images), as_masks(taught)
    moved, inside = before_others(seen, wanted, seen.roll(1, 0))
    moved = ((moved.permute(0, 2, 3, 1) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
    for where, shown, masks in (("validation", images, wanted), ("moved", moved, inside)):
        found, masks = found_by(network, shown) > 0.5, masks > 0.5
        for i, what in enumerate(("person", "hair")):
            some = (known[:, i] > 0).flatten(1).any(dim=1) & masks[:, i].flatten(1).any(dim=1)
            shares = overlap(found[some, i], masks[some, i])
            print(f"{what}, intersection over union with the teachers on {len(shares)} {where} "
                  f"faces: {shares.mean():.3f}, median {shares.median():.3f}, the lowest tenth "
                  f"below {shares.quantile(0.1):.3f}")  # fmt: skip


@click.command()
@click.option("--store", "path", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), default=WEIGHTS, show_default=True)
@click.option("--faces", default=7000, show_default=True, help="At most.")
@click.option("--steps", default=1500, show_default=True)
def main(path: Path, out: Path, faces: int, steps: int) -> None:
    torch.manual_seed(0)
    teachers, store, network = Teachers(), PreparedStore(path), SilhouetteNet()
    images = sample(store, TRAIN, faces)
    train(network, images, teachers(images), steps)
    seen = sample(store, VALID, 500)
    measure(network, seen, teachers(seen))
    weights = {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out) as part:
        save_file({k: v.contiguous() for k, v in weights.items()}, part)


if __name__ == "__main__":
    main()
