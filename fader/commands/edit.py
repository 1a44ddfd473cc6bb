"""``fader edit``."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fader.attributes import WORDS, parse_changes, parse_words
from fader.commands.cluster import check_cluster_use, cluster_of, cluster_options
from fader.commands.echo import say, say_json
from fader.commands.options import (
    editor_options,
    json_option,
    make_editor,
    names_folder,
    overwrite_option,
    usage,
    user_parameter,
)
from fader.errors import FaderError
from fader.files import check_folder
from fader.words import plural

if TYPE_CHECKING:
    from fader.edit.cluster.engine import Cluster
    from fader.edit.editor import Editor
    from fader.edit.job import FileId, Job, Result
    from fader.edit.runtime import Runtime

# What can become of a photo; of its variants, the worst counts.
_BAD = ("edited", "skipped", "no-face", "unreadable", "failed")


def _checked(parse: Callable[[str], Any]) -> Callable[[str], str]:
    """Refuse text that ``parse`` refuses. It is parsed again for the model, once that is known."""

    def check(text: str) -> str:
        parse(text)
        return text

    return check


def _face(text: str) -> str | int:
    if text in ("largest", "all"):
        return text
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise FaderError(f"{text!r} is not 'largest', 'all' or a face's number, from 1")


def _box(text: str) -> tuple[float, ...]:
    try:
        x0, y0, x1, y1 = (float(part) for part in text.split(","))
    except ValueError:
        raise FaderError(f"{text!r} is not X0,Y0,X1,Y1 in pixels, such as 100,50,400,380") from None
    if not (x0 < x1 and y0 < y1):
        raise FaderError(f"{text!r} is empty; X1 and Y1 are the right and the lower edge")
    return x0, y0, x1, y1


class _EditCommand(click.Command):
    """Lets ``--variants A=0,1 B=0,1`` take all that follow and look like ``NAME=V,V``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        spread: list[str] = []
        previous = ""
        for arg in args:
            more = spread[-2:-1] == ["--variants"] and re.fullmatch(r"\w+=[^/]*,[^/]*", arg)
            spread += ["--variants", arg] if more and previous != "--variants" else [arg]
            previous = arg
        return super().parse_args(ctx, spread)


@click.command(
    cls=_EditCommand,
    epilog="""Examples:

    \b
    fader edit photo.jpg --set Smiling=0
    fader edit photo.jpg --set Male=0,Young=1 --to smiling -o out.png
    fader edit holiday/ -o edited/ --to older --face all
    fader edit portraits/ -o sets/ --variants Male=0,1 Young=0,1
    """,
)
@click.argument("photos", nargs=-1, required=True, metavar="PHOTO...", type=click.Path())
@click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="NAME=V[,NAME=V]",
    callback=user_parameter(_checked(parse_changes)),
    help="Set an attribute to a value: 0 is without, 1 is with, beyond exaggerates. "
    "NAME=+0.5 or NAME=-0.5 moves it from what the face has; Hair=Blond picks one of a group; "
    "2:NAME=V is for the second largest face alone.",
)
@click.option(
    "--to",
    "words",
    multiple=True,
    metavar="WORD[,WORD]",
    callback=user_parameter(_checked(parse_words)),
    help=f"The same in words: {', '.join(WORDS)}.",
)
@click.option(
    "-o",
    "--out",
    metavar="OUT",
    help="A file for one photo; a folder, as in new/, for several or for a folder. "
    "Default: PHOTO.edited.EXT beside the photo.",
)
@click.option(
    "--face",
    default="largest",
    metavar="largest|all|N",
    callback=user_parameter(_face),
    help="Which face to edit; N counts from the largest, which is 1.",
)
@click.option(
    "--where",
    metavar="X0,Y0,X1,Y1",
    callback=user_parameter(_box),
    help="Only faces whose middle is in this box, in pixels of the upright photo.",
)
@click.option(
    "--variants",
    multiple=True,
    metavar="NAME=V,V...",
    help="An output for every combination of these values, named by them, with estimates before "
    "and after in the report: --variants Male=0,1 Young=0,1 gives four.",
)
@click.option(
    "--output",
    type=click.Choice(["photo", "crop", "pair"]),
    default="photo",
    help="The whole photo; the decoder's own image of the face; or before and after together.",
)
@click.option(
    "--quality",
    type=click.IntRange(1, 100),
    metavar="1-100",
    help="Quality of JPEG, WebP and AVIF outputs; else a JPEG's own, and 95 for others.",
)
@click.option(
    "--provenance/--no-provenance",
    default=True,
    show_default=False,
    help="Whether outputs say that they were edited, in their metadata; they do.",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Processes that share a folder's photos; default: what the machine has.",
)
@cluster_options
@overwrite_option
@editor_options
@json_option
def command(
    photos: tuple[str, ...],
    sets: tuple[str, ...],
    words: tuple[str, ...],
    out: str | None,
    variants: tuple[str, ...],
    workers: int | None,
    engine: str,
    overwrite: bool,
    model: str,
    device: str,
    runtime: Runtime,
    as_json: bool,
    **options: Any,
) -> None:
    """Edit face attributes in photos, or in all photos of a folder.

    The path of each photo written is printed. An input is never overwritten. A folder's edits keep
    its tree and come with a report.csv; run again, what is finished is not done again.
    """
    if not (sets or words or variants):
        raise click.UsageError("nothing to change; give --set, such as --set Smiling=0, or --to")
    names = _variant_names(variants)
    cluster = cluster_of(engine, options)
    folder: Path | None = None
    files: list[tuple[Path, list[Path]]] = []
    if cluster:
        source, target = check_cluster_use(photos, out, workers, overwrite, as_json)
    else:
        folder, files = _on_this_machine(photos, out, names)

    from fader.edit.job import Job, combinations

    # The machines of a cluster have devices of their own.
    editor = make_editor(model, "cpu" if cluster else device, runtime)
    known = editor.attributes
    changes = [change for text in words for change in parse_words(text, known)]
    changes += [change for text in sets for change in parse_changes(text, known)]
    sides = combinations(variants, known) if variants else ()
    job = Job(changes, overwrite=overwrite, variants=sides, **options)
    if cluster:
        run = _edit_on_cluster(editor, source, target, job, device, cluster)
    elif folder and out:
        run = _edit_folder(editor, folder, Path(out), job, workers)
    else:
        run = _edit_files(editor, files, job)
    statuses = _told(run, as_json)
    # In a folder, photos of other things than faces are to be expected.
    harmless = {"edited"} if files else {"edited", "skipped", "no-face"}
    if not statuses <= harmless:
        raise SystemExit(1)


def _on_this_machine(
    photos: tuple[str, ...], out: str | None, names: list[str]
) -> tuple[Path | None, list[tuple[Path, list[Path]]]]:
    """The folder to edit, or the photos with their outputs."""
    for name in photos if out is None else (*photos, out):
        if "://" in name:
            raise click.UsageError(f"{name}: is a URL; add --engine ray")
    paths = tuple(map(Path, photos))
    folder = _folder(paths, None if out is None else Path(out))
    return folder, [] if folder else _places(paths, out, names)


def _variant_names(variants: tuple[str, ...]) -> list[str]:
    """The names of the combinations of ``--variants``; one empty name without any."""
    from fader.attributes import ATTRIBUTES
    from fader.edit.job import combinations

    try:
        return [name for name, _ in combinations(variants, ATTRIBUTES)] if variants else [""]
    except FaderError as error:
        raise click.BadParameter(str(error), param_hint="--variants") from None


def _told(run: Generator[Result], as_json: bool) -> set[str]:
    """Tell all results of ``run``, each as it comes or as JSON at the end; their statuses."""
    results: list[Result] = []
    statuses: set[str] = set()
    try:
        with closing(run):
            for result in run:
                statuses.add(result.status)
                if as_json:
                    results.append(result)
                elif result.output and result.status == "edited":
                    say(result.output)
                if result.detail and not (result.status == "skipped" and result.output):
                    kind = "Note" if result.status in ("edited", "skipped") else "Error"
                    say(f"{kind}: {result.detail}", err=True)
    except KeyboardInterrupt:
        say("Stopped. Run the same again to go on from here.", err=True)
        raise SystemExit(130) from None
    if as_json:
        say_json([result.to_dict() for result in results])
    return statuses


def _edit_files(
    editor: Editor, files: list[tuple[Path, list[Path]]], job: Job
) -> Generator[Result]:
    from tqdm import tqdm

    from fader.edit.job import edit_file

    inputs = [photo for photo, _ in files]
    written: dict[FileId, Path] = {}
    for photo, outputs in tqdm(files, disable=None if len(files) > 1 else True, unit="photo"):
        yield from edit_file(editor, photo, outputs, job, inputs, written)


def _edit_folder(
    editor: Editor, folder: Path, out: Path, job: Job, workers: int | None
) -> Generator[Result]:
    """Edit a folder's photos and sum up at the end."""
    from fader.edit.folder import edit_folder, look_through
    from fader.edit.report import REPORT
    from fader.edit.workers import sensible_workers

    photos, others = look_through(folder)
    workers = workers or sensible_workers(editor, len(photos))
    batch = edit_folder(editor, folder, photos, out, job, workers)
    yield from _summed(batch, len(photos), others, out / REPORT)


def _edit_on_cluster(
    editor: Editor, source: str, target: str, job: Job, device: str, cluster: Cluster
) -> Generator[Result]:
    from fader.edit.cluster.engine import edit_on_cluster
    from fader.edit.cluster.places import place_of
    from fader.edit.report import REPORT

    others: Counter[str] = Counter()
    batch = edit_on_cluster(editor, source, target, job, device, cluster, others)
    yield from _summed(batch, None, others, place_of(target).full(REPORT))


def _summed(
    batch: Generator[list[Result]], total: int | None, others: Counter[str], report: object
) -> Generator[Result]:
    """The results of many photos, with a progress bar, summed up at the end."""
    from tqdm import tqdm

    from fader.edit.folder import counted

    counts: Counter[str] = Counter()
    faces, begin = 0, time.monotonic()
    with tqdm(total=total, disable=None, unit="photo") as bar, closing(batch):
        for results in batch:
            counts[max((result.status for result in results), key=_BAD.index)] += 1
            faces += max(result.faces for result in results)
            bar.set_postfix(faces=faces, failures=counts["failed"] + counts["unreadable"])
            bar.update()
            yield from results
    seconds, done = time.monotonic() - begin, sum(counts.values())
    parts = ", ".join(f"{counts[status]} {status}" for status in _BAD if counts[status])
    passed = f"; passed over: {counted(others)}" if others else ""
    pace = f"{seconds:.1f} s ({done / seconds:.1f} photos/s)"
    found = f"{plural(done, 'photo')}: {parts}; {plural(faces, 'face')}"
    say(f"{found}; {pace}{passed}; report: {report}", err=True)


def _folder(photos: tuple[Path, ...], out: Path | None) -> Path | None:
    """The folder to edit, if one is given; with what makes no sense refused."""
    folder = next((photo for photo in photos if photo.is_dir()), None)
    if folder is None:
        return None
    if len(photos) > 1:
        raise click.UsageError(f"{folder} is a folder; give it alone, or photos only")
    if out is None:
        raise click.UsageError(f"{folder} is a folder; name the folder for the edits with -o")
    with usage():
        check_folder(out)
    if out.resolve() == folder.resolve() or folder.resolve() in out.resolve().parents:
        raise click.UsageError(
            f"-o {out}: is in the folder to edit; choose a place outside {folder}"
        )
    return folder


def _places(
    photos: tuple[Path, ...], out: str | None, names: list[str]
) -> list[tuple[Path, list[Path]]]:
    """Each photo with its output files, one per variant."""
    from fader.edit.outputs import beside, inside

    folder = Path(out or "")
    if out is not None:
        if len(photos) == len(names) == 1 and not (names_folder(out) or folder.is_dir()):
            return [(photos[0], [folder])]
        with usage():
            check_folder(folder)

    def place_of(photo: Path, name: str) -> Path:
        return beside(photo, name) if out is None else inside(folder, Path(photo.name), name)

    places = [(photo, [place_of(photo, name) for name in names]) for photo in photos]
    taken: dict[Path, Path] = {}
    for photo, outputs in places:
        for place in outputs:
            if place in taken:
                raise click.UsageError(f"{taken[place]} and {photo} would both become {place}")
            taken[place] = photo
    return places
