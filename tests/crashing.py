"""Work for processes, of which some is deadly."""

from __future__ import annotations

import os


def worker(editor):
    def work(task):
        if task.startswith("deadly"):
            os._exit(9)
        return f"{task} done"

    return work
