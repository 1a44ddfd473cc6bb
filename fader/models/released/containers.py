"""The three kinds of file that ``torch.save`` has written: zip, the stream before it, and tar."""

from __future__ import annotations

import io
import itertools
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fader.documents import check_regular
from fader.errors import FaderError
from fader.models.released.inert import InertError, Name, Record, read_inert

# Bytes of a file, of the pickles in it (which hold the classes' source), and of one of a number.
_LARGEST, _PICKLE, _SMALL = 1 << 30, 1 << 20, 1 << 14
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
# Members of a tar file, and storages and tensors of one; a network has some dozens.
_MOST_MEMBERS, _MOST_TENSORS = 16, 10_000

_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "LongStorage": torch.int64,
}
_STORAGES = {
    f"{module}.{name}": dtype
    for module in ("torch", "torch.cuda")
    for name, dtype in _DTYPES.items()
}
_TENSOR_TYPES = {name.replace("Storage", "Tensor") for name in _STORAGES}
_REBUILD = {"torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"}
_PARAMETER = {"torch.nn.parameter.Parameter", "torch._utils._rebuild_parameter"}
#: What tensors and parameters are pickled with, whatever they are a part of.
TENSOR_NAMES = {"collections.OrderedDict", "torch.Size", *_REBUILD, *_PARAMETER, *_STORAGES}


@dataclass
class _Storage:
    """``count`` numbers in the file, from byte ``place``; None until it is known."""

    dtype: torch.dtype
    count: int
    place: int | None = None


class Checkpoint(io.FileIO):
    """A file of ``torch.save``, open until the block ends: its ``root`` as inert data, and tensors.

    ``names`` are those that it may name beside :data:`TENSOR_NAMES`. No number is read before it is
    asked for. Raises :class:`FaderError` that names the file for one that is damaged, of another
    kind, or asks for other names.
    """

    def __init__(self, path: Path, names: set[str]) -> None:
        self.path, self.names = path, names | TENSOR_NAMES
        try:
            check_regular(path, _LARGEST)
            super().__init__(path)
        except OSError as error:
            raise FaderError(f"{path}: cannot be read ({error.strerror})") from None
        try:
            with _told(self.path):
                self.size = self.seek(0, io.SEEK_END)
                start = self._head(0, 512).read()
                older = _read_tar if start[257:262] == b"ustar" else _read_stream
                read = _read_zip if start.startswith(b"PK\x03\x04") else older
                self.root = read(self)
        except BaseException:
            self.close()
            raise

    def tensor(self, value: Any, shape: tuple[int, ...]) -> Tensor:
        """The tensor or parameter of ``shape`` that ``value`` stands for, in float32; else
        :class:`FaderError`."""
        with _told(self.path):
            if isinstance(value, Record) and value.name in _PARAMETER:
                value = value.args[0]
            rebuilt = isinstance(value, Record) and value.name in _REBUILD
            _need(rebuilt, "has something else where a tensor should be")
            storage, start, *sides = value.args[:4]
            size, stride = (_whole(side.args[0] if isinstance(side, Record) else side)
                            for side in sides)  # fmt: skip
            (start,) = _whole((start,))
            _need(size == shape, f"has a tensor of {_by(size)} where one of {_by(shape)} belongs")
            there = isinstance(storage, _Storage) and storage.place is not None
            _need(there, "lacks the numbers of a tensor")
            extent = 1 + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
            _need(start + extent <= storage.count, _BEYOND)
            each = storage.dtype.itemsize
            data = self._exactly(storage.place + start * each, extent * each)
            numbers = torch.frombuffer(bytearray(data), dtype=storage.dtype)
            return numbers.as_strided(size, stride).float().contiguous()

    def _head(self, place: int, most: int) -> io.BytesIO:
        self.seek(place)
        return io.BytesIO(self.read(most))

    def _exactly(self, place: int, count: int) -> bytes:
        _need(place + count <= self.size, "is cut short")
        return self._head(place, count).getvalue()


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What is wrong with the file, told as a :class:`FaderError` that names it."""
    try:
        yield
    except InertError as error:
        raise FaderError(f"{path}: {error}; nothing of it was run or imported") from None
    except (zipfile.BadZipFile, tarfile.TarError, struct.error, EOFError) as error:
        raise FaderError(f"{path}: is damaged or cut short ({error})") from None
    except (ValueError, TypeError, IndexError, KeyError, OverflowError):
        raise FaderError(f"{path}: is damaged, or no file of torch.save") from None
    except (OSError, RuntimeError) as error:
        raise FaderError(f"{path}: cannot be read ({error})") from None


class _Bounded(io.FileIO):
    """The file for a reader of archives, which is given directories and names of sane length."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _PICKLE:
            raise InertError(f"has {size:,} bytes of names or of a pickle, too many")
        return super().read(size)


# --- zip: torch 1.6 and later ---------------------------------------------------------------


def _read_zip(of: Checkpoint) -> Any:
    with _Bounded(of.path) as file, zipfile.ZipFile(file) as archive:
        entries = {info.filename.partition("/")[2]: info for info in archive.infolist()}
        order = entries.get("byteorder")
        _need(not order or archive.read(_stored(order, 16)) == b"little", _BIG_ENDIAN)
        pickled = archive.read(_stored(entries["data.pkl"], _PICKLE))
    storages: dict[str, _Storage] = {}

    def persistent(identity: Any) -> _Storage:
        _, kind, key, _, count = _identity(identity, "storage", 5)
        if _key(key) not in storages:
            storages[key] = _storage(kind, count)
            entry = _stored(entries[f"data/{key}"], _LARGEST)
            header = of._exactly(entry.header_offset, 30)
            size = storages[key].count * storages[key].dtype.itemsize
            _need(entry.file_size == size, _OTHER_LENGTH)
            # The lengths of the name and of what is beside it, which come before the numbers.
            storages[key].place = entry.header_offset + 30 + sum(struct.unpack("<HH", header[26:]))
        return storages[key]

    return read_inert(io.BytesIO(pickled), of.names, persistent)


def _stored(entry: zipfile.ZipInfo, most: int) -> zipfile.ZipInfo:
    """An entry that takes as many bytes of the file as it gives, and at most ``most``."""
    as_it_is = entry.compress_type == zipfile.ZIP_STORED and entry.compress_size == entry.file_size
    _need(as_it_is, "is compressed, as no file of torch.save is")
    too_many = f"has {entry.file_size:,} bytes of {entry.filename[:80]}, too many"
    _need(entry.file_size <= most, too_many)
    return entry


# --- a stream of pickles and numbers: torch 0.1.10 to 1.5 -----------------------------------


def _read_stream(of: Checkpoint) -> Any:
    head = of._head(0, _PICKLE)
    storages: dict[str, _Storage] = {}
    views: dict[str, tuple[_Storage, _Storage, int]] = {}

    def persistent(identity: Any) -> Any:
        if isinstance(identity, tuple) and identity[:1] == ("module",):
            return _identity(identity, "module", 4)[1]
        _, kind, key, _, count, view = _identity(identity, "storage", 6)
        root = storages.setdefault(_key(key), _storage(kind, count))
        if view is None:
            return root
        name, start, count = view
        (start,) = _whole((start,))
        return views.setdefault(_key(name), (root, _storage(kind, count), start))[1]

    # The first pickles are read with the same list, so that a pickle of something else is refused
    # by what it asks for.
    _need(read_inert(head, of.names) == _MAGIC, "is no file of torch.save")
    known = read_inert(head, of.names) == _PROTOCOL
    _need(known, "is a file of torch.save of an unknown version")
    _need(read_inert(head, of.names)["little_endian"], _BIG_ENDIAN)
    root = read_inert(head, of.names, persistent)
    keys = read_inert(head, set())
    place = head.tell()
    for key in keys:
        place = _numbers(of, place, storages[_key(key)])
    for whole, part, start in views.values():
        if whole.place is not None and start + part.count <= whole.count:
            part.place = whole.place + start * whole.dtype.itemsize
    return root


def _numbers(of: Checkpoint, place: int, storage: _Storage) -> int:
    """Where the numbers of ``storage`` end, that begin with their count at ``place``."""
    (count,) = struct.unpack("<q", of._exactly(place, 8))
    _need(count == storage.count, _OTHER_LENGTH)
    storage.place = place + 8
    end = storage.place + count * storage.dtype.itemsize
    _need(end <= of.size, "is cut short")
    return end


# --- tar: torch before 0.1.10 ---------------------------------------------------------------


def _read_tar(of: Checkpoint) -> Any:
    members: dict[str, tuple[int, int]] = {}  # first byte and size, by name
    with _Bounded(of.path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
        for member in itertools.islice(archive, _MOST_MEMBERS):
            if member.isreg() and not member.issparse():
                members[member.name.removeprefix("./")] = member.offset_data, member.size
    objects = _tar_storages(of, members["storages"])
    _tar_tensors(of, members["tensors"], objects)

    def persistent(identity: Any) -> Any:
        if isinstance(identity, tuple):  # a class with its source
            return identity[0]
        return objects[int(_key(identity))]

    start, size = members["pickle"]
    return read_inert(of._head(start, min(size, _PICKLE)), of.names, persistent)


def _tar_storages(of: Checkpoint, region: tuple[int, int]) -> dict[int, Any]:
    number, place = _next(of, region[0])
    objects: dict[int, Any] = {}
    for _ in range(_count(number)):
        (key, _, kind), place = _next(of, place)
        (count,) = struct.unpack("<q", of._exactly(place, 8))
        storage = objects[_key(key)] = _storage(kind, count)
        place = _numbers(of, place, storage)
    views, _ = _next(of, place)
    for key, root, start, count in views:
        whole = objects[_key(root)]
        start, count = _whole((start, count))
        _need(start + count <= whole.count, _BEYOND)
        place = whole.place + start * whole.dtype.itemsize
        objects[_key(key)] = _Storage(whole.dtype, count, place)
    return objects


def _tar_tensors(of: Checkpoint, region: tuple[int, int], objects: dict[int, Any]) -> None:
    number, place = _next(of, region[0])
    for _ in range(_count(number)):
        (key, storage, _), place = _next(of, place)
        (sides,) = struct.unpack("<i", of._exactly(place, 4))
        _need(0 <= sides <= 8, "has a tensor of impossible sides")
        # Four bytes of nothing follow the number of sides.
        values = struct.unpack(f"<{2 * sides + 1}q", of._exactly(place + 8, 8 * (2 * sides + 1)))
        place += 8 + 8 * len(values)
        size, stride, start = values[:sides], values[sides:-1], values[-1]
        args = (objects[_key(storage)], start, size, stride)
        objects[_key(key)] = Record("torch._utils._rebuild_tensor", args)


def _next(of: Checkpoint, place: int) -> tuple[Any, int]:
    """A small pickle at ``place``, and where it ends."""
    head = of._head(place, _SMALL)
    value = read_inert(head, of.names | _TENSOR_TYPES)
    return value, place + head.tell()


# --- what the file says, checked ------------------------------------------------------------


_BEYOND = "has a tensor that goes beyond its numbers"
_BIG_ENDIAN = "has its numbers in big-endian order, which is not read"
_OTHER_LENGTH = "has numbers of another length than it says"


def _need(fine: Any, otherwise: str) -> None:
    if not fine:
        raise InertError(otherwise)


def _identity(identity: Any, kind: str, length: int) -> tuple[Any, ...]:
    known = isinstance(identity, tuple) and len(identity) == length and identity[0] == kind
    _need(known, "asks for a persistent object that no file of torch.save has")
    return identity


def _storage(kind: Any, count: Any) -> _Storage:
    known = isinstance(kind, Name) and kind.text in _STORAGES
    _need(known, "has numbers of an unknown kind")
    return _Storage(_STORAGES[kind.text], *_whole((count,)))


def _key(value: Any) -> Any:
    # To hash a tuple goes as deep as the tuple, beyond what the process can bear.
    _need(isinstance(value, (str, int)), "has a key that is none")
    return value


def _whole(values: Any) -> tuple[int, ...]:
    fine = isinstance(values, tuple) and all(type(n) is int and 0 <= n < 1 << 40 for n in values)
    _need(fine, "has sizes that are none")
    return values


def _count(number: Any) -> int:
    fine = type(number) is int and 0 <= number <= _MOST_TENSORS
    _need(fine, "has a number of tensors that is none")
    return number


def _by(size: tuple[int, ...]) -> str:
    return "×".join(map(str, size[:8])) or "one number"
