"""How fast a layer's weights grow along the eigendirections of its inputs: the paper's second claim, section 4.

Component of a weight matrix W (fan-in x units) along direction v_k: c_k = ||W^T v_k||, the norm over the units. Two runs are
compared at equal progress along a top direction, not at equal times: a larger learning rate alone moves both along the same curve
(c_1(t), c_2(t)), faster; a stronger bias toward the top bends the curve down.

The paper's theorem starts from zero weights, networks do not: what W holds along a direction at random from the start can outweigh
what training adds. So the same is measured of the weights' movement, ||(W - W(0))^T v_k||, beside it.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh

from kd_jax.analysis import intervals
from kd_jax.analysis.intervals import Interval

EXACT_DIMENSIONS = 3000  # up to which all directions are computed exactly
LANCZOS_DIRECTIONS = 400  # how many of the top ones are computed beyond
GRID = 200  # points of the common range at which two curves are compared
RANDOM_PAIRS = 50
ALIVE = 1e-9  # share of the top eigenvalue below which the inputs do not vary along a direction: no gradient moves weights there


class Moments(NamedTuple):
    """Sums over vectors, from which mean and covariance follow; add batches one at a time.

    Attributes:
        count: number of vectors.
        total: their sum, float64 [dimensions].
        products: sum of their outer products, float64 [dimensions, dimensions].
        shift: subtracted from every vector before it is summed, so that a large mean does not cancel digits.
    """

    count: int
    total: np.ndarray
    products: np.ndarray
    shift: np.ndarray


def add(moments, x):
    """Return the moments with vectors `x` [vectors, dimensions] added; `moments` None starts."""
    x = np.asarray(x, np.float64)
    if moments is None:
        moments = Moments(0, np.zeros(x.shape[1]), np.zeros((x.shape[1], x.shape[1])), x.mean(axis=0))
    x = x - moments.shift
    return Moments(moments.count + len(x), moments.total + x.sum(axis=0), moments.products + x.T @ x, moments.shift)


def covariance(moments):
    """Covariance of the vectors, float64 [dimensions, dimensions], divided by their count."""
    mean = moments.total / moments.count
    return moments.products / moments.count - np.outer(mean, mean)


class Directions(NamedTuple):
    """Eigendirections, largest eigenvalue first.

    Attributes:
        values: float64 [directions].
        vectors: float64 [dimensions, directions], orthonormal columns.
        residuals: ||A v - l v|| of each, float64 [directions].
    """

    values: np.ndarray
    vectors: np.ndarray
    residuals: np.ndarray


def directions(matrix, rank=None, exact_dimensions=EXACT_DIMENSIONS, count=LANCZOS_DIRECTIONS):
    """Return the `Directions` of a symmetric matrix: all of them, or beyond `exact_dimensions` the top `count` by Lanczos.

    Args:
        matrix: float64 [dimensions, dimensions].
        rank: at most so many eigenvalues are not zero, if that is known: Lanczos hardly tells the others apart.
        exact_dimensions, count: as above.
    """
    if len(matrix) <= exact_dimensions:
        values, vectors = np.linalg.eigh(matrix)
    else:
        operator = LinearOperator(matrix.shape, matvec=lambda v: matrix @ v, dtype=matrix.dtype)
        start = np.random.default_rng(0).normal(size=len(matrix))  # else SciPy starts at random
        values, vectors = eigsh(operator, k=min(count, rank or count, len(matrix) - 1), v0=start)
    order = np.argsort(values)[::-1]
    values, vectors = values[order], vectors[:, order]
    return Directions(values, vectors, np.linalg.norm(matrix @ vectors - vectors * values, axis=0))


def direction_count(dimensions):
    """How many directions `directions` returns for so many dimensions."""
    return dimensions if dimensions <= EXACT_DIMENSIONS else min(LANCZOS_DIRECTIONS, dimensions - 1)


def alive(values):
    """How many of the directions the inputs vary along: no gradient moves weights along the others."""
    return int(np.sum(values > ALIVE * values[0]))


def along(weights, vectors):
    """Return V^T W, whose row norms are the components ||W^T v_k||, float64 [directions, units].

    Args:
        weights: [fan-in, units].
        vectors: [fan-in, directions].
    """
    return np.asarray(vectors, np.float64).T @ np.asarray(weights, np.float64)


def ratio(reference, other):
    """Return mean of c_2(other) / c_2(reference) at equal c_1, over the range of c_1 that both cover; below 1: `other` lags.

    Each curve is read at the first moment when c_1 reaches a level, by linear interpolation between checkpoints: where c_1
    falls back, only what sets a new maximum counts, so every level has one moment. The range begins at the larger of the two
    starts and ends at the smaller of the two maxima; a level that a curve starts above is outside. Levels are spaced evenly.

    Args:
        reference, other: (c_1, c_2), each [checkpoints] from the first step on.

    Returns:
        The ratio; NaN where the range is empty, as when c_1 never grows.
    """
    levels = common_levels(reference, other)
    if not len(levels):
        return np.nan
    return float(np.mean(first_reach(other, levels) / first_reach(reference, levels)))


def common_levels(reference, other):
    """Return the levels of c_1 at which two curves are compared, float64 [levels]; none where the range is empty."""
    low = max(reference[0][0], other[0][0])
    high = min(np.max(reference[0]), np.max(other[0]))
    return np.linspace(low, high, GRID + 1)[1:] if high > low else np.array([])


def first_reach(curve, levels):
    """Return c_2 at the first moment when c_1 reaches each level, by linear interpolation, float64 [levels].

    Args:
        curve: (c_1, c_2), each [checkpoints] from the first step on.
        levels: of c_1, above where it starts and up to its maximum.
    """
    first, second = np.asarray(curve[0], np.float64), np.asarray(curve[1], np.float64)
    after = np.searchsorted(np.maximum.accumulate(first), levels)
    after = np.clip(after, 1, len(first) - 1)
    # The step that reaches a level starts below it, for else the level had been reached before.
    share = (levels - first[after - 1]) / (first[after] - first[after - 1])
    return second[after - 1] + np.clip(share, 0, 1) * (second[after] - second[after - 1])


def ruled_pairs(count):
    """The pairs fixed before looking: the top direction against those at 1/8, 1/4 and 1/2 of the spectrum.

    Args:
        count: number of directions that the inputs vary along, see `alive`.
    """
    return [(0, at) for at in sorted({count // 8, count // 4, count // 2} - {0})]


def random_pairs(count, pairs=RANDOM_PAIRS, seed=0):
    """Distinct random pairs k1 < k2 among the directions, the same for every run."""
    total = count * (count - 1) // 2
    rng = np.random.default_rng(seed)
    first, second = np.triu_indices(count, 1)
    chosen = np.sort(rng.permutation(total)[:pairs])
    return [(int(first[i]), int(second[i])) for i in chosen]


# ---- of a study


class Growth(NamedTuple):
    """A layer's components along the trajectory of a run.

    Attributes:
        arm, seed, model, layer: which run, of which network, which layer.
        values: eigenvalues of the layer's inputs, float64 [directions], falling.
        residuals: of the eigendirections, float64 [directions].
        steps: int [checkpoints].
        components: of the weights, float64 [checkpoints, directions].
        moved: of the weights' movement since the first checkpoint, float64 [checkpoints, directions].
    """

    arm: str
    seed: int
    model: str
    layer: str
    values: np.ndarray
    residuals: np.ndarray
    steps: np.ndarray
    components: np.ndarray
    moved: np.ndarray


@dataclass(frozen=True)
class DirectionEstimate:
    """A number about eigendirections in `summary.json`: as `intervals.Estimate`, of a layer.

    Attributes:
        layer: empty for a number about the function that a network computes.
        directions: the pair (k1, k2), 0 the top, of groups of eigenvectors for a function; empty for a number about all of them.
        ruled: False for a pair chosen by hand, from which no verdict is drawn.
    """

    name: str
    arm: str
    layer: str
    directions: tuple[int, ...]
    interval: Interval
    values: tuple[float, ...]
    ruled: bool = True

    def to_json(self):
        """The estimate as a flat dict of JSON values."""
        labels = {"name": self.name, "arm": self.arm}
        if self.layer:
            labels["layer"] = self.layer
        if self.directions:
            labels["directions"] = list(self.directions)
        return {**labels, **vars(self.interval), "values": list(self.values)}


def by_layer(growths):
    """Return {(model, layer): list of its `Growth`}: layers of two networks can share a name, and are not to be compared."""
    found = {}
    for growth in growths:
        found.setdefault((growth.model, growth.layer), []).append(growth)
    return found


def references(arms):
    """Return {arm: the one-hot arm of the same network that it is compared with}, for a list of `Arm`.

    The teacher is among them where it is the student's network: a null of its own, of other initialisation and order at once.
    """
    onehot = {}
    for arm in arms:
        if arm.name != "teacher" and not arm.teacher and not arm.null_of:
            onehot.setdefault(arm.model, arm.name)
    return {arm.name: onehot[arm.model] for arm in arms if arm.model in onehot and arm.name != onehot[arm.model]}


def ratios(growths, references, pair, of="components"):
    """Return {arm: ratios of its seeds, float64 [seeds]} to the reference run of the same seed; of one layer.

    Args:
        growths: list of `Growth` of one layer.
        references: {arm: the one-hot arm that it is compared with}.
        pair: (k1, k2), matched along k1, compared along k2.
        of: `components` or `moved`.
    """

    def curve(growth):
        return getattr(growth, of)[:, pair].T

    table = {(growth.arm, growth.seed): growth for growth in growths}
    found = {}
    for growth in growths:
        reference = table.get((references.get(growth.arm), growth.seed))
        if reference is not None:
            found.setdefault(growth.arm, []).append(ratio(curve(reference), curve(growth)))
    return {arm: np.array(values) for arm, values in found.items()}


def estimates(growths, references, pairs=()):
    """Return the list of `DirectionEstimate` of a study: `eigen_ratio` of the ruled pairs, over random pairs the fraction
    of ratios below 1, `eigen_fraction_below_1`, and every arm's `eigen_component` at its last step along the directions of those
    pairs, one direction each; and the same of the weights' movement, with `_moved` after the name.

    They need two seeds: nothing can be redrawn within one training. Seeds with an empty common range are left out, and
    `count` says how many remain. Random pairs are drawn among directions along which the inputs vary.

    Args:
        growths: list of `Growth`.
        references: {arm: the one-hot arm that it is compared with}.
        pairs: further pairs of directions, chosen by hand.
    """
    found = []
    for (_, layer), of_layer in by_layer(growths).items():
        living = min(alive(growth.values) for growth in of_layer)
        for of, suffix in (("components", ""), ("moved", "_moved")):
            ruled = ruled_pairs(living)
            for direction in sorted({k for pair in [*ruled, *pairs] for k in pair}):
                for arm in dict.fromkeys(growth.arm for growth in of_layer):
                    ends = [getattr(growth, of)[-1, direction] for growth in of_layer if growth.arm == arm]
                    found += over_seeds(f"eigen_component{suffix}", arm, layer, (direction,), np.array(ends))
            for pair in dict.fromkeys([*ruled, *pairs]):
                for arm, found_ratios in ratios(of_layer, references, pair, of).items():
                    found += over_seeds(f"eigen_ratio{suffix}", arm, layer, pair, found_ratios, pair in ruled)
            by_arm = {}
            for pair in random_pairs(living):
                for arm, found_ratios in ratios(of_layer, references, pair, of).items():
                    by_arm.setdefault(arm, []).append(found_ratios)
            for arm, found_ratios in by_arm.items():
                found += over_seeds(
                    f"eigen_fraction_below_1{suffix}", arm, layer, (), _share_below(np.array(found_ratios))
                )
    return found


def _share_below(found):
    """Share of ratios [pairs, seeds] below 1 among those that exist, [seeds]; NaN where none does."""
    exist = np.isfinite(found)
    return np.divide(
        (found < 1).sum(axis=0), exist.sum(axis=0), out=np.full(found.shape[1], np.nan), where=exist.any(axis=0)
    )


def over_seeds(name, arm, layer, pair, values, ruled=True):
    """Return [`DirectionEstimate`] of values [seeds], those that are no number left out; empty for fewer than two."""
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return []
    return [DirectionEstimate(name, arm, layer, pair, intervals.over_seeds(values), tuple(map(float, values)), ruled)]
