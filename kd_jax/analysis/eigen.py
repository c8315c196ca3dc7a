"""How fast a layer's weights grow along the eigendirections of its inputs: the paper's second claim, section 4.

Component of a weight matrix W (fan-in x units) along direction v_k: c_k = ||W^T v_k||, the norm over the units. Two runs are
compared at equal progress along a top direction, not at equal times: a larger learning rate alone moves both along the same curve
(c_1(t), c_2(t)), faster; a stronger bias toward the top bends the curve down.

The paper's theorem starts from zero weights, networks do not: what W holds along a direction at random from the start can outweigh
what training adds. So the same is measured of the weights' movement, ||(W - W(0))^T v_k||, beside it.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from kd_jax.analysis import intervals
from kd_jax.analysis.results import Estimate
from kd_jax.plan import Arm

EXACT_DIMENSIONS = 3000  # up to which all directions are computed exactly
LANCZOS_DIRECTIONS = 400  # how many of the top ones are computed beyond
GRID = 200  # points of the common range at which two curves are compared
RANDOM_PAIRS = 50
SINGLE = 1 << 28  # multiplications of a product from which on movements of float32 weights are multiplied in float32
ROWS = 64  # directions at a time whose numbers fit a processor's cache
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


def add(moments: Moments | None, x: ArrayLike) -> Moments:
    """Return the moments with further vectors added.

    Args:
        moments: the moments so far; None for none.
        x: the vectors, float [vectors, dimensions].
    """
    x = np.asarray(x, np.float64)
    if moments is None:
        moments = Moments(0, np.zeros(x.shape[1]), np.zeros((x.shape[1], x.shape[1])), x.mean(axis=0))
    x = x - moments.shift
    return Moments(moments.count + len(x), moments.total + x.sum(axis=0), moments.products + x.T @ x, moments.shift)


def covariance(moments: Moments) -> np.ndarray:
    """Return the covariance of the vectors, divided by their count, float64 [dimensions, dimensions]."""
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


def directions(
    matrix: np.ndarray,
    rank: int | None = None,
    exact_dimensions: int = EXACT_DIMENSIONS,
    count: int = LANCZOS_DIRECTIONS,
) -> Directions:
    """Return the eigendirections of a symmetric matrix.

    >>> directions(np.diag([1.0, 4.0, 2.0])).values.tolist()
    [4.0, 2.0, 1.0]

    Args:
        matrix: float64 [dimensions, dimensions].
        rank: the largest possible number of eigenvalues that are not zero, if it is known: Lanczos hardly tells the others apart.
        exact_dimensions: up to this many dimensions all directions are computed, by LAPACK.
        count: beyond, so many of the top ones, by Lanczos.
    """
    if len(matrix) <= exact_dimensions:
        values, vectors = np.linalg.eigh(matrix)
    else:
        from scipy.sparse.linalg import LinearOperator, eigsh  # only here: it takes a tenth of a second

        operator = LinearOperator(matrix.shape, matvec=lambda v: matrix @ v, dtype=matrix.dtype)  # pyright: ignore
        start = np.random.default_rng(0).normal(size=len(matrix))  # otherwise SciPy starts at random
        values, vectors = eigsh(operator, k=min(count, rank or count, len(matrix) - 1), v0=start)
    order = np.argsort(values)[::-1]
    values, vectors = values[order], vectors[:, order]
    return Directions(values, vectors, np.linalg.norm(matrix @ vectors - vectors * values, axis=0))


def direction_count(dimensions: int) -> int:
    """Return how many directions `directions` returns for a matrix of that many dimensions."""
    return dimensions if dimensions <= EXACT_DIMENSIONS else min(LANCZOS_DIRECTIONS, dimensions - 1)


def alive(values: np.ndarray) -> int:
    """Return the number of directions along which the inputs vary: no gradient moves weights along the others.

    Args:
        values: eigenvalues, float [directions], falling.
    """
    return int(np.sum(values > ALIVE * values[0]))


def make_grow(vectors: np.ndarray) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return `grow(weights) -> (components, moved)`, to be called with a run's weights at each checkpoint, the first one first.

    The components are ||W^T v_k||, those of the movement ||(W - W(0))^T v_k||, W(0) the weights of the first call, both float64
    [directions]. Products are in float64. Large ones (`SINGLE`) of weights that are float32 are of the movement alone, in float32:
    its rounding is 1e-7 of what has moved, no more than that of the weights themselves, and W(0) is added in float64.

    >>> grow = make_grow(np.eye(2))
    >>> [[norms.tolist() for norms in grow(weights)] for weights in (np.ones((2, 1)), np.array([[1.0], [3.0]]))]
    [[[1.0, 1.0], [0.0, 0.0]], [[1.0, 3.0], [0.0, 2.0]]]

    Args:
        vectors: the directions, float [fan-in, directions]; the weights are [fan-in, units].
    """
    transposed = np.asarray(vectors, np.float64).T
    known: dict[str, np.ndarray] = {}

    def grow(weights):
        single = weights.dtype == np.float32 and transposed.size * weights.shape[1] >= SINGLE
        if not known:
            known["start"] = transposed @ np.asarray(weights, np.float64)
            known["first"], known["transposed"] = weights, transposed.astype(np.float32) if single else transposed
        # The arrays of products are kept: memory that is new each time costs as much as a third of a product.
        dtype = known["transposed"].dtype
        factor = known.setdefault("factor", np.empty(weights.shape, dtype))
        product = known.setdefault("product", np.empty((len(transposed), weights.shape[1]), dtype))
        if single:
            np.subtract(weights, known["first"], out=factor)
        else:
            np.copyto(factor, weights)
        np.matmul(known["transposed"], factor, out=product)
        components, moved = np.empty(len(transposed)), np.empty(len(transposed))
        change = known.setdefault("change", np.empty((ROWS, weights.shape[1])))
        for first in range(0, len(transposed), ROWS):
            rows = slice(first, first + ROWS)
            start, part = known["start"][rows], product[rows]
            of_rows = change[: len(part)]
            if single:
                np.copyto(of_rows, part)
                now = start + of_rows
            else:
                np.subtract(part, start, out=of_rows)
                now = part
            components[rows], moved[rows] = np.sqrt(np.vecdot(now, now)), np.sqrt(np.vecdot(of_rows, of_rows))
        return components, moved

    return grow


def ratio(reference: Sequence[np.ndarray] | np.ndarray, other: Sequence[np.ndarray] | np.ndarray) -> float:
    """Return mean of c_2(other) / c_2(reference) at equal c_1, over the range of c_1 that both cover; below 1: `other` lags.

    Each curve is read at the first moment when c_1 reaches a level, by linear interpolation between checkpoints: where c_1
    falls back, only what sets a new maximum counts, so every level has one moment. The range begins at the larger of the two
    starts and ends at the smaller of the two maxima; a level that a curve starts above is outside. Levels are spaced evenly.

    Here the other run is half as fast along the second direction wherever both are equally far along the first:

    >>> first = np.array([0.0, 1.0, 2.0])
    >>> ratio((first, 3 * first), (2 * first, 3 * first))
    0.5

    Args:
        reference, other: (c_1, c_2) of a run, each float [checkpoints] from the first step on.

    Returns:
        The ratio; NaN where the range is empty, as when c_1 never grows.
    """
    levels = common_levels(reference, other)
    if not len(levels):
        return np.nan
    return float(np.mean(first_reach(other, levels) / first_reach(reference, levels)))


def common_levels(reference: Sequence[np.ndarray] | np.ndarray, other: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Return the levels of c_1 at which two curves are compared, float64 [levels]; no level where the range is empty.

    Args:
        reference, other: as for `ratio`.
    """
    low = max(reference[0][0], other[0][0])
    high = min(np.max(reference[0]), np.max(other[0]))
    return np.linspace(low, high, GRID + 1)[1:] if high > low else np.array([])


def first_reach(curve: Sequence[np.ndarray] | np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return c_2 at the first moment when c_1 reaches each level, by linear interpolation, float64 [levels].

    Args:
        curve: (c_1, c_2), each float [checkpoints] from the first step on.
        levels: values of c_1, float [levels], above where it starts and up to its maximum.
    """
    first, second = np.asarray(curve[0], np.float64), np.asarray(curve[1], np.float64)
    after = np.searchsorted(np.maximum.accumulate(first), levels)
    after = np.clip(after, 1, len(first) - 1)
    # The step that reaches a level starts below it, for otherwise the level would have been reached before.
    share = (levels - first[after - 1]) / (first[after] - first[after - 1])
    return second[after - 1] + np.clip(share, 0, 1) * (second[after] - second[after - 1])


def ruled_pairs(count: int) -> list[tuple[int, int]]:
    """Return the pairs that were fixed before looking: the top direction against those at 1/8, 1/4 and 1/2 of the spectrum.

    >>> ruled_pairs(64)
    [(0, 8), (0, 16), (0, 32)]

    Args:
        count: number of directions that the inputs vary along, see `alive`.
    """
    return [(0, at) for at in sorted({count // 8, count // 4, count // 2} - {0})]


def random_pairs(count: int, pairs: int = RANDOM_PAIRS, seed: int = 0) -> list[tuple[int, int]]:
    """Return distinct random pairs k1 < k2 of directions, the same for every run.

    Args:
        count: number of directions to choose from.
        pairs: how many pairs; fewer where there are not so many.
        seed: the seed of the draw.
    """
    total = count * (count - 1) // 2
    rng = np.random.default_rng(seed)
    first, second = np.triu_indices(count, 1)
    chosen = np.sort(rng.permutation(total)[:pairs])
    return [(int(first[i]), int(second[i])) for i in chosen]


# ---- of a study


class Growth(NamedTuple):
    """A layer's components along the trajectory of a run.

    Attributes:
        arm, seed: the run.
        model, layer: its network, and the layer of it.
        values: eigenvalues of the covariance of the layer's inputs, float64 [directions], falling.
        residuals: ||A v - l v|| of each eigendirection, float64 [directions].
        steps: steps of the checkpoints, int [checkpoints].
        components: the components of the weights, float64 [checkpoints, directions].
        moved: the same for the weights' movement since the first checkpoint, float64 [checkpoints, directions].
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


def by_layer(growths: Iterable[Growth]) -> dict[tuple[str, str], list[Growth]]:
    """Return {(model, layer): its growths}: layers of two networks can share a name, and must not be compared."""
    layers = {}
    for growth in growths:
        layers.setdefault((growth.model, growth.layer), []).append(growth)
    return layers


def references(arms: Iterable[Arm]) -> dict[str, str]:
    """Return {arm: the one-hot arm of the same network, with which it is compared}.

    The teacher is among them where it is the student's network, trained as that is: a null of its own, of other initialisation and
    order at once. One that was trained otherwise differs by more than chance, so it is no null of the bias.
    """
    arms = list(arms)
    onehot = {arm.model: arm.name for arm in reversed(arms) if arm.is_onehot}
    compared = [arm for arm in arms if arm.model in onehot and not arm.otherwise]
    return {arm.name: onehot[arm.model] for arm in compared if arm.name != onehot[arm.model]}


def ratios(
    growths: Iterable[Growth], references: Mapping[str, str], pair: tuple[int, int], of: str = "components"
) -> dict[str, np.ndarray]:
    """Return {arm: the `ratio` of each seed to the reference run of that seed, float64 [seeds]}.

    Args:
        growths: the runs' growths in one layer.
        references: {arm: the one-hot arm with which it is compared}.
        pair: (k1, k2): runs are matched along direction k1 and compared along k2.
        of: `components`, of the weights, or `moved`, of their movement.
    """

    def curve(growth):
        return getattr(growth, of)[:, pair].T

    table = {(growth.arm, growth.seed): growth for growth in growths}
    by_arm = {}
    for growth in table.values():
        reference = table.get((references.get(growth.arm, ""), growth.seed))
        if reference is not None:
            by_arm.setdefault(growth.arm, []).append(ratio(curve(reference), curve(growth)))
    return {arm: np.array(values) for arm, values in by_arm.items()}


def estimates(
    growths: Iterable[Growth],
    references: Mapping[str, str],
    pairs: Sequence[tuple[int, int]] = (),
    single: Collection[str] = (),
) -> list[Estimate]:
    """Return the estimates of a study about the growth of weights along eigendirections.

    `eigen_component`: every arm's component at its last step, along each direction of the pairs. `eigen_ratio`: the `ratio` of
    every pair. `eigen_fraction_below_1`: the share of ratios below 1 over random pairs of directions along which the inputs vary.
    The same of the weights' movement has `_moved` after the name.

    They need two seeds: nothing can be redrawn within one training. Seeds with an empty common range are left out, and
    `count` says how many remain.

    Args:
        growths: the growth of every run, layer by layer.
        references: {arm: the one-hot arm with which it is compared}.
        pairs: pairs of directions chosen by hand, beside the ruled ones.
        single: the arms of which one run stands for all seeds. They have no components over seeds, and their ratios to the
            references of all seeds have that run's chance in them, as `intervals.standard_error` says.
    """
    listed = []
    for (_, layer), of_layer in by_layer(growths).items():
        living = min(alive(growth.values) for growth in of_layer)
        for of, suffix in (("components", ""), ("moved", "_moved")):
            ruled = ruled_pairs(living)
            for direction in sorted({k for pair in [*ruled, *pairs] for k in pair}):
                for arm in dict.fromkeys(growth.arm for growth in of_layer if growth.arm not in single):
                    ends = [getattr(growth, of)[-1, direction] for growth in of_layer if growth.arm == arm]
                    listed += over_seeds(f"eigen_component{suffix}", arm, np.array(ends), layer, (direction,))
            for pair in dict.fromkeys([*ruled, *pairs]):
                for arm, found_ratios in ratios(of_layer, references, pair, of).items():
                    about: dict[str, Any] = {"no_verdict": pair not in ruled, "shared": arm in single}
                    listed += over_seeds(f"eigen_ratio{suffix}", arm, found_ratios, layer, pair, **about)
            by_arm = {}
            for pair in random_pairs(living):
                for arm, found_ratios in ratios(of_layer, references, pair, of).items():
                    by_arm.setdefault(arm, []).append(found_ratios)
            for arm, found_ratios in by_arm.items():
                below = _share_below(np.array(found_ratios))
                listed += over_seeds(f"eigen_fraction_below_1{suffix}", arm, below, layer, shared=arm in single)
    return listed


def _share_below(values: np.ndarray) -> np.ndarray:
    """Return the share below 1 of the ratios [pairs, seeds] that exist, float64 [seeds]; NaN where none does."""
    exist = np.isfinite(values)
    return np.divide(
        (values < 1).sum(axis=0),
        exist.sum(axis=0),
        out=np.full(values.shape[1], np.nan),
        where=exist.any(axis=0),
    )


def over_seeds(
    name: str,
    arm: str,
    values: np.ndarray,
    layer: str = "",
    directions: tuple[int, ...] = (),
    no_verdict: bool = False,
    shared: bool = False,
) -> list[Estimate]:
    """Return a list of the one estimate that values of seeds give; empty for fewer than two of them.

    Args:
        name, arm, layer, directions, no_verdict: as in `Estimate`.
        values: float [seeds]; those that are not finite are left out.
        shared: as in `intervals.over_seeds`.
    """
    kept = np.flatnonzero(np.isfinite(values))
    if len(kept) < 2:
        return []
    missing = () if len(kept) == len(values) else tuple(map(int, kept))
    values = values[kept]
    interval = intervals.over_seeds(values, shared=shared)
    about: dict[str, Any] = {"layer": layer, "directions": directions, "no_verdict": no_verdict, "kept": missing}
    return [Estimate(name, arm, interval, tuple(map(float, values)), **about)]
