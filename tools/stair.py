"""
Print the stair of a package: its modules in layers, each importing only from lower ones.

``python tools/stair.py daglite.core`` helps to write a contract for import-linter.
"""

from __future__ import annotations

import sys

import grimp


def find_needs(package: str) -> dict[str, set[str]]:
    """Child of the package -> children that it imports from, itself or in its modules."""
    graph = grimp.build_graph(package.partition(".")[0], cache_dir=None)
    children = graph.find_children(package)
    return {
        child: {
            other
            for other in children - {child}
            if graph.direct_import_exists(importer=child, imported=other, as_packages=True)
        }
        for child in children
    }


def to_layers(needs: dict[str, set[str]]) -> list[list[str]]:
    """The layers from the bottom up; what stands in a cycle comes last, in a layer of its own."""
    layers: list[list[str]] = []
    placed: set[str] = set()
    while left := needs.keys() - placed:
        layer = {name for name in left if needs[name] <= placed} or left
        layers.append(sorted(layer))
        placed |= layer
    return layers


def main(package: str) -> None:
    """Print the layers from the top down, ready to paste."""
    for layer in reversed(to_layers(find_needs(package))):
        names = [f"({name.rpartition('.')[2]})" for name in layer]
        print(f'    "{" | ".join(names)}",')


if __name__ == "__main__":
    main(sys.argv[1])
