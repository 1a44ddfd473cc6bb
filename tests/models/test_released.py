"""``fader import``: released checkpoints become models, and nothing in a file is ever run."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tarfile
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from paths import ASTRONAUT
from PIL import Image
from released_files import AutoEncoder, importable, random_autoencoder, save

from fader.commands import main
from fader.models.model import FaderModel
from fader.models.released.convert import import_checkpoint

KINDS = ["zip", "stream", "2017", "python 2", "tar"]

pytestmark = pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")


def fader(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result


@torch.no_grad()
def same_outputs(network: AutoEncoder, model: FaderModel) -> None:
    n = len(network.attr or [0])
    x = torch.rand(3, 3, network.img_sz, network.img_sz) * 2 - 1
    y = torch.tensor([[0.0], [1.0], [2.5]]).repeat(1, n) - torch.rand(3, n)
    ours = model.autoencoder.decode(model.autoencoder.encode(x), y)
    assert (network(x, y) - ours).abs().max() < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_a_released_checkpoint_becomes_a_model_of_the_same_outputs(
    kind: str, tmp_path: Path
) -> None:
    network = random_autoencoder()
    save(network, tmp_path / "male.pth", kind)
    result = fader("import", tmp_path / "male.pth", tmp_path / "male")
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(tmp_path / "male")
    model = FaderModel.load(tmp_path / "male")
    assert model.attributes == ("Male",) and model.autoencoder.config.kind == "paper"
    assert {path.name for path in (tmp_path / "male").iterdir()} == {
        "config.json",
        "model.safetensors",
    }
    same_outputs(network, model)


@pytest.mark.parametrize(
    "options",
    [
        {"n_skip": 2},
        {"instance_norm": True},
        {"deconv_method": "upsampling", "n_skip": 1},
        {"dec_dropout": 0.3},
        {"attr": [("Male", 2), ("Young", 2)], "n_skip": 3},
        {"n_layers": 5, "init_fm": 8, "max_fm": 8},
    ],
    ids=str,
)
def test_every_option_of_the_released_code_that_can_be(
    options: dict[str, Any], tmp_path: Path
) -> None:
    network = random_autoencoder(**options)
    same_outputs(network, import_checkpoint(save(network, tmp_path / "net.pth")))


def test_weights_of_another_precision_or_layout(tmp_path: Path) -> None:
    network = random_autoencoder().to(memory_format=torch.channels_last)
    same_outputs(network, import_checkpoint(save(network, tmp_path / "net.pth")))
    network = network.double()
    model = import_checkpoint(save(network, tmp_path / "net.pth", "zip"))
    same_outputs(network.float(), model)


def test_names_of_attributes_are_asked_for_where_the_file_has_none(tmp_path: Path) -> None:
    network = random_autoencoder(attr=None)
    path = save(network, tmp_path / "net.pth")
    out = tmp_path / "out"
    result = fader("import", path, out)
    assert result.exit_code == 1 and "--attrs" in result.output and not out.exists()
    assert fader("import", path, out, "--attrs", "eyeglasses").exit_code == 0
    assert FaderModel.load(out).attributes == ("Eyeglasses",)
    result = fader("import", path, out, "--attrs", "Male")
    assert result.exit_code == 1 and "already there" in result.output
    assert fader("import", path, out, "--attrs", "Mle").exit_code == 2
    named = save(random_autoencoder(), tmp_path / "male.pth")
    result = fader("import", named, tmp_path / "male", "--attrs", "Young")
    assert result.exit_code == 1 and "leave out --attrs" in result.output


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda net: setattr(net.enc_layers[1][2], "negative_slope", 0.01), "negative_slope 0.01"),
        (lambda net: setattr(net.dec_layers[1][1], "eps", 1e-3), "eps 0.001"),
        (lambda net: setattr(net.enc_layers[1][0], "groups", 2), "groups 2"),
        (lambda net: setattr(net.enc_layers[2][0], "padding_mode", "reflect"), "padding_mode"),
        (lambda net: setattr(net, "attr", [("Hair", 5)]), "'Hair', which has not two values"),
        (lambda net: setattr(net, "attr", [("Hairy", 2)]), "unknown attribute 'Hairy'"),
        (lambda net: setattr(net, "attr", "Male"), "in a way that is not known"),
        (lambda net: setattr(net, "attr", [("Male", 2), ("Young", 2)]), "a tensor of 18×16×4×4"),
        (lambda net: setattr(net, "img_sz", 10**6), "size is 1000000"),
        (lambda net: setattr(net, "img_sz", None), "size is None"),
        (lambda net: setattr(net, "n_skip", 3), "a tensor of"),
        (lambda net: setattr(net.enc_layers[0][0], "out_channels", 9), "a tensor of"),
        (lambda net: net.enc_layers[1].append(torch.nn.ReLU()), "encoder layer 2 is"),
        (lambda net: net.dec_layers.pop(0), "mirror"),
        (lambda net: net.enc_layers[1][1].running_var.fill_(-1), "not possible"),
        (lambda net: net.enc_layers[1][0].weight.data.fill_(torch.nan), "not possible"),
    ],
)  # fmt: skip
def test_networks_that_ours_cannot_be_are_refused_by_what_differs(
    change: Any, message: str, tmp_path: Path
) -> None:
    network = random_autoencoder()
    change(network)
    refused(save(network, tmp_path / "net.pth"), message)


def test_other_networks_and_other_things_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    refused(save(random_autoencoder(deconv_method="pixelshuffle"), path), "pixel shuffle")
    refused(save(torch.nn.Conv2d(1, 1, 1), path), "holds torch.nn.modules.conv.Conv2d")
    refused(save(torch.nn.Linear(1, 1), path), "torch.nn.modules.linear.Linear")
    refused(save([1, 2], path), "holds a list")
    refused(save({"a": torch.zeros(2)}, path, "zip"), "holds a dict")
    refused(ASTRONAUT, "astronaut.jpg")
    refused(tmp_path, "regular file")
    refused(tmp_path / "nowhere.pth", "nowhere.pth")
    path.write_bytes(b"")
    refused(path, "cut short")


def refused(path: Path, wanted: str) -> str:
    """The one sentence with which the command refuses it, and leaves nothing."""
    out = path.parent / "imported"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = fader("import", path, out)
    assert result.exit_code == 1 and not out.exists()
    assert len(result.output.splitlines()) == 1 and len(result.output) < 600 + len(str(path))
    assert wanted in result.output, result.output
    assert str(path) in result.output
    return result.output


# --- what would be run ----------------------------------------------------------------------


class Calls:
    """What pickles as a call."""

    def __init__(self, function: Any, *args: Any, state: Any = None) -> None:
        self.call = (function, args) if state is None else (function, args, state)

    def __reduce__(self) -> Any:
        return self.call


def evil_autoencoder() -> type:
    kind = type("AutoEncoder", (), {})
    kind.__module__ = "evil"
    return kind


EVIL = {
    "os.system": (lambda sink: Calls(os.system, f"touch {sink}"), "posix.system"),
    "eval": (lambda sink: Calls(eval, f"open({str(sink)!r}, 'w')"), ".eval"),
    "open": (lambda sink: Calls(open, str(sink), "w"), ".open"),
    "a chain": (lambda sink: Calls(getattr, Calls(__import__, "os"), "system"), ".getattr"),
    "inside a state": (
        lambda sink: {"attr": OrderedDict(a=[Calls(os.system, f"touch {sink}")])},
        "posix.system",
    ),
    "a file of torch": (lambda sink: Calls(torch.load, str(sink)), "torch.serialization.load"),
    "numpy": (lambda sink: np.zeros(2), "numpy."),
}


@pytest.mark.parametrize("kind", ["plain", "zip", "stream", "tar"])
@pytest.mark.parametrize("case", EVIL)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_pickles_that_would_run_something_are_refused_by_name(
    kind: str, case: str, protocol: int, tmp_path: Path
) -> None:
    make, wanted = EVIL[case]
    sink, path = tmp_path / "run", tmp_path / "evil.pth"
    payload = pickle.dumps(make(sink), protocol)
    if kind == "stream":
        payload = header() + payload
    write(path, payload, kind)
    output = refused(path, wanted)
    assert "asks for " in output and not sink.exists()


def header() -> bytes:
    stream = io.BytesIO()
    torch.save(0, stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()[: -len(pickle.dumps(0, 2) + pickle.dumps([], 2))]


def write(path: Path, payload: bytes, kind: str) -> None:
    """A file of torch.save around a pickle."""
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", payload)
    elif kind == "tar":
        nothing = pickle.dumps(0, 2) + pickle.dumps([], 2)
        with tarfile.open(path, "w:") as archive:
            for name, data in [("pickle", payload), ("storages", nothing), ("tensors", nothing)]:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    else:
        path.write_bytes(payload)


def test_a_foreign_class_named_like_a_known_one(tmp_path: Path) -> None:
    kind = evil_autoencoder()
    with importable(evil={"AutoEncoder": kind}):
        payload = pickle.dumps(kind(), 2)
    write(tmp_path / "evil.pth", header() + payload, "stream")
    refused(tmp_path / "evil.pth", "asks for evil.AutoEncoder")


def g(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


AUTOENCODER = g("src.model", "AutoEncoder")


@pytest.mark.parametrize(
    ("payload", "wanted"),
    [
        (g("os", "system") + b"(S'id'\ntR.", "asks for os.system"),
        (b"(S'id'\nios\nsystem\n.", "asks for os.system"),
        (b"(" + AUTOENCODER[1:] + b"o.", "damaged"),
        (b"(isrc.model\nAutoEncoder\n.", "the instruction INST"),
        (g("src.model", "AutoEncoder.forward.__globals__") + b".", "asks for src.model.AutoEnc"),
        (g("src", "model.AutoEncoder\0") + b".", "asks for"),
        (g("torch.nn.modules.conv", "__builtins__") + b".", "__builtins__"),
        (AUTOENCODER + b")R)R.", "damaged"),  # a made thing, called
        (AUTOENCODER + b"}b.", "damaged"),  # a state for the class itself
        (b"}" + g("collections", "OrderedDict") + b")Rb.", "damaged"),
        (b"]]s.", "damaged"),
        (b"\x82\x01.", "the instruction EXT1"),
        (b"X\x04\0\0\0pathQ.", "persistent"),
        (b"(X\6\0\0\0moduleX\2\0\0\0osNNtQ.", ""),
        (b"(X\7\0\0\0storage" + AUTOENCODER + b"X\1\0\0\0aX\3\0\0\0cpuK\1NtQ.", "unknown kind"),
        (b"(X\7\0\0\0storage" + g("torch", "FloatStorage") + b"X\1\0\0\0aX\3\0\0\0cpu"
         b"J\xff\xff\xff\xffNtQ.", "sizes that are none"),
        (b"r\xff\xff\xff\x7f.", "damaged"),
        (b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.", "damaged"),  # bytes beyond any memory
        (b"\x96\xff\xff\xff\xff\xff\xff\xff\x7f.", "damaged"),
        (b")" + b"\x85" * 50_000 + b"N\x86}q\0h\0h\0.", ""),
        (b"}(" + b")" + b"\x85" * 50_000 + b"Nu.", "damaged"),  # a key too deep to hash
        (b"0" * 3, "the instruction POP"),
        (b"2" * 900_000 + b".", ""),
        (b"N" * 2_000_000 + b".", "cut short"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["zip", "stream", "tar"])
def test_programs_that_no_pickler_writes(
    payload: bytes, wanted: str, kind: str, tmp_path: Path
) -> None:
    path = tmp_path / "evil.pth"
    write(path, header() + payload if kind == "stream" else payload, kind)
    refused(path, wanted if kind == "stream" else "")


def test_numbers_that_are_not_there_or_beyond_all_measure(tmp_path: Path) -> None:
    whole = save(random_autoencoder(), tmp_path / "net.pth").read_bytes()
    for end in [*range(0, len(whole) - 1, len(whole) // 40), len(whole) - 1]:
        (tmp_path / "cut.pth").write_bytes(whole[:end])
        refused(tmp_path / "cut.pth", "")
    zipped = save(random_autoencoder(), tmp_path / "net.pth", "zip")
    (tmp_path / "cut.pth").write_bytes(zipped.read_bytes()[:-100])
    refused(tmp_path / "cut.pth", "damaged or cut short")
    count = struct.pack("<q", 1 << 39)
    for kind in ("stream", "tar"):
        content = save(random_autoencoder(), tmp_path / "net.pth", kind).read_bytes()
        place = content.index(struct.pack("<q", 4))  # the count of the first bias
        (tmp_path / "huge.pth").write_bytes(content[:place] + count + content[place + 8 :])
        refused(tmp_path / "huge.pth", "cut short" if kind == "tar" else "another length")


def test_an_archive_that_unfolds_is_refused(tmp_path: Path) -> None:
    zipped, path = save(random_autoencoder(), tmp_path / "net.pth", "zip"), tmp_path / "bomb.pth"
    for bomb in ("data.pkl", "data/0"):
        with zipfile.ZipFile(zipped) as old, zipfile.ZipFile(path, "w") as new:
            for entry in old.infolist():
                data = old.read(entry)
                if entry.filename.endswith(bomb):
                    data, entry.compress_type = bytes(10 << 20), zipfile.ZIP_DEFLATED
                new.writestr(entry, data)
        refused(path, "compressed")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", bytes(2 << 20))
    refused(path, "too many")
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(30_000):
            archive.writestr(f"archive/{i}", b"")
    refused(path, "too many")
    with tarfile.open(path, "w:", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("pickle")
        info.pax_headers = {"comment": "x" * (2 << 20)}
        tar.addfile(info)
    refused(path, "too many")


def test_little_memory_is_taken_for_a_network_that_asks_for_much(tmp_path: Path) -> None:
    network = random_autoencoder()
    for i, layer in enumerate(network.enc_layers):
        layer[0].out_channels = 2048 * 2**i
    refused(save(network, tmp_path / "net.pth"), "more weights than the file can have")


# --- what is done with it -------------------------------------------------------------------


def test_an_imported_model_edits_a_whole_photo(tmp_path: Path) -> None:
    """At 256 pixels, by the estimates of the packaged classifier."""
    network = random_autoencoder(img_sz=256, n_layers=6)
    assert fader("import", save(network, tmp_path / "male.pth"), tmp_path / "male").exit_code == 0
    photo, model = tmp_path / "photo.png", tmp_path / "male"
    Image.open(ASTRONAUT).save(photo)
    result = fader("edit", photo, "--set", "Male=3", "--model", model)
    assert result.exit_code == 0, result.output
    before, after = (
        np.asarray(Image.open(path), dtype=int) for path in (photo, tmp_path / "photo.edited.png")
    )
    assert before.shape == after.shape and np.abs(before - after).max() > 10
    assert 0.03 < (before != after).any(axis=2).mean() < 0.5
    result = fader("edit", photo, "--to", "older", "--model", model)
    assert result.exit_code == 1 and "does not know Young; it knows Male" in result.output
