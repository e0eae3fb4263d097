"""Tries a mutant in a fork that has loaded no daglite yet: it loads it with the module changed."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable, Iterator
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType

import pytest
from children import SURVIVED, FirstFailure, look_at_all
from mutations import Mutation

SECONDS = 60.0
"""CPU time that one run of pytest may take."""

PYTEST = [
    *["-x", "-q", "--hypothesis-profile=mutants"],
    *["-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"],
]


class Changed(SourceFileLoader):
    """Finds and loads one module with another source; it stands first in sys.meta_path."""

    def __init__(self, mutation: Mutation) -> None:
        package = Path("src").resolve()
        parts = mutation.path.relative_to(package).with_suffix("").parts
        super().__init__(".".join(parts).removesuffix(".__init__"), str(mutation.path))
        self.source = mutation.source

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != self.name:
            return None
        return spec_from_file_location(name, self.path, loader=self)

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.source, self.path, "exec", dont_inherit=True)


def order_tests(path: Path) -> Iterator[list[str]]:
    """What pytest is to run for the module at *path*: its folder's tests, the likely ones first."""
    folder = Path("tests", "unit", path.parent.name)
    own = sorted(str(test) for test in folder.glob(f"test_{path.stem}*.py"))
    if own:
        yield own
    yield [str(folder), *(f"--deselect={test}" for test in own)]


def look_anew(mutation: Mutation) -> str:
    """The name of the test that noticed, or `SURVIVED`."""
    sys.meta_path.insert(0, Changed(mutation))
    for tests in order_tests(mutation.path):
        failure = FirstFailure()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        if pytest.main([*PYTEST, "--timeout=10", *tests], plugins=[failure]) != pytest.ExitCode.OK:
            return failure.name or "collection"
    return SURVIVED


def find_failure(paths: Iterable[Path], jobs: int) -> str | None:
    """A test that fails when a module is loaded as a mutant, but not changed; None if none does."""
    one_each = {path.parent: path for path in paths}.values()
    same = [Mutation(path, "NoOp", 1, "", "", path.read_text()) for path in one_each]
    answers = [answer for _, answer in look_at_all(same, look_anew, jobs)]
    return next((answer for answer in answers if answer != SURVIVED), None)
