"""
Tries mutants of functions in a process that has loaded everything, tests too.

    pytest collects ─► a fork runs each test once: which lines does it touch, how long does it take?
                    └► a fork for each mutant puts the changed code into the living functions,
                       and runs the tests that touch the changed line, quick ones first

What runs while modules are loaded can't be changed afterwards: `ANEW` is the answer then.
"""

from __future__ import annotations

import ast
import functools
import gc
import inspect
import os
import pickle
import signal
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any, NamedTuple

import pytest
from anew import PYTEST
from children import SURVIVED, FirstFailure, look_at_all
from mutations import Mutation

ANEW = "anew"
"""The answer for a mutant that has to be loaded by a fresh process."""

Line = tuple[str, int]
"""File, and number from 1."""

PATIENCE = 3.0
"""
Seconds of CPU time that a test may take beyond ten times what it should.

Twice as many may pass on the clock.
"""


class Tracer:
    """Notes which lines of *files* run."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._files = {str(path) for path in files}
        self.lines: set[Line] = set()

    def start(self) -> None:
        threading.settrace(self._enter)
        sys.settrace(self._enter)

    def take(self) -> set[Line]:
        """The lines since the last time."""
        lines, self.lines = self.lines, set()
        return lines

    def _enter(self, frame: FrameType, event: str, arg: object) -> Any:
        return self._step if frame.f_code.co_filename in self._files else None

    def _step(self, frame: FrameType, event: str, arg: object) -> Any:
        self.lines.add((frame.f_code.co_filename, frame.f_lineno))
        return self._step


class Touch(NamedTuple):
    """What one test did when nothing was changed."""

    seconds: float
    lines: set[Line]


class Server:
    """A plug-in of pytest that looks at mutants instead of running the collected tests."""

    def __init__(self, mutations: Sequence[Mutation], jobs: int, output: int) -> None:
        self._mutations = mutations
        self._jobs = jobs
        self._output = output
        self._failure = FirstFailure()
        self.tracer = Tracer({mutation.path for mutation in mutations})
        self._on_loading: set[Line] = set()
        self._items: list[pytest.Item] = []
        self._seconds: dict[int, float] = {}
        self._touching: dict[Line, list[int]] = defaultdict(list)
        self._functions: dict[str, list[FunctionType]] = defaultdict(list)

    def pytest_configure(self, config: pytest.Config) -> None:
        config.pluginmanager.register(self._failure)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
        self._on_loading = self.tracer.take()
        self._items = session.items
        for found in gc.get_objects():
            if isinstance(found, FunctionType):
                self._functions[found.__code__.co_filename].append(found)
            elif isinstance(found, functools._lru_cache_wrapper):
                found.cache_clear()
        gc.collect()
        gc.freeze()
        self._learn()
        for mutation, answer in look_at_all(self._mutations, self._look, self._jobs):
            self._say(mutation.key, answer)
        return True

    def _say(self, key: str, answer: str) -> None:
        os.write(self._output, f"{key} {answer}\n".encode())

    def _learn(self) -> None:
        """Find out which test touches which lines; stops where one fails."""
        with tempfile.NamedTemporaryFile() as notes:
            pid = os.fork()
            if pid == 0:
                try:
                    Path(notes.name).write_bytes(pickle.dumps(list(self._touches())))
                finally:
                    os._exit(0)
            os.waitpid(pid, 0)
            touches: list[Touch] = pickle.loads(notes.read())
        if len(touches) < len(self._items):
            self._say("failed", self._items[len(touches)].nodeid)
            os._exit(1)
        for index, touch in enumerate(touches):
            self._seconds[index] = touch.seconds
            for line in touch.lines:
                self._touching[line].append(index)

    def _touches(self) -> Iterator[Touch]:
        self.tracer.start()
        for item, following in pairwise([*self._items, None]):
            began = time.process_time()
            item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
            if self._failure.name:
                return
            yield Touch(time.process_time() - began, self.tracer.take())

    def _look(self, mutation: Mutation) -> str:
        path = str(mutation.path)
        lines = {(path, line) for line in lines_around(mutation.path, mutation.line)}
        if lines & self._on_loading or not self._put_in(mutation):
            return ANEW
        touching = {index for line in lines for index in self._touching[line]}
        order = sorted(touching, key=self._seconds.__getitem__)
        for index, following in pairwise([*order, None]):
            patience = PATIENCE + 10 * self._seconds[index]
            signal.setitimer(signal.ITIMER_PROF, patience)
            signal.setitimer(signal.ITIMER_REAL, 2 * patience)
            item, after = self._items[index], None if following is None else self._items[following]
            item.ihook.pytest_runtest_protocol(item=item, nextitem=after)
            if self._failure.name:
                return self._failure.name
        return SURVIVED

    def _put_in(self, mutation: Mutation) -> bool:
        """Give living functions the changed code; False if more than functions would change."""
        path = str(mutation.path)
        old = codes_in(compile(mutation.path.read_text(), path, "exec", dont_inherit=True))
        new = codes_in(compile(mutation.source, path, "exec", dont_inherit=True))
        if old is None or new is None or old.keys() != new.keys():
            return False
        for key, code in old.items():
            if not code.co_flags & inspect.CO_OPTIMIZED and shape(code) != shape(new[key]):
                return False
        for function in self._functions[path]:
            code = function.__code__
            key = (code.co_firstlineno, code.co_name)
            if key in old and code.co_freevars != new[key].co_freevars:
                return False
        for function in self._functions[path]:
            code = function.__code__
            key = (code.co_firstlineno, code.co_name)
            if key in new:
                function.__code__ = new[key]
        return True


def lines_around(path: Path, line: int) -> range:
    """The lines of the statement at *line*; of a compound one, its head's."""
    best: range | None = None
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.stmt, ast.ExceptHandler, ast.match_case)):
            body = getattr(node, "body", None)
            start = getattr(node, "lineno", line)
            last = body[0].lineno - 1 if body else node.end_lineno
            found = range(start, max(last, start) + 1)
            if line in found and (best is None or len(found) < len(best)):
                best = found
    return best or range(line, line + 1)


Key = tuple[int, str]
"""First line and name of a function, class body or module."""


def codes_in(module: CodeType) -> dict[Key, CodeType] | None:
    """Every code object of a module; None if two can't be told apart."""
    found: dict[Key, CodeType] = {}
    todo = [module]
    while todo:
        code = todo.pop()
        key = (code.co_firstlineno, code.co_name)
        if key in found:
            return None
        found[key] = code
        todo += [each for each in code.co_consts if isinstance(each, CodeType)]
    return found


def shape(code: CodeType) -> tuple[object, ...]:
    """What a code object does, those within it aside."""
    consts = tuple(
        (each.co_firstlineno, each.co_name) if isinstance(each, CodeType) else (type(each), each)
        for each in code.co_consts
    )
    return code.co_code, consts, code.co_names, code.co_varnames, code.co_flags


def look_in_place(
    mutations: Sequence[Mutation], tests: list[str], jobs: int
) -> Iterator[tuple[Mutation, str]]:
    """Each mutation with what became of it, or `ANEW`."""
    received, output = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(received)
            nowhere = os.open(os.devnull, os.O_RDWR)
            for stream in range(3):
                os.dup2(nowhere, stream)
            server = Server(mutations, jobs, output)
            # Before any conftest.py loads something.
            server.tracer.start()
            pytest.main([*PYTEST, "-o", "timeout=0", *tests], plugins=[server])
        finally:
            os._exit(0)
    os.close(output)
    by_key = {mutation.key: mutation for mutation in mutations}
    with open(received, encoding="utf-8") as answers:
        for line in answers:
            key, _, answer = line.rstrip("\n").partition(" ")
            if key == "failed":
                sys.exit(f"a test fails without a mutant: {answer}")
            yield by_key.pop(key), answer
    os.waitpid(pid, 0)
    if by_key:
        sys.exit("the tests couldn't be collected")
