"""Pickles as inert data: nothing that a pickle names is ever imported, called or made.

A pickle is a program. This is a machine for it that knows values, containers and a closed list of
names. Where Python's would call what a name stands for, this one writes down the name and what it
would be called with.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, BinaryIO


class InertError(Exception):
    """A pickle that is damaged, or asks for something that is not on the list."""


@dataclass(frozen=True)
class Name:
    """What would be imported, as ``module.name``."""

    text: str


@dataclass(eq=False)
class Record:
    """What the call of ``name`` with ``args`` would be, and the state it would be given."""

    name: str
    args: tuple[Any, ...]
    state: Any = None


def read_inert(
    file: BinaryIO, names: Collection[str], persistent: Callable[[Any], Any] | None = None
) -> Any:
    """The value of the next pickle in ``file``, which is left after it.

    ``names`` are those that may be named. ``persistent`` gives the value for a persistent id;
    without it there are none. An ``OrderedDict`` is a dict, if it is named at all; all else that
    is made is a :class:`Record`.

    Raises :class:`InertError` with what the pickle asks for, or what is wrong with it.
    """
    machine = _Machine(names, persistent)
    try:
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == "STOP":
                return machine.pop()
            if opcode.name == "INST":  # a GLOBAL that calls
                machine.name(*str(argument).split(" ", 1))
            if opcode.name not in _ACTIONS:
                raise InertError(
                    f"has the instruction {opcode.name}, which no file of torch.save has"
                )
            _ACTIONS[opcode.name](machine, argument)
    except (ValueError, TypeError, IndexError, KeyError, OverflowError) as error:
        raise InertError(f"is damaged or cut short ({str(error)[:80]})") from None
    raise InertError("is cut short")


class _Machine:
    """Pickle's stack machine, without anything that calls."""

    def __init__(self, names: Collection[str], persistent: Callable[[Any], Any] | None) -> None:
        self.names, self.persistent = names, persistent
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        return self.stack.pop()

    def mark(self) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marked.pop()
        return items

    def put(self, place: int) -> None:
        self.memo[place] = self.stack[-1]

    def name(self, module: str, name: str) -> None:
        text = f"{module}.{name}"
        if text not in self.names:
            raise InertError(f"asks for {text[:120]}")
        self.push(Name(text))

    def name_on_stack(self) -> None:
        name, module = self.pop(), self.pop()
        self.name(_a(str, module), _a(str, name))

    def make_tuple(self, count: int) -> None:
        if len(self.stack) < count:
            raise IndexError("too few values")
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def make_dict(self) -> None:
        items = self.since_mark()
        self.push({})
        self.set_items(items)

    def extend(self, items: list[Any]) -> None:
        _a(list, self.stack[-1]).extend(items)

    def set_items(self, items: list[Any]) -> None:
        mapping = _a(dict, self.stack[-1])
        for key, value in zip(items[::2], items[1::2], strict=True):
            # A tuple's hash goes as deep as the tuple, beyond what the process can bear.
            mapping[_a((str, int), key)] = value

    def make(self) -> None:
        args, made = _a(tuple, self.pop()), _a(Name, self.pop())
        ordered = made.text == "collections.OrderedDict" and not args
        self.push({} if ordered else Record(made.text, args))

    def build(self) -> None:
        state = self.pop()
        _a(Record, self.stack[-1]).state = state

    def persist(self) -> None:
        if self.persistent is None:
            raise InertError("asks for a persistent object where there is none")
        self.push(self.persistent(self.pop()))


_VALUES = (
    "INT BININT BININT1 BININT2 LONG LONG1 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING "
    "BINBYTES SHORT_BINBYTES UNICODE BINUNICODE SHORT_BINUNICODE"
)
# What an instruction does, given its argument; there are no others.
_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME"), lambda m, _: None),
    **dict.fromkeys(_VALUES.split(), lambda m, value: m.push(value)),
    "NONE": lambda m, _: m.push(None),
    "NEWTRUE": lambda m, _: m.push(True),
    "NEWFALSE": lambda m, _: m.push(False),
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "EMPTY_LIST": lambda m, _: m.push([]),
    "EMPTY_DICT": lambda m, _: m.push({}),
    "MARK": lambda m, _: m.mark(),
    "TUPLE": lambda m, _: m.push(tuple(m.since_mark())),
    "TUPLE1": lambda m, _: m.make_tuple(1),
    "TUPLE2": lambda m, _: m.make_tuple(2),
    "TUPLE3": lambda m, _: m.make_tuple(3),
    "LIST": lambda m, _: m.push(m.since_mark()),
    "DICT": lambda m, _: m.make_dict(),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), lambda m, place: m.put(place)),
    "MEMOIZE": lambda m, _: m.put(len(m.memo)),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda m, place: m.push(m.memo[place])),
    "APPEND": lambda m, _: m.extend([m.pop()]),
    "APPENDS": lambda m, _: m.extend(m.since_mark()),
    "SETITEM": lambda m, _: m.set_items([m.pop(), m.pop()][::-1]),
    "SETITEMS": lambda m, _: m.set_items(m.since_mark()),
    "GLOBAL": lambda m, text: m.name(*text.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m.name_on_stack(),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), lambda m, _: m.make()),
    "BUILD": lambda m, _: m.build(),
    "BINPERSID": lambda m, _: m.persist(),
}


def _a(kind: Any, value: Any) -> Any:
    """``value``, which must be of ``kind``."""
    if not isinstance(value, kind):
        raise TypeError(f"a {type(value).__name__} where it cannot be")
    return value
