"""How fast a training's batches are read from stores; every figure is printed as JSON.

    python tools/bench_store.py data/celeba-128 shards s3://bucket/celeba-128

The places are read in turns, with batches as ``fader train`` draws them and nothing else to do, so
that whatever else the machine does falls on all. ``ratio`` is against the first place.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import click
import numpy as np

from fader.data.batches import Augmentation, Batches
from fader.data.store import PreparedStore
from fader.urls import path_or_url


def read(store: PreparedStore, batch_size: int, seconds: float, seed: int) -> tuple[int, float]:
    """Read random batches for so long: images, and seconds."""
    rows = store.indices(0)
    labels = np.zeros((len(rows), 0), np.float32)
    batches = Batches(store, rows, labels, batch_size, Augmentation(), seed)
    images, begun = 0, time.perf_counter()
    with closing(batches.from_step(0)) as endless:
        while time.perf_counter() < begun + seconds:
            images += len(next(endless)[0])
        return images, time.perf_counter() - begun


@click.command()
@click.argument("places", nargs=-1, required=True, type=path_or_url)
@click.option("--batch-size", default=16, show_default=True)
@click.option("--seconds", default=5.0, show_default=True, help="Of a turn.")
@click.option("--turns", default=3, show_default=True)
def main(places: tuple[Path | str, ...], batch_size: int, seconds: float, turns: int) -> None:
    """Images/s of random batches from prepared stores: folders, shards, URLs."""
    stores = {str(place): PreparedStore(place) for place in places}
    images: Counter[str] = Counter()
    spent: Counter[str] = Counter()
    for store in stores.values():  # connections are made, files are in memory
        read(store, batch_size, 0.1, turns)
    for turn in range(turns):
        for place, store in stores.items():
            count, took = read(store, batch_size, seconds, turn)
            images[place] += count
            spent[place] += took
    rates = {place: images[place] / spent[place] for place in stores}
    first = rates[str(places[0])]
    found = {
        place: {"images_per_second": round(rate, 1), "ratio": round(rate / first, 3)}
        for place, rate in rates.items()
    }
    click.echo(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
