"""How fast daglite is, next to its peers, in one run: ``python -m benchmarks``."""
