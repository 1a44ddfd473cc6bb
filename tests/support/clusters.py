"""A cluster's work without a cluster: the machines' part of a run, in this process."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import numpy as np
from fakes import FakeModel, made_face

from fader import Editor
from fader.edit.cluster.places import place_of
from fader.edit.cluster.work import Run, Worker, batches, write_report
from fader.edit.report import header, source_mark


def made_editor() -> Editor:
    """A model and a detector whose answers are known: a face in the middle of what is large."""
    made = Editor(FakeModel(), device="cpu")

    def detect(image):
        height, width = image.shape[:2]
        if min(height, width) < 100:
            return []
        x, y = width / 2, height / 2
        face = made_face(center=(x, y))
        return [replace(face, box=np.array([x - 30, y - 40, x + 30, y + 40]))]

    made.__dict__["detector"] = detect
    return made


def made_run(editor, source, destination, job, name="1") -> Run:
    columns = tuple(header(editor, job))
    mark = source_mark(source, destination) if hasattr(source, "parts") else str(source)
    settings = job.settings(editor)
    places = (str(source), str(destination))
    name = name.zfill(20)
    return Run(*places, job, settings, mark, name, columns, False, "fake", "cpu", "torch", 1)


def work_through(editor, run, complete=True):
    """Do all of a run; the statuses, and the files that are no photos."""
    worker = Worker(run, editor)
    statuses, others = {}, Counter()
    for batch in batches(run):
        answer = json.loads(worker(batch))
        others.update(answer["others"])
        statuses |= {row["input"]: row["status"] for row in answer.get("rows", ())}
    write_report(run, place_of(run.destination), complete)
    return statuses, others
