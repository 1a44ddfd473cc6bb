"""Mutated files through the data readers: each is read, or refused in one sentence.

``tools/fuzz_readers.py`` does the same to all readers, with many more files.
"""

from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from released_files import random_autoencoder, save
from small_celeba import write_celeba

from cgan.data import open_images
from fader.data.folder import read_source
from fader.data.images import ZipImages
from fader.data.prepare import prepare
from fader.data.store import PreparedStore
from fader.errors import FaderError
from fader.models.released.convert import import_checkpoint
from fader.photo import open_photo

#: A part of a file that is replaced: where it begins and ends, in 1/10,000 of the file, by what.
MUTATIONS = st.lists(
    st.tuples(
        st.integers(0, 10_000),
        st.one_of(st.just(0), st.integers(0, 60)),
        st.one_of(
            st.binary(max_size=12),
            st.sampled_from(
                [
                    *(b"\0" * 8, b"\xff" * 4, b"9" * 5000, b"-1", b"1e400", b"nan", b",", b"\n"),
                    *(b'"', b"PK\1\2", b"PK\5\6", b"../", b"\xc3\x28", b"{", b"[" * 2000),
                    b"x" * 140_000,
                ]
            ),
        ),
    ),
    min_size=1,
    max_size=4,
)

fuzzed = settings(
    max_examples=60,
    deadline=10_000,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def mutated(data: bytes, mutations: list[tuple[int, int, bytes]]) -> bytes:
    for at, length, new in mutations:
        start = at * len(data) // 10_000
        data = data[:start] + new + data[start + length :]
    return data


def read_or_refused(read, *arguments, **options) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read(*arguments, **options)
        except FaderError as error:
            assert "\n" not in str(error) and 0 < len(str(error)) < 2000


def image(kind: str) -> bytes:
    file = io.BytesIO()
    values = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    Image.fromarray(values).save(file, kind)
    return file.getvalue()


IMAGES = {kind: image(kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF")}


@fuzzed
@given(kind=st.sampled_from(sorted(IMAGES)), mutations=MUTATIONS)
def test_images(kind: str, mutations: list[tuple[int, int, bytes]]) -> None:
    read_or_refused(open_photo, mutated(IMAGES[kind], mutations))


@pytest.fixture(scope="module")
def archives() -> list[bytes]:
    found = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as archive:
            for index in range(12):
                archive.writestr(f"{['cät', 'dog'][index % 2]}/{index}.bmp", IMAGES["BMP"])
        found.append(file.getvalue())
    return found


@fuzzed
@given(which=st.integers(0, 2), mutations=MUTATIONS, labels=st.sampled_from(["none", "folder"]))
def test_zips(tmp_path_factory, archives, which, mutations, labels) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.zip"
    path.write_bytes(mutated(archives[which], mutations))
    read_or_refused(open_images, path, 32, 3, labels, progress=False)
    try:
        images = ZipImages(path)
    except FaderError:
        return
    for name in ("0.bmp", "1.jpg"):
        read_or_refused(images.read, name)


CELEBA_FILES = (
    "list_attr_celeba.txt",
    "list_eval_partition.txt",
    "identity_CelebA.txt",
    "list_landmarks_align_celeba.txt",
    "soft_attributes.csv",
)


@pytest.fixture(scope="module")
def celeba_folder(tmp_path_factory) -> Path:
    return write_celeba(tmp_path_factory.mktemp("fuzzed") / "celeba", 6, soft=("Male", "Smiling"))


@fuzzed
@given(file=st.sampled_from(CELEBA_FILES), mutations=MUTATIONS)
def test_celebas_tables(celeba_folder: Path, file, mutations) -> None:
    path = celeba_folder / file
    whole = path.read_bytes()
    try:
        path.write_bytes(mutated(whole, mutations))
        read_or_refused(read_source, celeba_folder)
    finally:
        path.write_bytes(whole)


@fuzzed
@given(mutations=MUTATIONS)
def test_tables_of_labels(tmp_path_factory, mutations) -> None:
    root = tmp_path_factory.getbasetemp() / "labels"
    root.mkdir(exist_ok=True)
    text = b"file,Smiling,split,identity\na/1.jpg,1,train,ann\nb.png,0.5,test,\nc.png,0,0,ben\n"
    (root / "labels.csv").write_bytes(mutated(text, mutations))

    def read() -> None:
        data = read_source(root)
        for name in data.names:
            read_or_refused(data.images.read, name)

    read_or_refused(read)


@pytest.fixture(scope="module")
def store(celeba_folder: Path, tmp_path_factory) -> Path:
    dest = tmp_path_factory.mktemp("fuzzed") / "store"
    prepare(celeba_folder, dest, size=16, workers=1, progress=False)
    return dest


@fuzzed
@given(
    file=st.sampled_from(["meta.json", "labels.npy", "images.npy", "names.json", "rejected.csv"]),
    mutations=MUTATIONS,
)
def test_stores(store: Path, file, mutations) -> None:
    path = store / file
    whole = path.read_bytes()
    try:
        path.write_bytes(mutated(whole, mutations))
        read_or_refused(lambda: PreparedStore(store).rejected)
    finally:
        path.write_bytes(whole)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("checkpoints") / "net.pth"
    network = random_autoencoder(n_layers=2, init_fm=2, max_fm=2, img_sz=8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch finds no source of the class
        return {kind: save(network, path, kind).read_bytes() for kind in ("zip", "stream", "tar")}


@fuzzed
@given(kind=st.sampled_from(["zip", "stream", "tar"]), mutations=MUTATIONS)
def test_checkpoints(tmp_path_factory, checkpoints, kind, mutations) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.pth"
    path.write_bytes(mutated(checkpoints[kind], mutations))
    read_or_refused(import_checkpoint, path)
