"""Models in ONNX: exported, run without PyTorch, and the same as with it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner, Result
from paths import ASTRONAUT, ROOT
from PIL import Image

from fader import Editor
from fader.commands import main
from fader.edit.strip import strip
from fader.errors import FaderError
from fader.models.classifier import ClassifierConfig
from fader.models.config import AutoencoderConfig
from fader.models.model import FaderModel

HOPPER = ROOT / "examples" / "hopper.jpg"
DETECTOR = {"pnet", "rnet", "onet"}
NETWORKS = {"encoder", "decoder", "classifier", *DETECTOR}


def make_model(folder: Path, kind: str = "difference", seed: int = 0, **options: object) -> Path:
    """A model whose edits are seen, though it learnt nothing."""
    torch.manual_seed(seed)
    config = AutoencoderConfig(
        kind=kind, size=64, layers=3, attributes=("Smiling", "Male"), width=8, **options
    )
    # The one's classifier is smaller than its images, which are resized for it.
    size = 64 if kind == "paper" else 32
    model = FaderModel(config, ClassifierConfig(size=size, width=8)).eval()
    if kind == "difference":
        model.strength = {"Smiling": (1.0, 1.5)}
        with torch.no_grad():
            model.autoencoder.head.bias[12:] = 2.0
    model.save(folder)
    return folder


def fader(*arguments: object, code: int = 0) -> Result:
    done = CliRunner().invoke(main, [*map(str, arguments)])
    assert done.exit_code == code, done.output
    return done


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with its ONNX form beside its weights."""
    folder = make_model(tmp_path_factory.mktemp("model") / "mine")
    done = fader("export", folder)
    assert done.stdout.strip() == str(folder / "onnx")
    assert "from PyTorch's answers" in done.stderr
    return folder


@pytest.fixture(scope="module")
def editors(model: Path) -> tuple[Editor, Editor]:
    return Editor(model, runtime="torch"), Editor(model, runtime="onnx")


def test_an_export_is_whole(model):
    folder = model / "onnx"
    config = json.loads((folder / "config.json").read_text())
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        *(f"{name}.onnx" for name in NETWORKS),
    }
    assert config["opset"] == 17
    assert config["networks"]["encoder.onnx"]["inputs"]["image"] == ["batch", 3, 64, 64]
    for name in NETWORKS:
        network = onnx.load(folder / f"{name}.onnx", load_external_data=False)
        assert network.opset_import[0].version == 17
        assert network.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
        assert not any(tensor.external_data for tensor in network.graph.initializer)


def test_the_detector_s_convolutions_keep_their_layout(model):
    """ONNX Runtime leaves it for a PRelu, which takes longer than the convolutions."""
    packaged = ROOT / "fader" / "weights" / "default" / "onnx"
    for path in (folder / f"{n}.onnx" for folder in (model / "onnx", packaged) for n in DETECTOR):
        nodes = onnx.load(path).graph.node
        convolved = {out for node in nodes if node.op_type == "Conv" for out in node.output}
        assert convolved
        assert not any(node.op_type == "PRelu" and convolved & set(node.input) for node in nodes)


@pytest.mark.parametrize("options", [{}, {"skip": 1, "conditioning": "modulation"}], ids=str)
def test_a_model_of_the_paper_gives_the_same_pictures(tmp_path, options):
    folder = make_model(tmp_path / "paper", "paper", **options)
    fader("export", folder)
    one, other = (
        pixels(Editor(folder, runtime=runtime).edit(ASTRONAUT, Smiling=2, output="crop"))
        for runtime in ("torch", "onnx")
    )
    assert np.abs(one - other).max() <= 1


def test_edits_are_those_of_pytorch(editors):
    torch_editor, onnx_editor = editors
    assert (torch_editor.runtime, onnx_editor.runtime) == ("torch", "onnx")
    for photo in (ASTRONAUT, HOPPER):
        one, other = (editor.apply(photo, Smiling=2, Male="-1") for editor in editors)
        assert one.faces[0].after == pytest.approx(other.faces[0].after, abs=1e-4)
        moved = np.abs(one.faces[0].face.landmarks - other.faces[0].face.landmarks)
        assert moved.max() <= 0.05
        change = np.abs(pixels(one.image) - pixels(Image.open(photo).convert("RGB")))
        assert change.max() > 10
        differ = np.abs(pixels(one.image) - pixels(other.image)) > 1
        assert differ.mean() <= 0.001


def test_strips_and_descriptions_are_those_of_pytorch(editors):
    one, other = (strip(editor, ASTRONAUT, ["Smiling", "Male"], -1, 2, 20) for editor in editors)
    assert np.abs(one.cells.astype(int) - other.cells.astype(int)).max() <= 2
    one, other = (editor.describe(ASTRONAUT)[0].attributes for editor in editors)
    assert one == pytest.approx(other, abs=1e-4)


def test_landmarks_of_portraits_are_those_of_pytorch(editors, shared_data):
    photos = sorted((shared_data / "portraits").rglob("*.jpg"))[:12]
    for photo in photos:
        one, other = (editor.faces(photo) for editor in editors)
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert np.abs(a.landmarks - b.landmarks).max() <= 0.05


def test_a_batch_of_one_runtime_is_gone_on_with_by_the_other(model, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    shutil.copy(ASTRONAUT, source / "a.jpg")
    edit = ("edit", source, "-o", tmp_path / "out", "--set", "Smiling=2", "--model", model)
    fader(*edit, "--runtime", "torch")
    shutil.copy(HOPPER, source / "b.jpg")
    done = fader(*edit, "--runtime", "onnx", "--workers", 2)
    assert "1 edited, 1 skipped" in done.stderr
    assert Image.open(tmp_path / "out" / "b.jpg").size == Image.open(HOPPER).size


@pytest.mark.timeout(60)
def test_processes_of_a_batch_open_the_networks_anew(model, tmp_path, monkeypatch):
    """Also where this one has used them: the threads of a session do not live on in a fork."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    from fader.attributes import parse_changes
    from fader.edit.folder import edit_folder, find_photos
    from fader.edit.job import Job

    source = tmp_path / "in"
    source.mkdir()
    for i in range(4):
        Image.open(ASTRONAUT).convert("RGB").rotate(i).save(source / f"{i}.png")
    editor = Editor(model, runtime="onnx")
    whole = pixels(editor.edit(source / "0.png", Smiling=2))
    job = Job(parse_changes("Smiling=2", editor.attributes))
    photos = find_photos(source)
    results = [
        r for rs in edit_folder(editor, source, photos, tmp_path / "out", job, 2) for r in rs
    ]
    assert [result.status for result in results] == ["edited"] * 4
    assert np.array_equal(pixels(Image.open(tmp_path / "out" / "0.png").convert("RGB")), whole)


def test_auto_takes_onnx_on_a_cpu_where_it_is(model, tmp_path, monkeypatch):
    monkeypatch.setattr("fader.edit.runtime._has_gpu", lambda: False)
    assert Editor(model).runtime == "onnx"
    assert Editor(model / "onnx").runtime == "onnx"
    assert Editor(make_model(tmp_path / "bare")).runtime == "torch"
    assert Editor(model, device="cuda").runtime == "torch"
    monkeypatch.setattr("fader.edit.runtime.installed", lambda: False)
    assert Editor(model).runtime == "torch"
    with pytest.raises(FaderError, match="pip install onnxruntime"):
        _ = Editor(model, runtime="onnx").runtime


def test_what_is_half_copied_is_no_form(model, tmp_path):
    shutil.copytree(model, tmp_path / "half")
    (tmp_path / "half" / "onnx" / "decoder.onnx").unlink()
    assert Editor(tmp_path / "half", "cpu").runtime == "torch"


def test_a_model_for_pytorch_is_not_replaced(model, tmp_path):
    other = make_model(tmp_path / "other", seed=1)
    before = {path.name: path.read_bytes() for path in other.iterdir()}
    done = fader("export", model, other, "--overwrite", code=1)
    assert "holds a model for PyTorch" in done.stderr
    assert {path.name: path.read_bytes() for path in other.iterdir()} == before


def test_a_form_alone_runs_also_beside_a_gpu(model, monkeypatch):
    monkeypatch.setattr("fader.edit.runtime._has_gpu", lambda: True)
    assert Editor(model).runtime == "torch"
    assert Editor(model / "onnx").runtime == "onnx"


def test_a_form_of_other_weights_is_not_taken(tmp_path):
    folder = make_model(tmp_path / "mine")
    fader("export", folder)
    make_model(folder, seed=1)  # as training does that goes on
    assert Editor(folder, "cpu").runtime == "torch"
    done = fader("edit", ASTRONAUT, "--set", "Smiling=2", "--model", folder, "--runtime", "onnx",
                 "-o", tmp_path / "a.png", code=1)  # fmt: skip
    assert "was made from other weights" in done.stderr
    assert "fader export" in done.stderr
    assert "already there" in fader("export", folder, code=1).stderr
    fader("export", folder, "--overwrite")
    assert Editor(folder, "cpu").runtime == "onnx"


def test_what_cannot_be_is_said(model, tmp_path):
    bare = make_model(tmp_path / "bare")
    ask = ("describe", ASTRONAUT, "--runtime", "onnx")
    assert "make it with fader export" in fader(*ask, "--model", bare, code=1).stderr
    done = fader(*ask, "--model", model, "--device", "cuda", code=1)
    assert "does not compute on cuda" in done.stderr
    assert "in ONNX already" in fader("export", model / "onnx", code=1).stderr
    blank = tmp_path / "blank.png"
    Image.new("RGB", (90, 90)).save(blank)
    done = fader("export", bare, "--photo", blank, code=1)
    assert f"{blank}: no face found" in done.stderr
    assert not (bare / "onnx" / "config.json").exists()
    with pytest.raises(FaderError, match="loaded already"):
        _ = Editor(FaderModel.load(bare), runtime="onnx").runtime


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_damaged_file_is_named(model, tmp_path, name):
    folder = shutil.copytree(model / "onnx", tmp_path / "onnx")
    whole = (folder / f"{name}.onnx").read_bytes()
    other = (folder / ("encoder.onnx" if name == "rnet" else "rnet.onnx")).read_bytes()
    for data in (whole[: len(whole) // 2], b"", other):
        (folder / f"{name}.onnx").write_bytes(data)
        with pytest.raises(FaderError, match=rf"{name}\.onnx"):
            Editor(folder).edit(ASTRONAUT, Smiling=2)
    (folder / f"{name}.onnx").unlink()
    with pytest.raises(FaderError):
        Editor(folder).edit(ASTRONAUT, Smiling=2)


def test_an_export_that_differs_is_not_written(tmp_path, monkeypatch):
    from fader.models import export

    model = FaderModel.load(make_model(tmp_path / "mine"))
    monkeypatch.setattr(export, "TOLERANCE", 0.0)
    with pytest.raises(FaderError, match="differs from PyTorch"):
        export.export_onnx(model, tmp_path / "out", tmp_path / "mine", export.faces_to_compare(64))
    assert not (tmp_path / "out").exists()


def test_editing_imports_no_torch(model, tmp_path):
    code = (
        "import sys; from fader.commands import main\n"
        f"sys.argv[1:] = ['edit', {os.fspath(ASTRONAUT)!r}, '--set', 'Smiling=2', '--model', "
        f"{os.fspath(model)!r}, '--device', 'cpu', '-o', {os.fspath(tmp_path / 'a.png')!r}]\n"
        "main(standalone_mode=False)\n"
        "assert not {'torch', 'facenet_pytorch', 'safetensors'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.fixture(scope="session")
def light_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a new environment with what requirements/onnx-app.txt asks for."""
    place = tmp_path_factory.mktemp("light") / "venv"
    made = subprocess.run([sys.executable, "-m", "venv", place], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no environment can be made here: {made.stderr or made.stdout}"[-300:])
    python = place / ("Scripts" if os.name == "nt" else "bin") / "python"
    needed = ROOT / "requirements" / "onnx-app.txt"
    install = [python, "-m", "pip", "install", "--quiet", "--no-compile", "-r", needed]
    done = subprocess.run(install, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"the package registry cannot be reached: {done.stderr.strip()[-300:]}")
    return python


def test_the_light_environment_edits_without_pytorch(light_python, model, tmp_path):
    folder = shutil.copytree(model / "onnx", tmp_path / "onnx")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [light_python, *map(str, arguments)]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    assert "No module named 'torch'" in run("-c", "import torch").stderr
    light = tmp_path / "light.png"
    edit = ("edit", ASTRONAUT, "--set", "Smiling=2", "--model", folder, "-o")
    done = run("-m", "fader", *edit, light)
    assert done.returncode == 0, done.stderr
    fader(*edit, tmp_path / "here.png", "--runtime", "onnx")
    assert np.array_equal(pixels(Image.open(light)), pixels(Image.open(tmp_path / "here.png")))
    for work in (
        ("strip", ASTRONAUT, "--attr", "Smiling", "--model", folder, "-o", "strip.png"),
        ("describe", ASTRONAUT, "--model", folder, "--json"),
        ("models",),
        ("--help",),
    ):
        done = run("-m", "fader", *work)
        assert done.returncode == 0, done.stderr
    source = tmp_path / "in"
    source.mkdir()
    for i in range(4):
        shutil.copy(ASTRONAUT, source / f"{i}.jpg")
    done = run("-m", "fader", "edit", source, "--set", "Smiling=2", "--model", folder, "-o",
               "out", "--workers", 2)  # fmt: skip
    assert "4 edited" in done.stderr
    for needs in (("evaluate", "--data", source), ("train", "--attrs", "Male")):
        done = run("-m", "fader", *needs)
        assert done.returncode == 1
        assert "pip install fader" in done.stderr
        assert "Traceback" not in done.stderr


def test_the_page_works_without_pytorch(light_python, model, tmp_path):
    code = (
        "from fader.app.server import create_app\n"
        "from fader.app.settings import Settings\n"
        "app = create_app(Settings(model=" + repr(os.fspath(model)) + "))\n"
        "state = app.state.fader\n"
        "from fader.edit.session import OpenPhoto\n"
        "photo = OpenPhoto(state.models.editor(), open("
        + repr(os.fspath(ASTRONAUT))
        + ", 'rb').read(), 'a.jpg')\n"
        "print(photo.preview(1, {'Smiling': 2.0}).size)\n"
        "print(state.models.describe(state.models.first)['attributes'])\n"
        "from fader.app.errors import Refused\n"
        "try: state.generators.catalogue()\n"
        "except Refused as error: print(error)\n"
    )
    done = subprocess.run(
        [light_python, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "['Smiling', 'Male']" in done.stdout
    assert "PyTorch is not installed" in done.stdout
