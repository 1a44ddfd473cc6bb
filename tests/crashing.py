"""Work for processes, of which some is deadly."""

from __future__ import annotations

import os


def worker(editor):
    def work(pull):
        while (task := pull(True)) is not None:
            if task.startswith("deadly"):
                os._exit(9)
            yield task, f"{task} done"

    return work
