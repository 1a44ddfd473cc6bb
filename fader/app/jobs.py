"""Folders of photos: edited in a temporary directory, which is gone when the job is."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import shutil
import stat
import tempfile
import threading
import time
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from fader.app.errors import Refused
from fader.app.settings import MOST_PHOTOS, MOST_UNPACKED
from fader.app.uploads import ZipLimits, is_zip, unpack_photos
from fader.edit.editor import Editor
from fader.edit.job import Job as EditJob
from fader.errors import FaderError
from fader.files import file_lock
from fader.photo import kind_of

_PREFIX, _LOCK = "fader-app-", ".lock"
# Jobs that are not finished, and finished ones whose result is kept, at most.
_MOST_JOBS, _MOST_RESULTS = 4, 8
# Seconds: a directory this young may be about to be locked; a job that is sent no more is given up.
_YOUNG, _GIVEN_UP = 60, 900


@dataclass
class FolderJob:
    """One folder: ``state`` is waiting (for photos), running, done, cancelled or failed."""

    id: str
    folder: Path
    state: str = "waiting"
    total: int = 0
    done: int = 0
    size: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    latest: str = ""
    detail: str = ""
    result: IO[bytes] | None = None
    used: float = field(default_factory=time.monotonic)
    cancelled: threading.Event = field(default_factory=threading.Event)
    held: ExitStack = field(default_factory=ExitStack)
    reading: threading.Lock = field(default_factory=threading.Lock)
    watched: list[asyncio.Event] = field(default_factory=list)

    @property
    def over(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in ("done", "cancelled", "failed")

    def to_dict(self) -> dict[str, Any]:
        """How far it is, for JSON."""
        names = ("id", "state", "total", "done", "counts", "latest", "detail")
        return {name: getattr(self, name) for name in names}


class Jobs:
    """The folder jobs of a server; one runs at a time."""

    def __init__(self, idle: float) -> None:
        self._idle = idle
        self._jobs: dict[str, FolderJob] = {}
        self._turn = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads: list[threading.Thread] = []

    def __len__(self) -> int:
        return sum(not job.over for job in self._jobs.values())

    def create(self) -> FolderJob:
        """A job that waits for photos."""
        if len(self) >= _MOST_JOBS:
            raise Refused(429, "other folders are being edited right now; try again later")
        self._loop = asyncio.get_running_loop()
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        job = FolderJob(secrets.token_urlsafe(16), folder)
        job.held.callback(shutil.rmtree, folder, ignore_errors=True)
        job.held.enter_context(file_lock(folder / _LOCK))
        (folder / "photos").mkdir()
        self._jobs[job.id] = job
        return job

    def get(self, name: str) -> FolderJob:
        """The job with this id; else :class:`Refused`."""
        if job := self._jobs.get(name):
            job.used = time.monotonic()
            return job
        raise Refused(404, "there is no folder job with this id")

    def add(self, job: FolderJob, files: list[tuple[str, bytes]]) -> None:
        """Put photos, or zips of photos, into a job that waits for them."""
        if job.state != "waiting":
            raise Refused(409, "this folder takes no more photos: it has been started")
        photos = job.folder / "photos"
        for name, data in files:
            left = ZipLimits(MOST_PHOTOS - job.total, MOST_UNPACKED - job.size)
            if is_zip(data):
                inside = photos if not job.total else photos / f"zip-{job.total}"
                job.total += unpack_photos(data, name, inside, left)
                job.size = sum(f.stat().st_size for f in photos.rglob("*") if f.is_file())
                continue
            if left.entries < 1 or len(data) > left.unpacked:
                raise Refused(413, f"a folder may have {MOST_PHOTOS} photos and 1 GB at most")
            (photos / _free(photos, name)).write_bytes(data)
            job.total, job.size = job.total + 1, job.size + len(data)

    def start(self, job: FolderJob, editor: Callable[[], Editor], edit: EditJob) -> None:
        """Edit what the job has, in a thread of its own."""
        if job.state != "waiting":
            raise Refused(409, "this folder has been started already")
        if not job.total:
            raise Refused(422, "there are no photos in this folder to edit; send some first")
        job.state = "running"
        thread = threading.Thread(target=self._run, args=(job, editor, edit), daemon=True)
        self._threads.append(thread)
        thread.start()

    def cancel(self, job: FolderJob) -> None:
        """Stop a job; a photo under way is not waited for."""
        job.cancelled.set()
        if job.state == "waiting":
            job.held.close()
        if job.result:
            job.result.close()
        if job.result or not job.over:
            job.result, job.state = None, "cancelled"
        self._tell(job)

    def close(self, patience: float = 10) -> None:
        """Cancel all, and wait until their directories are gone."""
        for job in list(self._jobs.values()):
            self.cancel(job)
        for thread in self._threads:
            thread.join(patience)

    def sweep(self) -> None:
        """Give up jobs that are sent nothing, forget results that nobody fetches."""
        now = time.monotonic()
        for job in list(self._jobs.values()):
            if job.state == "waiting" and now - job.used > _GIVEN_UP:
                self.cancel(job)
            if job.over and now - job.used > self._idle:
                self.cancel(job)
                del self._jobs[job.id]
        kept = [job for job in self._jobs.values() if job.result]
        for job in sorted(kept, key=lambda job: job.used)[:-_MOST_RESULTS]:
            self.cancel(job)

    async def events(self, job: FolderJob) -> AsyncIterator[dict[str, Any]]:
        """How far the job is, each time that changes, until it is over."""
        event = asyncio.Event()
        job.watched.append(event)
        try:
            while True:
                event.clear()
                over = job.over
                yield job.to_dict()
                if over:
                    return
                await event.wait()
        finally:
            job.watched.remove(event)

    def _tell(self, job: FolderJob) -> None:
        def tell() -> None:
            for event in job.watched:
                event.set()

        if self._loop is not None and not self._loop.is_closed():
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(tell)

    def _run(self, job: FolderJob, editor: Callable[[], Editor], edit: EditJob) -> None:
        try:
            while not self._turn.acquire(timeout=0.2):
                if job.cancelled.is_set():
                    return
            try:
                self._edit(job, editor(), edit)
            finally:
                self._turn.release()
        except FaderError as error:
            job.detail, job.state = str(error).replace(f"{job.folder}{os.sep}", ""), "failed"
        except OSError as error:
            job.detail, job.state = f"the folder failed ({error.strerror or error})", "failed"
        except Exception:
            job.detail, job.state = "something is wrong in the server", "failed"
            raise
        finally:
            job.held.close()
            self._tell(job)

    def _edit(self, job: FolderJob, editor: Editor, edit: EditJob) -> None:
        from fader.edit.folder import edit_folder, look_through

        source, destination = job.folder / "photos", job.folder / "edited"
        photos = look_through(source)[0]
        job.total = len(photos)
        self._tell(job)
        with closing(edit_folder(editor, source, photos, destination, edit)) as results:
            while not job.cancelled.is_set() and (some := next(results, None)) is not None:
                status = max((result.status for result in some), default="failed")
                job.done += 1
                job.counts[status] = job.counts.get(status, 0) + 1
                job.latest = str(Path(some[0].input).relative_to(source)) if some else ""
                self._tell(job)
        if job.cancelled.is_set():
            return
        # Without a name, so that nothing of it is left whatever happens.
        result = tempfile.TemporaryFile()  # noqa: SIM115
        with zipfile.ZipFile(result, "w", zipfile.ZIP_STORED) as archive:
            for path in sorted(destination.rglob("*")):
                if path.is_file() and not path.name.startswith(".fader-"):
                    archive.write(path, path.relative_to(destination))
        if job.cancelled.is_set():
            result.close()
            return
        job.result, job.state, job.used = result, "done", time.monotonic()


def remove_leftovers() -> None:
    """Remove the directories of jobs whose server was killed."""
    place = Path(tempfile.gettempdir())
    for folder in place.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            found = folder.lstat()
            theirs = hasattr(os, "getuid") and found.st_uid != os.getuid()
            if not stat.S_ISDIR(found.st_mode) or theirs:
                continue
            locked = (folder / _LOCK).exists()
            if not locked and time.time() - found.st_mtime < _YOUNG:
                continue
            with suppress(FaderError), file_lock(folder / _LOCK):
                shutil.rmtree(folder, ignore_errors=True)


def _free(folder: Path, name: str) -> str:
    """A name for a file that is new in ``folder``; by its last part, and short."""
    plain = "".join(c for c in name.replace("\\", "/").split("/")[-1] if c.isprintable())
    stem, suffix = Path(plain.lstrip(".") or "photo").stem[-100:], Path(plain).suffix[-10:]
    # A file is searched for by its suffix.
    suffix = suffix if kind_of(suffix) else f"{suffix}.jpg"
    names = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
    return next(f"{one}{suffix}" for one in names if not (folder / f"{one}{suffix}").exists())
