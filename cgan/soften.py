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
from fader.data.batches import to_tensor
from fader.models.pretrained import load_classifier

# Pictures looked at together.
_BATCH = 64


@torch.inference_mode()
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
    classifier = load_classifier("default").requires_grad_(False).to(device)
    known = classifier.config.attributes
    own = [i for i, name in enumerate(images.label_names) if name in known]
    columns = [known.index(images.label_names[i]) for i in own]
    training = images.labels[images.indices(0)][:, own].mean(axis=0).clip(1e-3, 1 - 1e-3)
    frequency = torch.from_numpy(np.log(training / (1 - training))).float().to(device)
    starts = range(0, len(rows), _BATCH)
    for start in tqdm(starts, "softening labels", disable=None if progress else True):
        some = slice(start, start + _BATCH)
        pictures = np.ascontiguousarray(images.images[rows[some]])
        x = to_tensor(pictures).expand(-1, 3, -1, -1).to(device)
        told = torch.sigmoid(classifier(x)[:, columns] - frequency).float().cpu().numpy()
        labels[some, own] += share * (told - labels[some, own])
    return labels
