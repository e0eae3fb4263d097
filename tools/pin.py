"""
Merge pip's resolutions for several Pythons into constraints.txt.

Called by ``nox -s pins`` with one report of ``pip install --dry-run --report`` for each Python.
Where the Pythons need different versions of a package, each line gets a marker.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

HEADER = """\
# What the checks of daglite run with. Made by `nox -s pins`: change pyproject.toml, not this file.
"""

Python = tuple[int, int]


def read_report(path: Path) -> tuple[Python, dict[str, str]]:
    """The Python that a report was made with, and name -> version of what it would install."""
    report = json.loads(path.read_text())
    major, minor = report["environment"]["python_version"].split(".")
    found: dict[str, str] = {}
    for item in report["install"]:
        name = re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower()
        if name != "daglite":
            found[name] = item["metadata"]["version"]
    return (int(major), int(minor)), found


def pin(name: str, versions: dict[Python, str], pythons: list[Python]) -> list[str]:
    """The lines for one package; a marker reaches from one change of version to the next."""
    runs: list[tuple[str, Python]] = []  # version, and the first Python that takes it
    for python in pythons:
        version = versions.get(python, runs[-1][0] if runs else None)
        if version is not None and (not runs or runs[-1][0] != version):
            runs.append((version, python))
    lines = []
    for index, (version, (major, minor)) in enumerate(runs):
        bounds = []
        if index > 0:
            bounds.append(f'python_version >= "{major}.{minor}"')
        if index + 1 < len(runs):
            end = runs[index + 1][1]
            bounds.append(f'python_version < "{end[0]}.{end[1]}"')
        marker = f"; {' and '.join(bounds)}" if bounds else ""
        # A local build tag ("+cpu") names a build of one machine, not a release.
        lines.append(f"{name}=={version.partition('+')[0]}{marker}")
    return lines


def main(paths: list[str]) -> None:
    """Print the constraints for the reports at *paths*."""
    reports = dict(read_report(Path(path)) for path in paths)
    pythons = sorted(reports)
    names = sorted({name for found in reports.values() for name in found})
    print(HEADER, end="")
    for name in names:
        versions = {python: reports[python][name] for python in pythons if name in reports[python]}
        print(*pin(name, versions, pythons), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
