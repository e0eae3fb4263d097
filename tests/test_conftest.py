"""The rules for tests are kept by themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[1]


def test_a_test_that_sleeps_fails(tmp_path: Path) -> None:
    """Of these only the nap is let through, and no time is lost with the others."""
    (tmp_path / "test_sleepers.py").write_text(
        dedent(
            """
            import threading, time

            def test_a_nap():
                time.sleep(0.01)

            def test_a_sleep():
                time.sleep(100)

            def test_a_sleep_elsewhere():
                thread = threading.Thread(target=time.sleep, args=(100,))
                thread.start()
                thread.join()
            """
        )
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    options = ["-q", "-p", "no:cacheprovider", "-p", "tests.conftest"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert "3 passed, 2 errors" in done.stdout, done.stdout
    asked = "\nE       AssertionError: the test asked for sleeps of [100] s"
    assert done.stdout.count(asked) == 2, "once for each (the summary repeats them under CI)"
