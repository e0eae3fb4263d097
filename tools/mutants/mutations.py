"""
The small changes of one module that are tried.

They are all of cosmic-ray's, and two of our own: a statement left out, a keyword argument left
out. What only a type checker can see isn't one: annotations, `@final`, protocols, the `*` of a
signature. Nor is what Python itself warns of, such as `x is "text"`.
"""

from __future__ import annotations

import difflib
import hashlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import parso
from cosmic_ray.ast import ast_nodes
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names
from parso.tree import NodeOrLeaf, search_ancestor

Place = tuple[int, int]
"""Line, counted from 1, and column, counted from 0."""

NEED_ARGUMENTS = {"VariableInserter", "VariableReplacer"}
"""cosmic-ray's operators that have to be told names of variables."""

STAY = {"import_name", "import_from", "string", "strings", "global_stmt", "nonlocal_stmt"}
"""Kinds of statements that aren't left out."""


class Mutation(NamedTuple):
    """A change of one module."""

    path: Path
    name: str  # of the operator
    line: int  # the first that differs, from 1
    before: str
    after: str
    source: str  # the whole changed module

    @property
    def key(self) -> str:
        """Stays the same as long as the module does."""
        return hashlib.sha256(self.source.encode()).hexdigest()[:16]

    def __str__(self) -> str:
        place = f"{self.path.parent.name}/{self.path.name}:{self.line}"
        return f"{place}  {self.name}\n    - {self.before}\n    + {self.after}"


def is_hint(node: NodeOrLeaf) -> bool:
    """Whether it is `@final`, a decorator in a protocol, or the `*` of a signature."""
    if node.type != "decorator":
        return node == "*" and node.parent.type == "parameters"
    holder = search_ancestor(node, "classdef")
    superclasses = holder and holder.get_super_arglist()
    in_protocol = superclasses is not None and "Protocol" in superclasses.get_code()
    return in_protocol or node.get_code().strip() == "@final"


def find_hints(tree: NodeOrLeaf) -> list[tuple[Place, Place]]:
    """From where to where reaches what only a type checker looks at."""
    found = []
    for node in ast_nodes(tree):
        if node.type in ("annassign", "tfpdef"):
            hint = node.children[2 if node.type == "tfpdef" else 1]
        elif node.type == "funcdef" and node.annotation is not None:
            hint = node.annotation
        elif is_hint(node):
            hint = node
        else:
            continue
        found.append((hint.start_pos, hint.end_pos))
    return found


def replace_tokens(source: str) -> Iterator[tuple[str, str]]:
    """cosmic-ray's mutations: the operator's name and the changed source."""
    tree = parso.parse(source)
    nodes = list(ast_nodes(tree))
    hints = find_hints(tree)
    for full_name in operator_names():
        name = full_name.rpartition("/")[2]
        if name in NEED_ARGUMENTS:
            continue
        operator = get_operator(full_name)()
        places = (place for node in nodes for place, _ in operator.mutation_positions(node))
        for occurrence, place in enumerate(places):
            if any(start <= place < end for start, end in hints):
                continue
            changed = mutate_code(source, operator, occurrence)
            if changed is not None:
                yield name, changed


def stays(line: NodeOrLeaf) -> bool:
    """Whether a statement isn't to be left out: the module would be the same, or none at all."""
    statement, text = line.children[0], line.get_code().strip()
    holder = search_ancestor(line, "funcdef", "classdef")
    if holder is None or statement.type in STAY or text in ("pass", "..."):
        return True
    if statement.type == "expr_stmt" and statement.children[-1].type == "annassign":
        return "=" not in statement.children[-1].children
    ends = line.parent.parent is holder and line.get_next_sibling() is None
    return ends and text in ("return", "return None")


def leave_out(source: str) -> Iterator[tuple[str, str]]:
    """Our own mutations: the name and the changed source."""
    lines = source.splitlines(keepends=True)

    def put(node: NodeOrLeaf, text: str) -> str:
        # What follows keeps its line number, so that code can be put into its place.
        (first, left), (last, right) = node.start_pos, node.end_pos
        rest = "\n" * (last - first) + lines[last - 1][right:]
        return "".join([*lines[: first - 1], lines[first - 1][:left], text, rest, *lines[last:]])

    for node in ast_nodes(parso.parse(source)):
        if node.type == "argument" and node.children[1] == "=":
            yield "RemoveKeyword", put(node, "**{}")
        elif node.type == "simple_stmt" and not stays(node):
            yield "RemoveStatement", put(node.children[0], "pass")


def find_mutations(path: Path) -> Iterator[Mutation]:
    """Every change of the module at *path* that Python takes without a warning, each once."""
    source = path.read_text(encoding="utf-8")
    seen = {source}
    old = source.splitlines()
    for mutate in (replace_tokens, leave_out):
        for name, changed in mutate(source):
            if changed in seen:
                continue
            seen.add(changed)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    compile(changed, "mutation", "exec", dont_inherit=True)
            except SyntaxError:
                continue
            new = changed.splitlines()
            edits = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
            _, start, end, left, right = next(edit for edit in edits if edit[0] != "equal")
            before, after = " ".join(old[start:end]), " ".join(new[left:right])
            yield Mutation(path, name, start + 1, before.strip(), after.strip(), changed)
