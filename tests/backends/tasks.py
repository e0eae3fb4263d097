"""
What the contract's tests run: functions of a module, which other processes find too.

They are given all that they need as arguments, and keep what they did in a `Journal`.
"""

from __future__ import annotations

import gc
import time
import weakref

from daglite import current_call, task
from tests.backends.journal import Journal, eventually
from tests.backends.kinds import run_on


class Picky(Exception):
    """Carries more than a message."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message, code)
        self.code = code


@task
def double(x: int) -> int:
    return 2 * x


@task
def add(x: int, y: int) -> int:
    return x + y


@task
def total(xs: list[int], offset: int = 0) -> int:
    return sum(xs) + offset


@task
def keywords(a: int, /, b: int, *, c: int = 3, d: int = 4) -> tuple[int, int, int, int]:
    return a, b, c, d


@task
def who(x: int) -> tuple[str, int | None, int]:
    call = current_call()
    return call.node_name, call.element, call.attempt


@task
def noted(journal: Journal, x: int) -> int:
    journal.note(x)
    return x


@task
def hanging(journal: Journal, x: int = 0) -> int:
    journal.note(x)
    journal.hang()
    return x


@task
def meeting(journal: Journal, x: int, others: list[int]) -> bool:
    """Whether the others were there while this ran."""
    journal.note(x)
    return eventually(lambda: set(map(str, others)) <= set(journal.notes))


@task
def entering(journal: Journal, x: int) -> int:
    journal.note("in")
    time.sleep(0.001)
    journal.note("out")
    return x


@task
def nested(kind: str, way: str, x: int) -> int:
    """A run on the backend that this runs on."""
    return int(run_on(kind, way, double.zip(x=range(x)).join(total)))


# -- those that fail ----------------------------------------------------------------


@task
def picky(x: int, bad: int) -> int:
    if x == bad:
        raise Picky(f"{x} is bad", 42)
    return x


@task
def slow_picky(journal: Journal, x: int) -> int:
    journal.note(x)
    time.sleep(0.005)
    if x == 2:
        raise Picky("two", 2)
    return x


@task
def failing(journal: Journal, times: int) -> int:
    """Fail the first *times* attempts."""
    number = journal.note("attempt")
    if number <= times:
        raise ValueError(f"attempt {number}")
    return number


@task
def once_bad(journal: Journal, x: int) -> int:
    if journal.note(x) == 1 and x % 3 == 0:
        raise ValueError(str(x))
    return x


@task
def raising(kind: type[BaseException]) -> None:
    raise kind("from a task")


@task
def raising_noted(journal: Journal, kind: type[BaseException]) -> None:
    journal.note("attempt")
    raise kind


@task
def hangs_at_three(journal: Journal, x: int) -> int:
    if x == 3:
        journal.hang()
    return x


@task
def late_once(journal: Journal, patience: float) -> int:
    """The first attempt returns while the second runs, which waits *patience* seconds for it."""
    number = journal.note("attempt")
    if number == 1:
        journal.hang()
        journal.note("late")
    else:
        journal.open()
        # In vain where it was killed.
        eventually(lambda: "late" in journal.notes, patience)
    return number


# -- those that watch a value die, where memory is shared ---------------------------


class Heavy:
    """Something that a weak reference can see die."""


Seen = list[weakref.ref[Heavy]]


@task
def make_heavy(seen: Seen) -> Heavy:
    made = Heavy()
    seen.append(weakref.ref(made))
    return made


@task
def use_heavy(heavy: Heavy) -> int:
    return 1


@task
def look_for_heavy(seen: Seen, x: int) -> bool:
    """Whether it is dead before long."""

    def is_dead() -> bool:
        gc.collect()
        return seen[0]() is None

    return eventually(is_dead, 2)
