"""Mutated files through every reader: ``python tools/fuzz_readers.py --files 2000 --workers 2``.

Small good inputs are made anew (photos, zips, tables of labels, prepared stores, models,
generators, runs); of each, copies with one file damaged at random are read as the commands would.
A copy is read, or refused in one sentence; anything else is trouble: a traceback, a process that
dies, more than ``--seconds`` or ``--megabytes``. What made trouble is kept in ``--keep``, with the
traceback. The same ``--seed`` makes the same copies.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

import click

# What is damaged is made as tests make it.
sys.path.append(str(Path(__file__).parent.parent / "tests" / "support"))

from fuzzed_inputs import READERS

# Pieces that have been trouble in some reader or other.
HOSTILE = (
    *(b"", b"\0" * 16, b"\xff" * 8, b"\x7f\xff\xff\xff", b"\0\0\0\1", b"9" * 20, b"9" * 5000),
    *(b"-1", b"0", b"1e30", b"1e400", b"NaN", b"Infinity", b"null", b"[" * 5000, b"{", b'"'),
    *(b",", b"\n", b"\r", b"../../", b"/etc/", b"\xc3\x28", b"\x1b]0;\7", b"x" * 140_000),
    *(b"PK\1\2", b"PK\5\6", b"IHDR", b"\xff\xd8\xff\xe1"),
)
# A case may take this many times the seconds it may compute.
_PATIENCE = 6
REFUSED, READ, TROUBLE = "refused", "read", ("traceback", "died", "slow", "memory")


class Result(NamedTuple):
    """What became of one file: the kind of end, the error's text, time and memory."""

    kind: str
    detail: str = ""
    seconds: float = 0.0
    megabytes: float = 0.0


def mutate(data: bytes, rng: random.Random) -> bytes:
    """``data`` cut short, or with one to five places changed."""
    if rng.random() < 0.08:
        return data[: rng.randrange(len(data) + 1)]
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(data) + 1)
        length = rng.choice((0, 1, 1, 2, 4, 8, 50))
        if rng.random() < 0.5:
            new = bytes(rng.randrange(256) for _ in range(length or 1))
        elif rng.random() < 0.2:  # a piece from elsewhere in it
            start = rng.randrange(len(data) + 1)
            new = data[start : start + rng.choice((4, 30, 300))]
        else:
            new = rng.choice(HOSTILE)
        data = data[:at] + new + data[at + length :]
    return data


def run_case(name: str, seeds: Path, place: Path, case: int, seed: int) -> Result:
    """Damage a copy of the reader's input, at ``place``, and read it."""
    from fader.errors import FaderError

    reader, rng = READERS[name], random.Random(f"{seed} {name} {case}")
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(seeds / name, place)
    path = rng.choice(sorted(path for path in place.glob(reader.files) if path.is_file()))
    path.write_bytes(mutate(path.read_bytes(), rng))
    os.utime(path)
    forget_peak()
    before, start, output = memory("VmRSS"), time.process_time(), io.StringIO()
    try:
        with warnings.catch_warnings(), redirect_stdout(output), redirect_stderr(output):
            warnings.simplefilter("ignore")
            reader.read(place)
        kind, detail = READ, ""
    except (FaderError, click.ClickException) as error:
        kind, detail = REFUSED, getattr(error, "message", str(error))
        if "\n" in detail.strip() or not detail.strip():
            kind, detail = "traceback", f"not one sentence: {detail!r}"
    except BaseException:
        kind, detail = "traceback", traceback.format_exc()
    return Result(kind, detail, time.process_time() - start, memory("VmHWM") - before)


def memory(key: str) -> float:
    """A field of Linux' ``/proc/self/status`` in megabytes; elsewhere 0."""
    with suppress(OSError), open("/proc/self/status") as file:
        for line in file:
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) / 1000
    return 0.0


def forget_peak() -> None:
    """Let the kernel measure this process's peak of memory anew."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def work(pipe: Connection, seeds: Path, place: Path, seed: int, megabytes: int) -> None:
    """Answer each case that comes through the pipe with its :class:`Result`."""
    import matplotlib.pyplot  # noqa: F401
    import torch

    import cgan.trainer  # noqa: F401
    import fader.models.pretrained  # noqa: F401

    torch.set_num_threads(1)
    with open(os.devnull, "w") as null:
        os.dup2(null.fileno(), 2)  # libraries in C write their complaints there
    with suppress(ImportError):
        import resource

        most = int((memory("VmSize") + 2 * megabytes) * 1e6)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    while (case := pipe.recv()) is not None:
        pipe.send(run_case(*case[:1], seeds, place, case[1], seed))


class Worker:
    """A process that does one case after another, and is replaced when it dies or is too slow."""

    def __init__(self, number: int, *arguments: Any) -> None:
        self.place, self.arguments = Path(arguments[0]).parent / f"case-{number}", arguments
        self.case: tuple[str, int] | None = None
        self.start()

    def start(self) -> None:
        """Start a fresh process, which is not warm yet."""
        seeds, seed, megabytes = self.arguments
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(
            target=work, args=(other, seeds, self.place, seed, megabytes), daemon=True
        )
        self.process.start()
        other.close()
        self.warm = False

    def give(self, case: tuple[str, int]) -> None:
        """Send the process a case to read."""
        self.case, self.since = case, time.monotonic()
        self.pipe.send(case)

    def result(self, seconds: float) -> Result | None:
        """The case's result when there is one; a process that is beyond hope is replaced."""
        if self.pipe.poll():
            with suppress(EOFError, ConnectionError):
                self.warm = True
                return self.pipe.recv()
            self.process.join()
            found = Result("died", f"exit code {self.process.exitcode}")
        # Its imports, at first, take longer than any case, and others may have the processor.
        elif time.monotonic() - self.since < (_PATIENCE if self.warm else 2 * _PATIENCE) * seconds:
            return None
        else:
            self.process.kill()
            self.process.join()
            found = Result("slow", f"no answer in {_PATIENCE * seconds:g} s", seconds)
        self.start()
        return found


@click.command()
@click.option("--files", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--readers", default=",".join(READERS), show_default=True)
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True)
@click.option("--seconds", default=10.0, show_default=True, help="Of computing, for each file.")
@click.option("--megabytes", type=int, default=1500, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--keep", type=click.Path(path_type=Path), default="fuzz-trouble", show_default=True)
def main(
    files: int, readers: str, workers: int, seconds: float, megabytes: int, seed: int, keep: Path
) -> None:
    """Read FILES mutated files in all, shared among the readers."""
    names = [name.strip() for name in readers.split(",")]
    parts = sum(READERS[name].part for name in names)
    counts = {name: max(1, round(files * READERS[name].part / parts)) for name in names}
    cases = [(name, case) for name in names for case in range(counts[name])]
    random.Random(seed).shuffle(cases)
    with tempfile.TemporaryDirectory() as folder:
        seeds = Path(folder, "seeds")
        for name in names:
            (seeds / name).mkdir(parents=True)
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                READERS[name].make(seeds / name)
                # What is not read undamaged would be refused for nothing.
                shutil.copytree(seeds / name, Path(folder, "good", name))
                READERS[name].read(Path(folder, "good", name))
        pool = [Worker(number, seeds, seed, megabytes) for number in range(workers)]
        results: dict[str, list[Result]] = {name: [] for name in names}
        with suppress(KeyboardInterrupt):  # what there is so far is told
            run_all(cases, pool, seconds, megabytes, keep, results)
        for worker in pool:
            worker.process.kill()
    troubles = " | ".join(TROUBLE)
    print(f"| reader | files | read | refused | {troubles} | slowest, s | most, MB |")
    print("| --- " * 10 + "|")
    for name in names:
        found = results[name] or [Result("none")]
        counted = Counter(result.kind for result in found)
        columns = " | ".join(str(counted[kind]) for kind in (READ, REFUSED, *TROUBLE))
        slowest, most = max(r.seconds for r in found), max(r.megabytes for r in found)
        print(f"| {name} | {len(results[name])} | {columns} | {slowest:.1f} | {most:.0f} |")
    if any(result.kind in TROUBLE for found in results.values() for result in found):
        sys.exit(f"see {keep}")


def run_all(
    cases: list[tuple[str, int]],
    pool: list[Worker],
    seconds: float,
    megabytes: int,
    keep: Path,
    results: dict[str, list[Result]],
) -> None:
    """Have the pool do all cases, and note their results."""
    from tqdm import tqdm

    with tqdm(total=len(cases), unit="file") as bar:
        while cases or any(worker.case for worker in pool):
            for worker in pool:
                if not worker.case and cases:
                    worker.give(cases.pop())
            wait([worker.pipe for worker in pool if worker.case], timeout=1)
            for worker in pool:
                if not worker.case or (result := worker.result(seconds)) is None:
                    continue
                if result.megabytes > megabytes:
                    result = result._replace(kind="memory")
                elif result.seconds > seconds:
                    result = result._replace(kind="slow")
                name, case = worker.case
                worker.case = None
                results[name].append(result)
                bar.update()
                if result.kind in TROUBLE:
                    kept = keep / f"{name}-{case}-{result.kind}"
                    shutil.copytree(worker.place, kept, dirs_exist_ok=True)
                    (keep / f"{kept.name}.txt").write_text(result.detail or result.kind)


if __name__ == "__main__":
    main()
