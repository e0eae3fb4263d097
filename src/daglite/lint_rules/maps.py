"""Maps whose elements don't belong together."""

from __future__ import annotations

from daglite.lint_rules.subject import Found, Rules, Subject

__all__ = ["rules"]

rules = Rules()


@rules.of_task("DGL029", "warning")
def _parted_pairs(of: Subject) -> Found:
    if not of.parted_by:
        return None
    names = " or ".join(map(repr, of.parted_by))
    return (
        f"what it zips doesn't fit any more once an element of {names} has failed: that is left "
        "out, the others move up, and are zipped with what belongs to their neighbours",
        "write MapPolicy('collect') there, or take all steps of an element in one chain of maps",
    )
