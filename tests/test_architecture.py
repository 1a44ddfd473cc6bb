"""What keeps the code readable: imports go one way, and nothing grows too long."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from paths import ROOT

MODULE_LINES, FUNCTION_LINES = 400, 60

#: A package may import those of lower levels, and itself.
LEVELS = {
    0: ["errors", "_version"],
    1: ["attributes", "documents", "files", "interrupts", "processes", "progress", "urls", "words"],
    2: ["photo", "runtime"],
    3: ["faces"],
    4: ["data", "models"],
    5: ["edit", "train"],
    6: ["evaluate"],
    7: ["app"],
    8: ["commands", "__init__"],
    9: ["__main__"],
}
LEVEL = {package: level for level, packages in LEVELS.items() for package in packages}

#: What the generators share with the editor: photos and their faces, data, the keeping of a run,
#: classifiers that judge, the pages of an evaluation, and how commands speak. No network, training
#: or editing of it.
SHARED = {
    *(package for level in (0, 1, 2, 3) for package in LEVELS[level]),
    "data",
    *(f"models.{name}" for name in ("classifier", "folders", "model", "pretrained")),
    *(f"models.{name}" for name in ("schema", "small_maps", "weights")),
    *(f"train.{name}" for name in ("loop", "run", "inputs", "device", "ema", "schedule")),
    *(f"train.{name}" for name in ("adam", "settings", "classifier")),
    *(f"evaluate.{name}" for name in ("judge", "page", "reconstruction", "statistics")),
    *(f"commands.{name}" for name in ("CommandGroup", "echo", "options")),
}

MODULES = sorted(path for top in ("fader", "cgan") for path in (ROOT / top).rglob("*.py"))
SOURCES = [*MODULES, *sorted((ROOT / "tools").glob("*.py"))]


def name_of(path: Path) -> str:
    return os.fspath(path.relative_to(ROOT))


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every module of this project that ``path`` imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] in ("fader", "cgan"):
                yield node.lineno, name


def package_of(path: Path) -> str:
    return path.relative_to(ROOT / "fader").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_one_way(path: Path) -> None:
    wrong = []
    for line, name in imported(path):
        top, _, rest = name.partition(".")
        package = rest.split(".")[0]
        if name_of(path).startswith("cgan"):
            allowed = top == "cgan" or any(f"{rest}.".startswith(f"{s}.") for s in SHARED)
        elif top == "cgan":
            allowed = package_of(path) == "app"  # the page draws faces, too
        else:
            own, other = package_of(path), package if package in LEVEL else "__init__"
            allowed = own == other or LEVEL[other] < LEVEL[own]
        if not allowed:
            wrong.append(f"{name_of(path)}:{line} imports {name}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_is_too_long(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MODULE_LINES, f"split {name_of(path)}"
    long = [
        f"{name_of(path)}:{node.lineno} {node.name}"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno >= FUNCTION_LINES
    ]
    assert not long, f"functions of more than {FUNCTION_LINES} lines: {long}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_public_functions_are_typed(path: Path) -> None:
    """Arguments and results of all that has no leading underscore, methods as well."""
    untyped = []
    scopes: list[ast.Module | ast.ClassDef] = [ast.parse(path.read_text(encoding="utf-8"))]
    while scopes:
        for node in scopes.pop().body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                scopes.append(node)
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if node.name.startswith("_") and node.name != "__init__":
                continue
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            bare = [a.arg for a in arguments if not a.annotation and a.arg not in ("self", "cls")]
            if bare or (node.returns is None):
                untyped.append(f"{name_of(path)}:{node.lineno} {node.name} {bare}")
    assert not untyped, "\n".join(untyped)
