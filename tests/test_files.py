import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fader import files
from fader.errors import FaderError
from fader.files import atomic_path, file_lock, make_folder, sweep_temporaries, write_text

posix = pytest.mark.skipif(os.name == "nt", reason="needs POSIX")

HOLDER = """
import sys
from fader.files import file_lock
with file_lock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""


def failing(number):
    def call(*_, **__):
        raise OSError(number, os.strerror(number))

    return call


@pytest.fixture
def holder(tmp_path):
    """Another process that holds ``tmp_path/lock``."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_lock_is_held_by_one_and_freed_by_its_death(tmp_path, holder):
    with pytest.raises(FaderError, match="another process"), file_lock(tmp_path / "lock"):
        pass
    with pytest.raises(FaderError, match=r"^taken$"), file_lock(tmp_path / "lock", held="taken"):
        pass
    holder.kill()
    holder.wait()
    with file_lock(tmp_path / "lock"):
        pass
    assert not (tmp_path / "lock").exists()


def test_a_lock_can_be_waited_for(tmp_path, holder):
    threading.Timer(0.2, holder.kill).start()
    with file_lock(tmp_path / "lock", wait=True):
        assert holder.wait() != 0


@posix
def test_a_lock_whose_file_is_removed_by_its_holder_is_taken_anew(tmp_path, monkeypatch):
    """Who waited would hold a file that is gone, and let a third one in."""
    lock, real, ended = tmp_path / "lock", files._lock, []

    def after_the_first_is_done(handle):
        if not ended:
            ended.append(lock.unlink())
        return real(handle)

    monkeypatch.setattr(files, "_lock", after_the_first_is_done)
    with file_lock(lock):
        monkeypatch.undo()
        with pytest.raises(FaderError, match="another process"), file_lock(lock):
            pass


@posix
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS])
def test_disks_without_locks_do_without(tmp_path, monkeypatch, number):
    import fcntl

    monkeypatch.setattr(fcntl, "flock", failing(number))
    with file_lock(tmp_path / "lock"):
        pass


@posix
def test_a_lock_never_touches_what_is_not_its_own(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / "link").symlink_to(precious)
    with pytest.raises(FaderError, match="cannot be written"), file_lock(tmp_path / "link"):
        pass
    with file_lock(precious):
        pass
    assert precious.read_text() == "mine"


@pytest.mark.parametrize("call", ["chmod", "fsync"])
@pytest.mark.parametrize("number", [errno.EPERM, errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_disks_without_permissions_or_flushing_take_files_all_the_same(
    tmp_path, monkeypatch, call, number
):
    monkeypatch.setattr(os, call, failing(number))
    write_text(tmp_path / "a.txt", "text")
    assert (tmp_path / "a.txt").read_text() == "text"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_what_the_disk_refuses_names_the_file_that_was_to_be(tmp_path, monkeypatch, number):
    monkeypatch.setattr(os, "fsync", failing(number))
    with pytest.raises(OSError, match=r"a\.txt") as caught:
        write_text(tmp_path / "a.txt", "text")
    assert caught.value.filename == str(tmp_path / "a.txt")
    assert not list(tmp_path.iterdir())


@posix
def test_the_folder_is_flushed_after_the_rename(tmp_path, monkeypatch):
    flushed, real = [], os.fsync

    def fsync(handle):
        flushed.append(os.readlink(f"/proc/self/fd/{handle}") if Path("/proc").is_dir() else "")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(tmp_path / "a.txt", "text")
    assert len(flushed) == 2 and flushed[1] in (str(tmp_path), "")


@posix
def test_a_file_is_readable_by_no_more_people_than_before(tmp_path):
    private = tmp_path / "private"
    write_text(private, "old")
    private.chmod(0o600)
    write_text(private, "new")
    assert private.stat().st_mode & 0o777 == 0o600
    with atomic_path(tmp_path / "copy", mode=0o600) as temporary:
        temporary.write_text("of it")
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600


def test_only_our_own_temporaries_are_swept(tmp_path):
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path / "a.txt") as temporary:
        left = temporary.name
        _ = 1 / 0
    (tmp_path / left).write_text("of a killed process")
    (tmp_path / ".tmp-mine.txt").write_text("mine")
    (tmp_path / left.replace(".txt", ".d")).mkdir()
    sweep_temporaries(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        ".tmp-mine.txt",
        left.replace(".txt", ".d"),
    }


@posix
def test_folders_within_folders_without_end(tmp_path):
    deep = tmp_path.joinpath(*"d" * 1500)
    make_folder(deep)
    assert deep.is_dir()
    while deep != tmp_path:  # pytest's own way to remove it calls itself
        deep.rmdir()
        deep = deep.parent
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="file is a file, not a folder"):
        make_folder(tmp_path / "file")
    with pytest.raises(NotADirectoryError, match="file is a file, not a folder"):
        make_folder(tmp_path / "file" / "below")
