"""What calls can leave behind: processes, threads, changes; and calls that look for them."""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import subprocess
import sys
import threading
import time

from tests.backends.faults import Mark

# -- what it leaves behind -----------------------------------------------------------


def leaves_a_child(mark: Mark) -> str:
    mark.tell(subprocess.Popen(["sleep", "1000"]).pid)
    mark()
    return "left"


def leaves_a_daemon(mark: Mark) -> str:
    """Double-forked, in a session of its own, with no way back to who made it."""
    child = os.fork()
    if not child:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.closerange(0, 256)
        mark.tell(os.getpid())
        mark()
        time.sleep(1000)
    os.waitpid(child, 0)
    while mark.moment is None:
        time.sleep(0.001)
    return "left"


def dies_with_its_pipes_held(mark: Mark) -> None:
    """By a child of which Python wasn't told: it has all our pipes."""
    child = ctypes.PyDLL(None).fork()
    if not child:
        mark.tell(os.getpid())
        mark()
        time.sleep(1000)
    while mark.moment is None:
        time.sleep(0.001)
    os._exit(5)


def leaves_a_thread(mark: Mark) -> str:
    threading.Thread(target=time.sleep, args=(1000,), name="left").start()
    mark()
    return "left"


def returns_twice(mark: Mark) -> str:
    """Once more in a child."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    mark()
    return "parent" if child else "child"


def raises_in_a_child(mark: Mark) -> str:
    child = os.fork()
    if not child:
        raise ValueError("in the child")
    os.waitpid(child, 0)
    mark()
    return "parent"


def floods(mark: Mark) -> str:
    line = "x" * 99
    for _ in range(20_000):
        print(line)
    mark()
    return "flooded"


def closes_its_output(mark: Mark) -> str:
    mark()
    os.close(1)
    os.close(2)
    return "closed"


def moves_house(mark: Mark) -> str:
    """Another folder, environment, handlers, mask, timer."""
    os.chdir("/")
    os.environ["DAGLITE_FAULT"] = "1"
    os.environ.pop("HOME", None)
    os.umask(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    mark()
    return "moved"


def house() -> dict[str, object]:
    """What `moves_house` changes."""
    mask = os.umask(0)
    os.umask(mask)
    return {
        "folder": os.getcwd(),
        "environ": dict(os.environ),
        "umask": mask,
        "term": signal.getsignal(signal.SIGTERM),
        "blocked": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "timer": signal.getitimer(signal.ITIMER_REAL),
    }


# -- to look at ----------------------------------------------------------------------


def process(x: int) -> int:
    return os.getpid()


_leaked: list[bytes] = []


def leak(size: int) -> int:
    _leaked.append(b"x" * size)
    return os.getpid()


def prints(text: str) -> str:
    print(text, flush=True)
    return text


def loads_slowly(x: bytes) -> int:
    time.sleep(0.05)
    return len(x)


def falls_at(x: int, bad: int) -> int:
    if x == bad:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def closes_streams(mark: Mark) -> str:
    sys.stdout.close()
    sys.stderr.close()
    return "closed"


def forges_a_huge_frame(mark: Mark) -> None:
    """With the header of an answer that no memory can hold."""
    _into_each_pipe(struct.pack("<BBxxIQQdddQ", 3, 0, 0, 1, 2**60, 0.0, 0.0, 0.0, 0))


def forges_nonsense(mark: Mark) -> None:
    _into_each_pipe(b"\xff" * 100)


def _into_each_pipe(data: bytes) -> None:
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            if number > 2 and os.readlink(f"/proc/self/fd/{number}").startswith("pipe:"):
                os.write(number, data)
        except OSError:
            # It is for reading.
            continue
    time.sleep(10)
