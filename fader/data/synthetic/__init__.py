"""Drawn faces with known attributes, and for each the true picture with one attribute changed."""

from fader.data.synthetic.dataset import splits, write_dataset
from fader.data.synthetic.face import DRAWN, SyntheticFace, face_number, sample_face

__all__ = ["DRAWN", "SyntheticFace", "face_number", "sample_face", "splits", "write_dataset"]
