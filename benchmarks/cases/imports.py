"""What an import costs: a fresh interpreter each time."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.model import Make, Peer, Race, Run, Target

__all__ = ["CASES"]

_POLICY = "import daglite; daglite.RetryPolicy(3)"
_TASK = "import daglite; daglite.task(lambda: None)"
_EVALUATE = "import daglite; daglite.evaluate(daglite.task(lambda: None).bind())"
_MODEL = "import pydantic; pydantic.create_model('Point', x=(int, 0))(x=1)"


def _python(code: str) -> Make:
    def make(size: int) -> Run:
        def run() -> object:
            return subprocess.run([sys.executable, "-c", code], check=True).returncode

        return run

    return make


CASES = [
    Race(
        name="import",
        title="A fresh interpreter (the targets are CPU time over `pass`)",
        size=1,
        answer=lambda _: 0,
        unit="start",
        peers=[
            Peer("pass", _python("pass")),
            Peer("import daglite", _python("import daglite"), ["daglite"]),
            Peer("daglite, first task", _python(_TASK), ["daglite"]),
            Peer("daglite, first policy", _python(_POLICY), ["daglite"]),
            Peer("daglite, first evaluate", _python(_EVALUATE), ["daglite"]),
            Peer("import asyncio", _python("import asyncio")),
            Peer("pydantic, first model", _python(_MODEL), ["pydantic"]),
            Peer("import tenacity", _python("import tenacity"), ["tenacity"]),
            Peer("import stamina", _python("import stamina"), ["stamina"]),
            Peer("import networkx", _python("import networkx"), ["networkx"]),
            Peer("import dask.delayed", _python("import dask.delayed"), ["dask"]),
            Peer("import pipefunc", _python("import pipefunc"), ["pipefunc"]),
        ],
        targets=[
            Target("import daglite", 30_000, measure="adds", by="cpu"),
            Target("daglite, first policy", 200_000, measure="adds", by="cpu"),
        ],
    )
]
