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
            machine.step(opcode.name, argument)
    except (ValueError, TypeError, IndexError, KeyError, OverflowError) as error:
        raise InertError(f"is damaged or cut short ({str(error)[:80]})") from None
    raise InertError("is cut short")


class _Machine:
    """Pickle's stack machine, without anything that calls."""

    def __init__(
        self, names: Collection[str], persistent: Callable[[Any], Any] | None = None
    ) -> None:
        self.names, self.persistent = names, persistent
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in ("GLOBAL", "INST"):
            self.name(*argument.split(" ", 1))
            if name == "INST":
                raise InertError(_NO_INSTRUCTION.format(name))
        elif name.startswith("TUPLE") and name != "TUPLE":
            self.stack[-int(name[5:]) :] = [tuple(self.take(int(name[5:])))]
        elif name not in ("PROTO", "FRAME"):
            action = getattr(self, f"on_{name.lower()}", None)
            if action is None:
                raise InertError(_NO_INSTRUCTION.format(name))
            action(*([] if argument is None else [argument]))

    def pop(self) -> Any:
        return self.stack.pop()

    def take(self, count: int) -> list[Any]:
        """The topmost values, which stay."""
        if len(self.stack) < count:
            raise IndexError("too few values")
        return self.stack[-count:]

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marked.pop()
        return items

    def name(self, module: str, name: str) -> None:
        text = f"{module}.{name}"
        if text not in self.names:
            raise InertError(f"asks for {text[:120]}")
        self.stack.append(Name(text))

    def on_stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        self.name(_a(str, module), _a(str, name))

    def on_mark(self) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def on_tuple(self) -> None:
        items = self.since_mark()
        self.stack.append(tuple(items))

    def on_list(self) -> None:
        items = self.since_mark()
        self.stack.append(items)

    def on_dict(self) -> None:
        items = self.since_mark()
        self.stack.append({})
        self.set_items(items)

    def on_put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    on_binput = on_long_binput = on_put

    def on_memoize(self) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def on_get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    on_binget = on_long_binget = on_get

    def on_append(self) -> None:
        item = self.pop()
        _a(list, self.stack[-1]).append(item)

    def on_appends(self) -> None:
        items = self.since_mark()
        _a(list, self.stack[-1]).extend(items)

    def on_setitem(self) -> None:
        value, key = self.pop(), self.pop()
        self.set_items([key, value])

    def on_setitems(self) -> None:
        self.set_items(self.since_mark())

    def set_items(self, items: list[Any]) -> None:
        mapping = _a(dict, self.stack[-1])
        for key, value in zip(items[::2], items[1::2], strict=True):
            # A tuple's hash goes as deep as the tuple, beyond what the process can bear.
            mapping[_a((str, int), key)] = value

    def on_reduce(self) -> None:
        args, made = _a(tuple, self.pop()), _a(Name, self.pop())
        if made.text == "collections.OrderedDict" and not args:
            self.stack.append({})
        else:
            self.stack.append(Record(made.text, args))

    on_newobj = on_reduce

    def on_build(self) -> None:
        state = self.pop()
        _a(Record, self.stack[-1]).state = state

    def on_binpersid(self) -> None:
        if self.persistent is None:
            raise InertError("asks for a persistent object where there is none")
        self.stack.append(self.persistent(self.pop()))


_NO_INSTRUCTION = "has the instruction {}, which no file of torch.save has"
_VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "BINFLOAT", "FLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}


def _a(kind: Any, value: Any) -> Any:
    """``value``, which must be of ``kind``."""
    if not isinstance(value, kind):
        raise TypeError(f"a {type(value).__name__} where it cannot be")
    return value
