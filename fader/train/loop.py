"""What every training does between two steps: progress, metrics, stops, the last checkpoint."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fader.errors import FaderError, NotFiniteError
from fader.interrupts import held_interrupts
from fader.progress import Progress
from fader.train.run import RunFolder

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class DivergedError(FaderError):
    """A loss is no number any more."""


@dataclass
class Loop:
    """The bookkeeping of one training, ``done`` of ``steps`` finished; made by
    :func:`training_loop`, which tells of its settings. ``writer`` is TensorBoard's, None without
    one. ``stopped`` says that there was a Ctrl-C, ``save_seconds`` how long the last checkpoint
    took."""

    run: RunFolder
    steps: int
    done: int
    log_every: int
    make_checkpoint: Callable[[], object] | None
    minutes: float | None
    agree: Callable[[bool], bool] | None
    progress: Progress
    interrupted: Callable[[], bool]
    writer: SummaryWriter | None

    def __post_init__(self) -> None:
        self.stopped, self.save_seconds = False, 0.0
        self._began = self._saved = self._window = time.monotonic()
        self._images = 0
        self._losses: dict[str, list[tuple[int, Tensor]]] = defaultdict(list)

    @property
    def last(self) -> bool:
        """Whether all steps are done."""
        return self.done >= self.steps

    def count(self, losses: dict[str, Tensor], images: int) -> dict[str, float] | None:
        """Take note of a finished step with its losses (each a single number) and image count.
        Every ``log_every`` steps, and at the last, returns ``step``, the losses' means since the
        last time, and ``images_per_second`` of training alone; else None: the losses are looked at
        only then, so that a GPU need not be waited for. Raises :class:`DivergedError`, which names
        a loss that is no number any more."""
        self.done += 1
        self._images += images
        for name, value in losses.items():
            self._losses[name].append((self.done, value.detach()))
        self.progress.update()
        if self.done % self.log_every and not self.last:
            return None
        means = self._means()
        seconds = max(time.monotonic() - self._window, 1e-9)
        row = {"step": self.done, **means, "images_per_second": round(self._images / seconds, 2)}
        self._losses.clear()
        self._images, self._window = 0, time.monotonic()
        return row

    def log(self, row: dict[str, Any], text: str) -> None:
        """Write a row of metrics, and show ``text`` beside the progress."""
        with self._guarded():
            self.run.log(self.run.metrics, row)
            self.scalars("train", row)
        self.progress.describe(text)

    def scalars(self, group: str, row: dict[str, Any]) -> None:
        """Write the row's numbers to TensorBoard, where there is one."""
        for name, value in row.items():
            if self.writer is not None and name != "step":
                self.writer.add_scalar(f"{group}/{name}", value, self.done)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Samples, validation and checkpoints: not counted in the rate of training. When a file
        cannot be written in it, a checkpoint is tried, and the :class:`FaderError` says what is
        kept."""
        paused = time.monotonic()
        with self._guarded():
            yield
        self._window += time.monotonic() - paused

    def must_stop(self) -> bool:
        """Whether the time is up or there was a Ctrl-C; to be asked once after each step."""
        self.stopped = self._any(self.interrupted())
        late = self.minutes is not None and time.monotonic() - self._began > self.minutes * 60
        return self._any(late) or self.stopped

    def save_is_due(self, seconds: float) -> bool:
        """Whether the last checkpoint (or the beginning) is longer ago than this."""
        return self._any(time.monotonic() - self._saved > seconds)

    def save(self) -> None:
        """Make a checkpoint, but none of a training that has diverged."""
        self._means()
        began = time.monotonic()
        if self.make_checkpoint is not None:
            self.make_checkpoint()
        self._saved = time.monotonic()
        self.save_seconds = self._saved - began

    def _any(self, flag: bool) -> bool:
        return self.agree(flag) if self.agree else flag

    def _means(self) -> dict[str, float]:
        means = {}
        for name, values in self._losses.items():
            numbers = torch.stack([value.float() for _, value in values]).tolist()
            for (step, _), number in zip(values, numbers, strict=True):
                if not math.isfinite(number):
                    raise self._diverged(step, f"{name} is {number}")
            means[name] = math.fsum(numbers) / len(numbers)
        return means

    def _diverged(self, step: int, sign: str) -> DivergedError:
        mend = "start again with a lower learning_rate"
        if paths := self.run.list_checkpoints():
            mend = (
                f"the last good checkpoint is {paths[-1]}; go on from it with --resume and a lower "
                "learning_rate"
            )
        return DivergedError(f"training diverged at step {step} ({sign}); {mend}")

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except DivergedError:
            raise
        except NotFiniteError:
            raise self._diverged(self.done, "its pictures are no numbers") from None
        except (OSError, FaderError) as error:
            self._means()  # what has diverged leads to other errors, too
            what, room = str(error), "make some room, or whatever it lacks, and"
            if isinstance(error, OSError):
                what = f"{error.filename or self.run.path}: could not be written ({error.strerror})"
            if self.make_checkpoint is None:
                raise FaderError(f"{what}; {room} start again") from None
            self._keep()
            paths = self.run.list_checkpoints()
            kept = f"all up to {paths[-1]} is kept" if paths else "there is no checkpoint yet"
            raise FaderError(f"{what}; {kept}: {room} go on with --resume") from None

    def _keep(self) -> None:
        """Try to make a checkpoint, at the cost of the oldest when there are several."""
        if self.agree is not None:
            return  # the other processes are not here to make it together
        for retry in (True, False):
            with suppress(OSError, FaderError):
                self.save()
            paths = self.run.list_checkpoints()
            if self.run.checkpoint_path(self.done) in paths or len(paths) < 2:
                return
            if retry:
                with suppress(OSError):
                    paths[0].unlink()


@contextmanager
def training_loop(
    run: RunFolder,
    steps: int,
    done: int = 0,
    *,
    log_every: int,
    save: Callable[[], object] | None = None,
    minutes: float | None = None,
    progress: bool = True,
    main: bool = True,
    agree: Callable[[bool], bool] | None = None,
) -> Iterator[Loop]:
    """The :class:`Loop` of a training from step ``done``, which holds its run while it lasts::

        with training_loop(run, steps, done, log_every=10, save=checkpoint) as loop:
            for x, y in batches:
                if loop.last:
                    break
                if row := loop.count(step(x, y), len(x)):
                    loop.log(row, f"loss={row['loss']:.3f}")
                stop = loop.must_stop()
                with loop.aside():
                    if stop or loop.last or loop.save_is_due(600):
                        loop.save()
                if stop:
                    break

    ``save`` makes a checkpoint of what is done. Stops after about ``minutes``, and when there was a
    Ctrl-C, which is held back until the step is whole and raises :class:`KeyboardInterrupt` in the
    end; a second one is not held back. ``main`` is false in processes that only help another;
    ``agree`` (flag → whether any process says so) is for several, which must act together.
    """
    with ExitStack() as stack:
        stack.callback(run.release)
        if main:
            run.hold()
        writer = stack.enter_context(_tensorboard(run, done) if main else nullcontext())
        shown = stack.enter_context(Progress(steps, done, shown=progress and main))
        interrupted = stack.enter_context(held_interrupts())
        loop = Loop(run, steps, done, log_every, save, minutes, agree, shown, interrupted, writer)
        yield loop
    if loop.stopped:
        raise KeyboardInterrupt


@contextmanager
def _tensorboard(run: RunFolder, done: int) -> Iterator[SummaryWriter]:
    from torch.utils.tensorboard import SummaryWriter

    try:
        writer = SummaryWriter(run.tensorboard, purge_step=done)
    except OSError as error:
        raise FaderError(f"{run.tensorboard}: cannot be written ({error.strerror})") from None
    try:
        yield writer
    finally:
        with suppress(OSError):  # metrics.jsonl has the same numbers
            writer.close()
