"""
The tests on every supported Python, against the built package; and the pins.

``nox`` runs the tests (a Python that isn't installed is skipped), ``nox -s pins`` resolves the
dependencies again for all of them and writes constraints.txt.
"""

from __future__ import annotations

import os
from pathlib import Path

import nox

PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
SUITES = ["tests/unit", "tests/integration", "tests/backends"]
REPORTS = Path(".nox", "pins")

nox.options.sessions = ["tests"]
nox.options.error_on_missing_interpreters = False
nox.options.reuse_existing_virtualenvs = True

# pyenv shows only its chosen Python on the PATH, unless told otherwise.
pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
found = [path.name for python in PYTHONS for path in sorted(pyenv.glob(f"{python}.*"))]
if found:
    os.environ.setdefault("PYENV_VERSION", ":".join(found))


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests against the package as a user would install it."""
    session.install("--constraint", "constraints.txt", ".[tests,progress,examples]")
    suites = [suite for suite in SUITES if Path(suite).is_dir()]
    session.run("pytest", *(session.posargs or suites))


@nox.session(python=PYTHONS)
def pins(session: nox.Session) -> None:
    """Resolve every extra; the last Python writes constraints.txt from what all have found."""
    REPORTS.mkdir(parents=True, exist_ok=True)
    report = REPORTS / f"{session.python}.json"
    session.install("--upgrade", "pip")
    session.install(
        *["--dry-run", "--ignore-installed", "--report", str(report)],
        *["hatchling", ".[dev,benchmarks,mutants]"],
    )
    if session.python == PYTHONS[-1]:
        reports = [str(REPORTS / f"{python}.json") for python in PYTHONS]
        lines = session.run("python", "tools/pin.py", *reports, silent=True)
        Path("constraints.txt").write_text(str(lines), encoding="utf-8")
