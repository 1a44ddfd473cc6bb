"""Labels that also say how plainly an attribute is seen.

People who label photos write 1 or 0 also where they hardly know: of two pictures of one person one
is Young and the other is not. A generator that is told so learns that Young says little. Part of
each label is therefore the probability that a classifier gives, a kind of label refinement
(Bagherinezhad et al. 2018, arXiv 1805.02641): what both agree on stays 0 or 1, the rest comes to
lie between, on the side that the person chose. It is the probability for somebody who expects both
values alike (the logits adjusted by the frequency, Menon et al. 2021, arXiv 2007.07314): else a
face would count as plainly without glasses because most faces are.
"""

from __future__ import annotations

import numpy as np
import torch
from tqdm import tqdm

from cgan.data import ImageSet
from cgan.evaluate.features import as_rgb
from fader.evaluate.judge import Judge
from fader.models.pretrained import load_classifier

# Pictures read together.
_CHUNK = 256


def softened(
    images: ImageSet,
    rows: np.ndarray,
    share: float,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> np.ndarray:
    """The labels (len(rows), k) float32 of some rows: of each attribute ``share`` (0 to below 0.5)
    is the probability that the packaged classifier gives where both values are as frequent, the
    rest what the set says.

    What it does not know, and labels that are no attributes, stay as they are.
    """
    labels = images.labels[rows].astype(np.float32)
    if not share or images.label_kind != "attributes":
        return labels
    viewer = Judge(load_classifier("default").requires_grad_(False).to(device), "default")
    own = [i for i, name in enumerate(images.label_names) if name in viewer.attributes]
    columns = [viewer.attributes.index(images.label_names[i]) for i in own]
    frequency = images.labels[images.indices(0)][:, own].mean(axis=0).clip(1e-3, 1 - 1e-3)
    expected = np.log(frequency / (1 - frequency)).astype(np.float32)
    starts = range(0, len(rows), _CHUNK)
    for start in tqdm(starts, "softening labels", disable=None if progress else True):
        some = slice(start, start + _CHUNK)
        logits = viewer.see(as_rgb(images.images[rows[some]]))[0][:, columns]
        told = torch.from_numpy(logits - expected).sigmoid().numpy()
        labels[some, own] += share * (told - labels[some, own])
    return labels
