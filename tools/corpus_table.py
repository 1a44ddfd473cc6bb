"""What becomes of bad and odd files, as a Markdown table: ``python tools/corpus_table.py``.

The files are those of the tests, made anew; each goes through ``fader edit`` as one of a folder.
"""

from __future__ import annotations

import csv
import sys
import tempfile
from pathlib import Path

import click
from click.testing import CliRunner

ROOT = Path(__file__).parent.parent
sys.path += [str(ROOT), str(ROOT / "tests" / "support")]


@click.command()
def main() -> None:
    """Print what becomes of each bad and odd file."""
    from corpus import write_corpus

    from fader.commands import main as fader

    with tempfile.TemporaryDirectory() as name:
        source, out = Path(name, "in"), Path(name, "out")
        meanings = write_corpus(source)
        arguments = ["edit", str(source), "-o", str(out), "--set", "Smiling=2", "--workers", "1"]
        CliRunner().invoke(fader, [*arguments, "--device", "cpu"])
        print("| file | what it is | status | message |\n| --- | --- | --- | --- |")
        with open(out / "report.csv", newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                message = row["detail"].removeprefix(f"{row['input']}: ")
                print(
                    f"| `{row['input']}` | {meanings[row['input']]} | {row['status']} | {message} |"
                )


if __name__ == "__main__":
    main()
