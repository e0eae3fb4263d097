"""
A hyper-parameter sweep with cross-validation, in numpy.

    python examples/ml_pipeline.py

A ridge regression on random Fourier features learns a noisy curve. Every combination of fold,
width and penalty is one call of one task: `extend` makes them, `join` picks the best.

    make_data ─► hold_out ─► make_folds ─► score × (5 folds × 4 widths × 4 penalties)
                    │                                        │
                    │                                    pick_best
                    └──────────────► train ◄─────────────────┘
                                       │
                                    measure
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daglite import evaluate, task

Floats = NDArray[np.float64]

FOLDS = 5
WIDTHS = [2, 8, 32, 128]
PENALTIES = [1e-4, 1e-2, 1.0, 100.0]


@dataclass(frozen=True)
class Data:
    """Inputs, one row each, and what they should give."""

    inputs: Floats
    targets: Floats

    def select(self, rows: NDArray[np.int64]) -> Data:
        """Return some rows."""
        return Data(self.inputs[rows], self.targets[rows])


@dataclass(frozen=True)
class Split:
    """Data to learn from, and data to measure with."""

    train: Data
    test: Data


@dataclass(frozen=True)
class Choice:
    """The hyper-parameters: number of features, and strength of the ridge penalty."""

    width: int
    penalty: float


@dataclass(frozen=True)
class Score:
    """The R² of one choice on one fold: 1 is perfect, 0 is no better than the mean."""

    choice: Choice
    r2: float


@dataclass(frozen=True)
class Model:
    """The weights of the features."""

    choice: Choice
    weights: Floats

    def predict(self, inputs: Floats) -> Floats:
        """Return one prediction per row."""
        return features(inputs, self.choice.width) @ self.weights


# --- plain numpy: nothing here knows of daglite ---------------------------------


def features(inputs: Floats, width: int) -> Floats:
    """Return *width* random waves of the inputs; the same ones each time."""
    random = np.random.default_rng(width)
    frequencies = random.normal(scale=1.5, size=(inputs.shape[1], width))
    shifts = random.uniform(0, 2 * np.pi, size=width)
    return np.cos(inputs @ frequencies + shifts)


def fit(data: Data, choice: Choice) -> Model:
    """Solve the ridge regression."""
    waves = features(data.inputs, choice.width)
    gram = waves.T @ waves + choice.penalty * np.eye(choice.width)
    return Model(choice, np.linalg.solve(gram, waves.T @ data.targets))


def r_squared(model: Model, data: Data) -> float:
    """Return the share of the variance that *model* explains."""
    residual = data.targets - model.predict(data.inputs)
    centred = data.targets - data.targets.mean()
    return float(1 - (residual @ residual) / (centred @ centred))


# --- the tasks ------------------------------------------------------------------


@task
def make_data(rows: int, seed: int) -> Data:
    """Draw points of a curve over two dimensions, with noise."""
    random = np.random.default_rng(seed)
    inputs = random.uniform(-2, 2, size=(rows, 2))
    curve = np.sin(2 * inputs[:, 0]) + 0.5 * np.cos(3 * inputs[:, 1])
    return Data(inputs, curve + random.normal(scale=0.3, size=rows))


@task
def hold_out(data: Data, share: float) -> Split:
    """Put a share of the rows aside; nothing is tuned on them."""
    first = int(len(data.targets) * share)
    rows = np.arange(len(data.targets))
    return Split(train=data.select(rows[first:]), test=data.select(rows[:first]))


@task
def make_folds(split: Split, number: int) -> list[Split]:
    """Split the training rows in *number* ways."""
    rows = np.arange(len(split.train.targets))
    return [
        Split(
            train=split.train.select(rows[rows % number != fold]),
            test=split.train.select(rows[rows % number == fold]),
        )
        for fold in range(number)
    ]


@task
def score(fold: Split, width: int, penalty: float) -> Score:
    """Fit on one part of the fold, and measure on the other."""
    choice = Choice(width, penalty)
    return Score(choice, r_squared(fit(fold.train, choice), fold.test))


@task
def pick_best(scores: list[Score]) -> Score:
    """Return the choice with the best mean over its folds."""
    by_choice: defaultdict[Choice, list[float]] = defaultdict(list)
    for each in scores:
        by_choice[each.choice].append(each.r2)
    means = (Score(choice, mean(values)) for choice, values in by_choice.items())
    return max(means, key=lambda each: each.r2)


@task
def train(split: Split, best: Score) -> Model:
    """Fit the best choice on all training rows."""
    return fit(split.train, best.choice)


@task
def measure(model: Model, split: Split) -> Score:
    """Measure on the rows that were put aside."""
    return Score(model.choice, r_squared(model, split.test))


def mean(values: Iterable[float]) -> float:
    """Return the mean of at least one value."""
    numbers = list(values)
    return sum(numbers) / len(numbers)


def main() -> None:
    """Build the graph, run it, and print what came out."""
    split = hold_out.bind(data=make_data.bind(rows=1000, seed=7), share=0.2)
    folds = make_folds.bind(split=split, number=FOLDS)
    # `folds` isn't known yet, and `extend` takes it all the same: the calls are made once it is.
    scores = score.extend(fold=folds, width=WIDTHS, penalty=PENALTIES)
    best = scores.join(pick_best)
    final = measure.bind(model=train.bind(split=split, best=best), split=split)

    # Several futures in one run: what they have in common is computed once.
    results: dict[str, Any] = evaluate(
        {"scores": scores, "best": best, "final": final}, default_backend="threading"
    )
    print_sweep(results["scores"])
    winner, final_score = results["best"], results["final"]
    print(
        f"best of {len(results['scores'])} fits: "
        f"width={winner.choice.width} penalty={winner.choice.penalty:g}, "
        f"R2 {winner.r2:.3f} in cross-validation, {final_score.r2:.3f} on held-out rows"
    )


def print_sweep(scores: Sequence[Score]) -> None:
    """Print the mean R² of each combination: widths down, penalties across."""
    print("width  " + "".join(f"{penalty:>9g}" for penalty in PENALTIES))
    for width in WIDTHS:
        cells = (
            mean(each.r2 for each in scores if each.choice == Choice(width, penalty))
            for penalty in PENALTIES
        )
        print(f"{width:>5}  " + "".join(f"{cell:9.3f}" for cell in cells))


if __name__ == "__main__":
    main()
