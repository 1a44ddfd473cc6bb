"""Many photos on many machines: how long, at what waste, when photos fail, machines are slow or are
lost. Backs the figures of docs/scale.md; its defaults are those figures' assumptions.

    python tools/simulate_cluster.py --photos 1e8 --rate 1.51 --nodes 64

A cluster of ``nodes`` machines works on blocks of photos, each core on one at a time. A photo takes
a log-normal time with the mean 1 / ``rate`` seconds and may fail, and is tried again within its
block. A machine is lost after an exponential time, with the blocks in its cores' hands, which are
done again by others; another takes its place. Some machines are slow.
"""

from __future__ import annotations

import heapq
import json
from dataclasses import dataclass, field
from typing import Any

import click
import numpy as np

#: Standard deviation of the logarithm of a photo's seconds: photos of a folder differ in size, and
#: in how many faces they have.
SPREAD = 0.5


@dataclass
class Cluster:
    """Machines, each with the hours at which it came up and will be lost, and its speed."""

    nodes: int
    cores: int  # of each
    loss_hours: float  # mean hours to a machine's loss
    start_hours: float  # until a lost one is replaced
    slow: float  # share of slow machines
    slowness: float  # how many times as long they take
    random: np.random.Generator
    losses: int = 0
    up: np.ndarray = field(init=False)
    lost: np.ndarray = field(init=False)
    pace: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.up = np.zeros(self.nodes)
        self.lost = self.random.exponential(self.loss_hours, self.nodes)
        self.pace = np.where(self.random.random(self.nodes) < self.slow, self.slowness, 1.0)

    def replace(self, node: int) -> None:
        """Another machine in place of one that is lost."""
        self.losses += 1
        self.up[node] = self.lost[node] + self.start_hours
        self.lost[node] = self.up[node] + self.random.exponential(self.loss_hours)
        self.pace[node] = self.slowness if self.random.random() < self.slow else 1.0


def simulate(
    cluster: Cluster, photos: float, rate: float, block: int, fails: float
) -> dict[str, Any]:
    """Work until every photo is done: ``hours`` beside the ``ideal_hours`` of machines without
    fault, ``core_hours``, and what went wrong; the numbers are the command's options."""
    random, ideal = cluster.random, photos / rate / 3600
    nodes, cores = cluster.nodes, cluster.cores
    blocks = int(np.ceil(photos / block))
    waiting, worked, wasted, hours = blocks, 0.0, 0.0, 0.0
    blocks_again = photos_again = 0
    # A block is so many photos that its time is near normal.
    variation = np.sqrt(np.expm1(SPREAD**2) / block)
    free = [(0.0, worker) for worker in range(nodes * cores)]
    busy: list[float] = []  # when the blocks in hand that will be lost are lost
    while waiting or busy:
        if not waiting:  # all wait for what is being lost to be done again
            free = [(max(busy[0], at), other) for at, other in free]
            heapq.heapify(free)
        now, worker = heapq.heappop(free)
        while busy and busy[0] <= now:
            heapq.heappop(busy)
            waiting, blocks_again = waiting + 1, blocks_again + 1
        node = worker // cores
        while cluster.lost[node] <= now:
            cluster.replace(node)
        if (up := float(cluster.up[node])) > now:
            heapq.heappush(free, (up, worker))
            continue
        again = random.binomial(block, fails)
        tries = (block + again) * max(0.1, random.normal(1, variation))
        end = now + tries / rate / 3600 * cluster.pace[node]
        waiting -= 1
        if end > cluster.lost[node]:
            end = float(cluster.lost[node])
            wasted += end - now
            heapq.heappush(busy, end)
        else:
            photos_again += again
            hours = max(hours, end)
        worked += end - now
        heapq.heappush(free, (float(end), worker))
    return {
        "cores": nodes * cores,
        "ideal_core_hours": round(ideal, 1),
        "core_hours": round(float(worked), 1),
        "ideal_hours": round(ideal / nodes / cores, 3),
        "hours": round(float(hours), 3),
        "machines_lost": cluster.losses,
        "blocks_done_again": blocks_again,
        "core_hours_lost": round(float(wasted), 2),
        "photos_tried_again": photos_again,
    }


@click.command()
@click.option("--photos", default=1e6, show_default=True, help="How many.")
@click.option("--rate", default=1.51, show_default=True, help="Photos a second of one core.")
@click.option("--nodes", default=4, show_default=True, help="Machines.")
@click.option("--cores", default=16, show_default=True, help="Of each machine.")
@click.option("--block", default=1000, show_default=True, help="Photos a core takes at a time.")
@click.option("--loss-hours", default=100.0, show_default=True, help="Mean hours to a loss.")
@click.option("--start-hours", default=0.1, show_default=True, help="Until one is replaced.")
@click.option("--slow", default=0.03, show_default=True, help="Share of slow machines.")
@click.option("--slowness", default=2.0, show_default=True, help="How many times as long.")
@click.option("--fails", default=1e-4, show_default=True, help="Chance that a try fails.")
@click.option("--seed", default=0, show_default=True)
def main(photos: float, rate: float, block: int, fails: float, seed: int, **machines: Any) -> None:
    """Simulate a batch on a cluster, and print what becomes of it as JSON."""
    cluster = Cluster(random=np.random.default_rng(seed), **machines)
    click.echo(json.dumps(simulate(cluster, photos, rate, block, fails), indent=2))


if __name__ == "__main__":
    main()
