"""Names and keys that are shared by accident."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from daglite.lint_rules.subject import Advice, Rules, Subject, by_key, keyed

__all__ = ["rules"]

rules = Rules()

_KEYED = {
    "circuit_breaker": "circuit breaker",
    "rate_limit": "rate limit",
    "bulkhead": "bulkhead",
    "budget": "retry budget",
}


@rules.of_graph("DGL012", "warning")
def _shared_by_accident(subjects: Sequence[Subject]) -> Iterator[Advice]:
    for slot, kind in _KEYED.items():
        for key, users in by_key(subjects, slot).items():
            functions = {id(user.function) for user in users}
            by_name = [user for user in users if keyed(user, slot).key is None]
            if len(functions) > 1 and by_name:
                yield Advice(
                    by_name[0].name,
                    f"its {kind} has no key, so that it shares that of other tasks under the "
                    f"name {key!r}",
                    "give it a key; if sharing is meant, give all of them the same key",
                )


@rules.of_graph("DGL014", "warning")
def _one_name_for_two(subjects: Sequence[Subject]) -> Iterator[Advice]:
    first: dict[str, Subject] = {}
    told: set[str] = set()
    for subject in subjects:
        other = first.setdefault(subject.name, subject)
        same = other.function is subject.function or other.policies == subject.policies
        if not same and subject.name not in told:
            told.add(subject.name)
            yield Advice(
                subject.name,
                "another function of the graph has its name and other policies: errors and "
                "events don't tell the two apart",
                "give one of them another name: task.with_options(name=...)",
            )
