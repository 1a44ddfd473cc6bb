"""On drawn faces the right answer of an edit is known: does training find it?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from fader.data.annotations import TEST
from fader.data.batches import to_tensor
from fader.data.prepare import prepare
from fader.data.store import PreparedStore
from fader.data.synthetic import SyntheticFace, face_number, splits, write_dataset
from fader.faces.align import align
from fader.train.config import TrainConfig, load_preset
from fader.train.trainer import Trainer

ATTRIBUTES = ("Eyeglasses", "Male", "Mouth_Slightly_Open", "Smiling", "Wearing_Hat")
FACES, SEED, SIZE = 2000, 11, 64


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    folder = tmp_path_factory.mktemp("counterfactual")
    write_dataset(folder / "drawn", FACES, seed=SEED, counterfactuals=False, progress=False)
    prepare(folder / "drawn", folder / "store", size=SIZE, workers=1, progress=False)
    values = load_preset("tiny")
    values["model"]["attributes"] = ATTRIBUTES
    values["validate_every"] = values["steps"]  # it has no part in what is learnt
    config = TrainConfig.from_dict(values)
    trainer = Trainer(config, PreparedStore(folder / "store"), folder / "run", progress=False)
    trainer.train()
    return trainer


@dataclass(frozen=True)
class Known:
    """A test face as the model sees it: in the crop of its annotation file's landmarks."""

    face: SyntheticFace
    landmarks: np.ndarray
    features: list[torch.Tensor]


@pytest.fixture(scope="module")
def known(trained: Trainer) -> list[Known]:
    """Every test face, drawn and encoded once for all attributes."""
    model, found = trained.averaged_model(), []
    for number in np.flatnonzero(np.array(splits(FACES)) == TEST) + 1:
        face = face_number(int(number), SEED)
        landmarks = np.rint(face.landmarks)
        photo = align(face.draw(), landmarks, SIZE)[None]
        with torch.no_grad():
            found.append(Known(face, landmarks, model.encode(to_tensor(photo))))
    return found


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_edits_come_closer_to_the_truth_than_no_edit(
    trained: Trainer, known: list[Known], attribute: str
) -> None:
    model = trained.averaged_model()
    edited_error, unedited_error = [], []
    for one in known:
        face = one.face
        if attribute not in face.editable:
            continue
        # The crop is that of the unedited face.
        other = face.with_attribute(attribute, not face.attributes[attribute])
        truth = align(other.draw(), one.landmarks, SIZE)[None]
        y = torch.tensor([[float(f.attributes[a]) for a in ATTRIBUTES] for f in (face, other)])
        with torch.no_grad():
            unedited, edited = model.decode(one.features, y, y[:1])
        target = to_tensor(truth)[0]
        unedited_error.append(float((unedited - target).square().mean()))
        edited_error.append(float((edited - target).square().mean()))
    assert len(edited_error) >= 50
    ratio = np.mean(edited_error) / np.mean(unedited_error)
    closer = np.mean(np.array(edited_error) < np.array(unedited_error))
    print(f"{attribute}: error ratio {ratio:.3f}, closer in {closer:.2f} of {len(edited_error)}")
    assert ratio < 0.97
    assert closer > 0.6
