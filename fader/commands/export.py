"""``fader export``."""

from __future__ import annotations

from pathlib import Path

import click

from fader.commands.echo import say
from fader.commands.options import PATH, folder_to_write, overwrite_option, refuse_replacing
from fader.errors import FaderError


@click.command(
    epilog="""Examples:

    \b
    fader export runs/mine
    fader export runs/mine mine-onnx/
    """
)
@click.argument("model", metavar="NAME|FOLDER|HUB_ID")
@click.argument("folder", required=False, type=PATH, callback=folder_to_write)
@click.option(
    "--photo",
    "photos",
    multiple=True,
    type=PATH,
    help="A photo whose faces the networks are compared on; default: faces in the package.",
)
@overwrite_option
def command(model: str, folder: Path | None, photos: tuple[Path, ...], overwrite: bool) -> None:
    """Write a model as ONNX, for machines without PyTorch.

    FOLDER is by default onnx/ in the model's own, where fader edit finds it. All networks are
    compared with PyTorch, and what differs is not written. The folder is printed.
    """
    from fader.models.folders import CONFIG, find_model, is_onnx_form

    source = find_model(model)
    if is_onnx_form(source):
        raise FaderError(f"{source}: is a model in ONNX already")
    place = folder or source / "onnx"
    if any(place.glob("*.safetensors")):
        raise FaderError(
            f"{place}: holds a model for PyTorch; export into a folder of its own, such as "
            f"{place / 'onnx'}"
        )
    refuse_replacing(place / CONFIG, overwrite)

    from fader.models.export import OPSET, export_onnx, faces_to_compare
    from fader.models.pretrained import load_model

    loaded = load_model(source)
    largest = export_onnx(loaded, place, source, faces_to_compare(loaded.size, photos))
    size = sum(path.stat().st_size for path in place.glob("*.onnx")) / 1e6
    say(
        f"opset {OPSET}, any batch, {size:.1f} MB; at most {largest:.1g} from PyTorch's answers",
        err=True,
    )
    say(place)
