"""
The public face: every change of it is a visible line in face.txt.

Public are the names in ``daglite.__all__`` and in the ``__all__`` of the modules right below it
whose names have no underscore. ``python tests/test_face.py --write`` writes the list again.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import sys
from pathlib import Path

import pytest

import daglite

FACE = Path(__file__).with_name("face.txt")
STUB = Path(daglite.__path__[0]) / "__init__.pyi"


def public_modules() -> list[str]:
    """daglite, and the modules right below it that say what is public."""
    below = (f"daglite.{found.name}" for found in pkgutil.iter_modules(daglite.__path__))
    public = (name for name in below if not name.startswith("daglite._"))
    return ["daglite", *(name for name in sorted(public) if names_of(name))]


def names_of(module: str) -> list[str]:
    """The names in the ``__all__`` of *module*."""
    return sorted(getattr(importlib.import_module(module), "__all__", ()))


def read_face() -> list[str]:
    """The face as it is now, one ``module.name`` a line."""
    return [f"{module}.{name}" for module in public_modules() for name in names_of(module)]


def read_stub() -> tuple[list[str], set[str]]:
    """The ``__all__`` of the stub that types the face, and the names that the stub binds."""
    listed: list[str] = []
    bound: set[str] = set()
    for node in ast.parse(STUB.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            bound.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            bound.add(node.target.id)
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            listed = list(ast.literal_eval(node.value))
        elif isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            bound.add(node.name)
    return listed, bound


def test_face_is_the_checked_in_list() -> None:
    """A public name came or went: if that is meant, run `make face` and say so in the changelog."""
    assert read_face() == FACE.read_text(encoding="utf-8").split()


@pytest.mark.parametrize("module", public_modules())
def test_public_names_are_there(module: str) -> None:
    """A module lists a public name that it doesn't have."""
    found = importlib.import_module(module)
    assert [name for name in names_of(module) if not hasattr(found, name)] == []


def test_stub_types_the_whole_face() -> None:
    """The type checkers see other names in daglite than Python does."""
    listed, bound = read_stub()
    assert sorted(listed) == names_of("daglite")
    assert set(listed) <= bound


def test_public_names_are_listed() -> None:
    """`dir(daglite)`, and so a prompt's completion, hides a public name."""
    assert set(names_of("daglite")) <= set(dir(daglite))


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python tests/test_face.py --write")
    FACE.write_text("".join(f"{line}\n" for line in read_face()), encoding="utf-8")
