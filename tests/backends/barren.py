"""
Imported by a launcher, it has the system refuse all forks there for a second, but the first.

For root, whom the system refuses nothing.
"""

import errno
import os
import time

_fork = os.fork
_forks: list[float] = []


def _refused() -> int:
    if not _forks or time.monotonic() > _forks[0] + 1.0:
        _forks.append(time.monotonic())
        return _fork()
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


os.fork = _refused
