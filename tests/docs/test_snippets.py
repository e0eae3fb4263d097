"""
Every Python block of the README and the docs runs as a user would run it.

The blocks of a page make one script, run in a process of its own and in an empty folder.
Each block keeps its line numbers, so a traceback points into the page.
A block is left out when an HTML comment right before it says why: ``<!-- no-run: reason -->``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest

import daglite

ROOT = Path(__file__).parents[2]
LIMIT = 50.0  # seconds for one page; below pytest's own limit, so that the page is named

FENCE = re.compile(r"^(?P<indent>\s*)(?P<fence>`{3,}|~{3,})(?P<info>[^`]*)$")
NO_RUN = re.compile(r"^\s*<!--\s*no-run:\s*(?P<reason>.*?)\s*-->\s*$")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the line of its first code line (from 0), its code."""

    language: str
    line: int
    code: str
    no_run: str | None


def find_blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    blocks: list[Block] = []
    lines = text.splitlines()
    no_run: str | None = None
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if comment := NO_RUN.match(line):
            no_run = comment["reason"]
        elif opening := FENCE.match(line):
            first = number
            while number < len(lines) and not _closes(lines[number], opening["fence"]):
                number += 1
            words = opening["info"].split()
            code = dedent("\n".join(lines[first:number]))
            blocks.append(Block(words[0] if words else "", first, code, no_run))
            no_run = None
            number += 1
        elif line.strip():
            no_run = None
    return blocks


def _closes(line: str, fence: str) -> bool:
    bare = line.strip()
    return len(bare) >= len(fence) and set(bare) == {fence[0]}


def to_script(blocks: list[Block]) -> str:
    """One script of all blocks that run, each at the line where it stands in the page."""
    lines: list[str] = []
    for block in blocks:
        if block.language == "python" and block.no_run is None:
            lines += [""] * (block.line - len(lines))
            lines += block.code.splitlines()
    return "\n".join(lines) + "\n"


def pages() -> list[Path]:
    """README and every page of the docs."""
    docs = sorted((ROOT / "docs").rglob("*.md"))
    return [ROOT / "README.md", *(page for page in docs if "_build" not in page.parts)]


def run(script: str, name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run *script* in an empty folder, on a machine whose processes have shared nothing so far."""
    file = folder / f"{name.replace('-', '_')}_page.py"
    file.write_text(script, encoding="utf-8")
    work = folder / "work"
    work.mkdir()
    return subprocess.run(
        [sys.executable, "-W", "error", str(file)],
        cwd=work,
        env={**os.environ, "DAGLITE_STATE_DIR": str(folder / "state")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )


PAGES = [str(page.relative_to(ROOT)) for page in pages()]


@pytest.mark.parametrize("page", PAGES)
def test_blocks_of_the_page_run(page: str, tmp_path: Path) -> None:
    """What stands in a page works when it is copied, from top to bottom."""
    script = to_script(find_blocks((ROOT / page).read_text(encoding="utf-8")))
    if not script.strip():
        pytest.skip("no Python block")
    done = run(script, Path(page).stem, tmp_path)
    assert done.returncode == 0, f"{page}:\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("page", PAGES)
def test_left_out_blocks_say_why(page: str) -> None:
    """A block that doesn't run has a reason."""
    for block in find_blocks((ROOT / page).read_text(encoding="utf-8")):
        assert block.no_run != "", f"{page}:{block.line}: no-run without a reason"


def test_a_page_sees_no_circuit_of_other_tests(tmp_path: Path) -> None:
    """Whatever was shared by the processes of this machine before, its breakers are its own."""
    daglite.protect(lambda: None, circuit_breaker=daglite.CircuitBreaker("before", scope="host"))()
    assert "before" in [each.key for each in daglite.breakers()]
    done = run("import daglite\nassert daglite.breakers() == ()\n", "own", tmp_path)
    assert done.returncode == 0, done.stderr


PAGE = """\
text

```python
a = 1
```

<!-- no-run: needs a cluster -->

```python
a = 2
```

```bash
rm everything
```

1. in a list

   ```python
   assert a == 1
   ```
"""


def test_blocks_keep_their_lines() -> None:
    """A page's script has each block at its own line, without what isn't run."""
    lines = to_script(find_blocks(PAGE)).splitlines()
    assert lines[3] == "a = 1"
    assert lines[19] == "assert a == 1"
    assert [line for line in lines if line] == ["a = 1", "assert a == 1"]


def test_comment_counts_for_the_next_block_only() -> None:
    """Text between a comment and a block takes the comment's force away."""
    blocks = find_blocks("<!-- no-run: why -->\ntext\n```python\n1\n```\n")
    assert [block.no_run for block in blocks] == [None]
