"""What the processes of ``train/test_processes.py`` run: ``fader`` with some arguments, and after
each ``then`` with others. In its first life rank 1 dies at the step ``FADER_TEST_DIES_AT``."""

from __future__ import annotations

import os
import signal
import sys

from fader.commands import main
from fader.train.trainer import Trainer


def dying(step: int) -> None:
    original = Trainer.step

    def patched(self, *batch):
        if self.share.rank == 1 and self.done == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, *batch)

    Trainer.step = patched  # type: ignore[method-assign]


if __name__ == "__main__":
    if os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0" and "FADER_TEST_DIES_AT" in os.environ:
        dying(int(os.environ["FADER_TEST_DIES_AT"]))
    commands = " ".join(sys.argv[1:]).split(" then ")
    for command in commands:
        main(command.split(), standalone_mode=False)
