"""
Every example runs by itself, from the root of the project, and says what it should.

Their servers stall for real seconds, so they are tested among what waits for real things.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
FLIGHTS = EXAMPLES / "flights" / "run.py"
LIMIT = 50.0  # seconds for one script; below pytest's own limit, so that its output is shown

# Script -> its last line.
LAST_LINES = {
    "data_processing.py": ("3000 rows read, 386 left out, 32632 pieces sold for 1,674,032.08"),
    "ml_pipeline.py": (
        "best of 80 fits: width=128 penalty=1, R2 0.856 in cross-validation, 0.828 on held-out rows"
    ),
    "web_scraping.py": ("12 books, $12.00 on average, cheapest: Book 2 (8 attempts failed)"),
}


# Task -> what strikes one of its calls, in a process.
MISHAPS = {
    "clean": "MemoryLimitError",
    "join_weather": "TaskTimeoutError",
    "count_routes": "WorkerDiedError: worker process .* SIGKILL",
}


def command(script: Path, *options: str) -> list[str]:
    return [sys.executable, "-W", "error", str(script.relative_to(ROOT)), *options]


def run_script(script: Path, *options: str) -> str:
    """Return what *script* prints; fail with all of it if it fails."""
    done = subprocess.run(
        command(script, *options),
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_no_example_is_forgotten():
    """Each script among the examples has its last line checked here."""
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(LAST_LINES)


@pytest.mark.parametrize("name", sorted(LAST_LINES))
def test_script_ends_with_its_result(name: str):
    """A script runs to its end and prints the same result every time."""
    assert run_script(EXAMPLES / name).splitlines()[-1] == LAST_LINES[name]


def test_flights_come_through_a_flaky_source(tmp_path: Path):
    """As `make demo` runs it: the table of the year is as ever, and each failure is told about."""
    printed = run_flights(tmp_path)
    for failure in ("TaskTimeoutError", "IncompleteRead", "500 Internal Server Error"):
        assert failure in printed
    for task, failure in MISHAPS.items():
        assert re.search(rf"^{task} \d+ .*{failure}", printed, re.MULTILINE), task
    assert (tmp_path / "routes.png").read_bytes().startswith(b"\x89PNG")


def test_flights_wait_as_long_as_the_source_asks(tmp_path: Path):
    """Other troubles give the same table; a source that says when to come back is obeyed."""
    printed = run_flights(tmp_path, "--months", "2", "--seed", "32")
    waits = re.findall(r" (\d+\.\d+) s +SourceBusyError: .*, retry after 1 s", printed)
    assert waits == ["1.00"]


def run_flights(out: Path, *options: str) -> str:
    """Run the demo, and return what it prints."""
    printed = run_script(FLIGHTS, "--out", str(out), *options)
    assert printed.rstrip().endswith(", as it should be")
    assert "gave up" not in printed
    assert sorted(path.name for path in out.iterdir()) == ["routes.csv", "routes.png"]
    return printed


@pytest.mark.skipif(os.name != "posix", reason="a signal can't be sent to one process elsewhere")
def test_flights_end_gracefully_on_ctrl_c(tmp_path: Path):
    """Interrupted in the middle of its downloads, the demo stops, and leaves no file behind."""
    with subprocess.Popen(
        command(FLIGHTS, "--out", str(tmp_path)),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "download" in line:
                break
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 130, printed
    assert "Traceback" not in printed
    assert printed.rstrip().endswith("no file was left half written")
    assert list(tmp_path.iterdir()) == []
