"""``cgan progress``."""

from __future__ import annotations

from pathlib import Path

import click

from fader.commands.echo import say


@click.command("progress", epilog="Example: cgan progress runs/faces")
@click.argument("run", type=click.Path(path_type=Path))
def command(run: Path) -> None:
    """Write RUN/progress.gif, RUN/losses.png and RUN/grid.png of a run so far.

    The end of a training writes them too; this is for a look while it goes on.
    """
    from cgan.trainer import save_progress
    from fader.train.run import RunFolder

    for path in save_progress(RunFolder(run, samples="snapshots")):
        say(path)
