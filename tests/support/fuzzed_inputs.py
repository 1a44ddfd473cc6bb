"""What ``fuzz_readers.py`` damages: a small good input for every reader, and how it is read."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Reader(NamedTuple):
    """``make`` writes a good input into a folder; ``read`` reads one like it, or raises.

    ``files`` is the pattern of the files that are damaged; ``part`` is how much of ``--files`` this
    reader gets.
    """

    make: Callable[[Path], None]
    read: Callable[[Path], object]
    files: str = "*"
    part: float = 1.0


# Photos


def make_photos(folder: Path) -> None:
    import numpy as np
    from PIL import Image

    values = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
    image, exif = Image.fromarray(values), Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0note"
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a b="c">text</a></x:xmpmeta>'
    for suffix in ("jpg", "png", "webp", "avif"):
        image.save(folder / f"photo.{suffix}", exif=exif.tobytes(), xmp=xmp, dpi=(300, 300))
    image.save(folder / "photo.tif", compression="tiff_adobe_deflate", dpi=(300, 300))
    image.convert("CMYK").save(folder / "cmyk.jpg")
    image.convert("RGBA").save(folder / "alpha.png")
    image.convert("P").save(folder / "palette.gif", save_all=True, append_images=[image])
    image.save(folder / "plain.bmp")
    deep = Image.fromarray((values[:, :, 0].astype(np.uint16) << 8) + 7)
    deep.save(folder / "deep.png")
    deep.save(folder / "deep.tif", compression="tiff_lzw")
    with suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
        image.save(folder / "photo.heic", exif=exif.tobytes())


def read_photos(folder: Path) -> None:
    from fader.photo import can_write, open_photo, save_photo

    # Only the damaged one: the others are known to be fine.
    path = max(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    photo = open_photo(path)
    if can_write(path.suffix):
        save_photo(photo, folder / f"written{path.suffix}")


# Data


def make_zip(folder: Path) -> None:
    from PIL import Image

    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA)
    with zipfile.ZipFile(folder / "all.zip", "w") as archive:
        for index in range(16):
            file = io.BytesIO()
            kind = ("BMP", "JPEG", "PNG")[index % 3]
            Image.new("RGB", (24, 24), (index * 9, 200, 40)).save(file, kind)
            name = f"{['cät', 'dog'][index % 2]}/{index}.{kind.lower()}"
            archive.writestr(name, file.getvalue(), methods[index % 5 % 3])


def read_zip(folder: Path) -> None:
    from cgan.data import open_images

    open_images(folder / "all.zip", 32, 3, "folder", progress=False)


def make_celeba(folder: Path) -> None:
    from small_celeba import write_celeba

    write_celeba(folder, 6, zipped=True, soft=("Male", "Smiling"))


def read_celeba(folder: Path) -> None:
    from fader.data.prepare import prepare

    prepare(folder, folder / "store", size=32, workers=1, progress=False)


def make_labels(folder: Path) -> None:
    from small_celeba import write_celeba

    write_celeba(folder / "celeba", 6)
    (folder / "celeba" / "img_align_celeba").rename(folder / "a")
    shutil.rmtree(folder / "celeba")
    rows = [f"a/{n:06d}.jpg,{n % 2},train,anna" for n in range(1, 7)]
    (folder / "labels.csv").write_text("\n".join(["file,Smiling,split,identity", *rows]) + "\n")


def read_labels(folder: Path) -> None:
    from fader.data.prepare import prepare

    # As they are, without a search for faces, which takes much longer than reading them.
    prepare(folder, folder / "store", size=32, workers=1, progress=False, aligned=True)


def make_store(folder: Path) -> None:
    from small_celeba import write_celeba

    from fader.data.prepare import prepare

    write_celeba(folder / "celeba", 6)
    prepare(folder / "celeba", folder / "store", size=32, workers=1, progress=False)
    shutil.rmtree(folder / "celeba")


def read_store(folder: Path) -> None:
    from fader.data.source import open_data

    store = open_data(folder / "store", 32)
    store.images[:], store.rejected, store.select_labels(["Male"])


# Models and runs


def make_model(folder: Path) -> None:
    from fader.models.autoencoder import AutoencoderConfig
    from fader.models.classifier import ClassifierConfig
    from fader.models.model import FaderModel

    config = AutoencoderConfig(
        size=32, layers=3, attributes=("Male", "Smiling"), width=4, max_width=8
    )
    FaderModel(config, ClassifierConfig(("Male", "Young"), 32, 4)).save(folder)


def read_model(folder: Path) -> None:
    import torch

    from fader.models.pretrained import load_model

    model = load_model(folder)
    with torch.no_grad():
        model.classifier(torch.zeros(1, 3, 32, 32))


def make_checkpoints(folder: Path) -> None:
    from released_files import random_autoencoder, save

    network = random_autoencoder(n_layers=2, init_fm=2, max_fm=2, img_sz=8)
    for kind in ("zip", "stream", "python 2", "tar"):
        save(network, folder / f"{kind}.pth", kind)


def read_checkpoints(folder: Path) -> None:
    from fader.models.released.convert import import_checkpoint

    for path in sorted(folder.glob("*.pth")):
        import_checkpoint(path)


def make_generator(folder: Path) -> None:
    from cgan.config import GanConfig
    from cgan.io import save_generator
    from cgan.networks import Generator

    config = GanConfig(
        size=32, width=4, latent=8, label_names=("happy", "sad"), label_kind="classes"
    )
    save_generator(Generator(config), folder)


def read_generator(folder: Path) -> None:
    call(
        "cgan", "generate", "--model", folder, "-o", folder / "out.png", "-n", 2, "--device", "cpu"
    )


def make_cgan_run(folder: Path) -> None:
    make_zip(folder)
    options = ["--preset", "tiny", "--steps", 2, "--size", 32, "--labels", "folder"]
    call("cgan", "train", "--data", folder / "all.zip", *options, "--out", folder / "run")
    shutil.rmtree(folder / "run" / "tensorboard", ignore_errors=True)


def read_cgan_run(folder: Path) -> None:
    call("cgan", "progress", folder / "run")
    call("cgan", "train", "--resume", "--out", folder / "run", "--data", folder / "all.zip")


def call(program: str, *arguments: object) -> None:
    """Run a command as from a shell; what it says of bad input is raised."""
    from cgan.commands import main as cgan
    from fader.commands import main as fader

    command = {"fader": fader, "cgan": cgan}[program]
    command.main([str(argument) for argument in arguments], program, standalone_mode=False)


READERS = {
    "photos": Reader(make_photos, read_photos, part=3),
    "zips": Reader(make_zip, read_zip, "*.zip", part=3),
    "celeba": Reader(make_celeba, read_celeba, part=2),
    "labels": Reader(make_labels, read_labels, "**/*", part=2),
    "stores": Reader(make_store, read_store, "store/*", part=2),
    "models": Reader(make_model, read_model, part=2),
    "checkpoints": Reader(make_checkpoints, read_checkpoints, "*.pth"),
    "generators": Reader(make_generator, read_generator),
    "runs": Reader(make_cgan_run, read_cgan_run, "run/**/*", part=0.2),
}
