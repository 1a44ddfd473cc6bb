"""``fader`` in several processes, which torchrun's own agent starts and restarts.

``training_in_parts.py [torchrun's options] -- some arguments [then others]``. The processes are
forked from one that has PyTorch loaded. In its first life rank 1 dies at the step
``FADER_TEST_DIES_AT``, and says so: the agent may name the other rank, whose connection breaks.
"""

from __future__ import annotations

import os
import signal
import sys

import torch._dynamo  # what the first optimizer loads
import torch.distributed.tensor  # what Accelerate loads
import torch.utils.tensorboard  # noqa: F401
from torch.distributed.launcher.api import elastic_launch
from torch.distributed.run import config_from_args, get_args_parser

from fader.commands import main
from fader.train.trainer import Trainer


def dying(step: int) -> None:
    original = Trainer.step

    def patched(self, *batch):
        if self.share.rank == 1 and self.done == step:
            print(f"rank 1 dies at step {step}", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, *batch)

    Trainer.step = patched  # type: ignore[method-assign]


def live(commands: list[str]) -> None:
    restarts = os.environ["TORCHELASTIC_RESTART_COUNT"]
    print(f"restarts: {restarts}", file=sys.stderr, flush=True)
    if restarts == "0" and "FADER_TEST_DIES_AT" in os.environ:
        dying(int(os.environ["FADER_TEST_DIES_AT"]))
    for command in commands:
        main(command.split(), standalone_mode=False)


if __name__ == "__main__":
    options, _, arguments = " ".join(sys.argv[1:]).partition(" -- ")
    config, *_ = config_from_args(get_args_parser().parse_args([*options.split(), __file__]))
    config.start_method = "fork"
    elastic_launch(config, live)(arguments.split(" then "))
