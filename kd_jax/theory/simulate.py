"""Where distillation can be solved: gradient descent in JAX, run beside the closed forms of `kd_jax.analysis.closed_forms`.

Matrices are scaled so that the top eigenvalue of x'x is 1; a time is then in units of 1 / top eigenvalue. Call the functions under
64-bit JAX (`jax.enable_x64`): in 32 bits rounding hides what is compared here.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from kd_jax.analysis import closed_forms as theory
from kd_jax.analysis import eigen
from kd_jax.analysis.results import Verdict
from kd_jax.config import BadInput
from kd_jax.data import digits
from kd_jax.plan import checkpoint_steps

RECORDS = 40  # about how many times the weights of a run are recorded
AGREES = 1e-9  # closed form and simulation, both in float64, differ by rounding below this
FITTED = 1e-6  # a teacher with less than this left to learn is fully fitted
RANK = 1e-9  # eigenvalues below this share of the top one are rounding
REFERENCE_TIMES = ((1.0, 1.0), (2.0, 5.0), (5.0, 5.0), (10.0, 10.0))  # teacher's and student's
REFERENCE_EIGENVALUES = (1.0, 0.5, 0.1, 0.01)


# ---- linear regression


class Problem(NamedTuple):
    """Least squares with a known answer.

    Attributes:
        name: the name in reports.
        x: inputs, float64 [examples, features]; the top eigenvalue of x'x is 1.
        y: targets, float64 [examples, outputs].
        eigenvalues: the eigenvalues of x'x, falling, those that are not zero, float64 [directions].
        vectors: their eigenvectors, float64 [features, directions].
        solution: the least-squares weights along each of them, float64 [directions, outputs].
        drawn: positions of the directions that reports show, the top one first.
        seed: the seed with which it was drawn; None for real data.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    eigenvalues: np.ndarray
    vectors: np.ndarray
    solution: np.ndarray
    drawn: tuple[int, ...]
    seed: int | None


def generated(spectrum: Sequence[float], examples: int, seed: int) -> Problem:
    """Return a problem with exactly these eigenvalues, random orthogonal directions and random targets.

    Args:
        spectrum: eigenvalues, falling from 1.
        examples: rows of x, at least as many as eigenvalues.
        seed: the seed of the random directions and targets.
    """
    rng = np.random.default_rng(seed)
    eigenvalues = np.asarray(spectrum, np.float64)
    count = len(eigenvalues)
    left = np.linalg.qr(rng.normal(size=(examples, count)))[0]
    vectors = np.linalg.qr(rng.normal(size=(count, count)))[0]
    x = (left * np.sqrt(eigenvalues)) @ vectors.T
    along = rng.choice((-1.0, 1.0), size=(count, 1))  # no direction without signal
    noise = rng.normal(size=(examples, 1)) / np.sqrt(examples)
    y = left @ along + noise - left @ (left.T @ noise)
    solution = along / np.sqrt(eigenvalues)[:, None]
    return Problem("generated", x, y, eigenvalues, vectors, solution, tuple(range(count)), seed)


def digit_pixels(directions: Sequence[int]) -> Problem:
    """Return the problem of regressing the ten classes on the 64 pixels of the training digits, centred, one common scale.

    Args:
        directions: positions of the directions that reports show, 0 the top.

    Raises:
        BadInput: for a direction that the pixels do not have.
    """
    source = digits.load()
    x = source.train_x.reshape(len(source.train_x), -1).astype(np.float64)
    x -= x.mean(axis=0)
    y = np.eye(source.classes)[source.train_y]
    left, scale, right = np.linalg.svd(x, full_matrices=False)
    eigenvalues = (scale / scale[0]) ** 2
    rank = int((eigenvalues > RANK).sum())
    if max(directions) >= rank:
        raise BadInput(
            f"--directions={max(directions)}: expected below {rank}, the rank of the digits' pixels; pass smaller ones"
        )
    solution = left[:, :rank].T @ y / np.sqrt(eigenvalues[:rank, None])
    return Problem("digits", x / scale[0], y, eigenvalues[:rank], right[:rank].T, solution, tuple(directions), None)


def fingerprint(problem: Problem) -> str:
    """Return the sha256 over the inputs and targets, as hex."""
    digest = hashlib.sha256()
    for array in (problem.x, problem.y):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array))  # pyright: ignore
    return digest.hexdigest()


@jax.jit
def _descend(x, y, learning_rate, gaps):
    """Weights after each gap of steps of gradient descent from zero on 1/2 |x b - y|^2: [records, features, outputs]."""
    gradient = jax.grad(lambda weights: 0.5 * jnp.sum((x @ weights - y) ** 2))

    def advance(weights, gap):
        weights = jax.lax.fori_loop(0, gap, lambda _, b: b - learning_rate * gradient(b), weights)
        return weights, weights

    return jax.lax.scan(advance, jnp.zeros((x.shape[1], y.shape[1]), x.dtype), gaps)[1]


class Simulation(NamedTuple):
    """Gradient descent on a problem, round after round; round 0 is the teacher, which is the model on labels too.

    Attributes:
        problem: the `Problem`.
        rates: the rates of its eigenvalues under this learning rate, per step, float64 [directions].
        steps: steps at which weights were recorded, for each round int64 [records], from 0 to the last step of the round.
        progress: the progress as measured, for each round float64 [records, directions].
        closed_form: the same from theory.
    """

    problem: Problem
    rates: np.ndarray
    steps: list[np.ndarray]
    progress: list[np.ndarray]
    closed_form: list[np.ndarray]

    def largest_difference(self) -> float:
        """Return the largest difference between measured and closed-form progress, over all rounds, records and directions."""
        pairs = zip(self.progress, self.closed_form, strict=True)
        return float(max(np.abs(measured - expected).max() for measured, expected in pairs))

    def compared(self) -> tuple[np.ndarray, np.ndarray]:
        """Return measured (student, onehot) progress at the end of each student's round, along the lower drawn directions.

        The model on labels is looked up where it is as far along the top direction as the student; between two records
        log(remaining) is interpolated, along which gradient descent moves in a straight line.

        Returns:
            Two float64 [rounds, lower directions].
        """
        ends = np.stack([path[-1] for path in self.progress[1:]])
        onehot, reached = -_log_left(self.progress[0]), -_log_left(ends[:, self.problem.drawn[0]])
        top, *lower = self.problem.drawn
        along = np.stack([np.interp(reached, onehot[:, top], onehot[:, k]) for k in lower], axis=1)
        return ends[:, lower], -np.expm1(-along)

    def expected(self) -> tuple[np.ndarray, np.ndarray]:
        """Return what `compared` returns, from the closed forms."""
        top, *lower = self.problem.drawn
        totals = [steps[-1] for steps in self.steps]
        times = [theory.effective_time(self.rates[top], totals[: count + 1]) for count in range(1, len(totals))]
        return theory.rounds_progress(self.rates[lower], totals)[1:], theory.progress(
            self.rates[lower], np.stack(times)[:, None]
        )

    def ratios(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (measured, expected): the first student's `eigen.ratio` to the one-hot run, for each direction.

        The one-hot run is the teacher's own, of the same length. It is measured from some 40 records, between which curves are
        interpolated linearly.

        Returns:
            Two float64 [directions].
        """
        onehot, student = self.progress[:2]
        measured = [eigen.ratio(onehot[:, [0, k]].T, student[:, [0, k]].T) for k in range(len(self.rates))]
        teacher_time, student_time = self.steps[0][-1], self.steps[1][-1]
        expected = theory.matched_ratio(self.rates, self.rates[0], teacher_time, student_time, teacher_time)
        return np.array(measured), expected

    def resolution(self) -> float:
        """Return the size below which differences in `compared` are rounding.

        The closer to 1 the top direction is, the less of it is resolved.
        """
        top = self.problem.drawn[0]
        return AGREES + 1e-14 / max(1 - max(path[-1, top] for path in self.progress[1:]), 1e-16)


def _log_left(progress: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(1 - progress, np.finfo(np.float64).tiny))


def simulate(problem: Problem, learning_rate: float, steps: Sequence[int]) -> Simulation:
    """Return gradient descent, round after round: each round regresses on what the one before predicts.

    Args:
        problem: the regression to solve.
        learning_rate: between 0 and 1, in units of 1 / top eigenvalue.
        steps: number of steps of each round, the teacher's first.
    """
    rates = theory.descent_rates(problem.eigenvalues, learning_rate)
    x, targets = jnp.asarray(problem.x), jnp.asarray(problem.y)
    simulation = Simulation(problem, rates, [], [], [])
    before = np.ones_like(rates)
    weight = problem.solution / (problem.solution**2).sum(axis=1, keepdims=True)
    for total in steps:
        looks = np.array(checkpoint_steps(total, RECORDS))
        path = _descend(x, targets, learning_rate, np.diff(looks, prepend=0))
        targets = x @ path[-1]
        along = np.einsum("fk,rfo->rko", problem.vectors, np.asarray(path))
        simulation.steps.append(looks)
        simulation.progress.append((along * weight).sum(axis=2))
        simulation.closed_form.append(before * theory.progress(rates, looks[:, None]))
        before = before * theory.progress(rates, total)
    return simulation


def fully_fitted(problem: Problem, teacher_time: float) -> bool:
    """Return whether a teacher has learnt every drawn direction, so that by theory its student is a model on labels."""
    lowest = problem.eigenvalues[list(problem.drawn)]
    return bool((theory.remaining(lowest, (teacher_time,)) < FITTED).all())


# ---- Hilbert space


class HilbertSimulation(NamedTuple):
    """Self-distillation by kernel regression, in theory and by solving every round directly.

    Attributes:
        eigenvalues: the eigenvalues of the kernel matrix, rising, float64 [examples].
        closed_form: the rounds according to theory.
        targets: what each round learns, from linear solves that know no eigenvectors, float64 [rounds + 1, examples].
        multipliers: c of each round from the same solves, float64 [rounds].
        tolerance: mean squared error that each round may leave.
        guaranteed: number of rounds before collapse that theory guarantees.
    """

    eigenvalues: np.ndarray
    closed_form: theory.HilbertRounds
    targets: np.ndarray
    multipliers: np.ndarray
    tolerance: float
    guaranteed: float

    def largest_difference(self) -> float:
        """Return the largest difference between the predictions of both, in units of the labels."""
        return float(np.abs(self.targets - self.closed_form.targets).max())

    def norms(self) -> np.ndarray:
        """Return |z_t| / sqrt(N eps) from the direct solves, float64 [rounds + 1]; at 1 and below it has collapsed."""
        return np.linalg.norm(self.targets, axis=1) / np.sqrt(self.targets.shape[1] * self.tolerance)


def hilbert(examples: int, tolerance: float, rounds: int) -> HilbertSimulation:
    """Return self-distillation in Hilbert space on the problem of telling odd (1) from even (-1) among the first training digits.

    The kernel is Gaussian, its width the median distance.

    Args:
        examples: number of digits.
        tolerance: mean squared error that each round may leave.
        rounds: largest number of rounds.
    """
    source = digits.load()
    x = source.train_x[:examples].reshape(examples, -1).astype(np.float64)
    y = np.where(source.train_y[:examples] % 2 == 1, 1.0, -1.0)
    squares = ((x[:, None] - x[None]) ** 2).sum(axis=2)
    kernel = np.exp(-squares / (2 * np.median(squares[np.triu_indices(examples, 1)])))
    eigenvalues, vectors = np.linalg.eigh(kernel)
    closed_form = theory.hilbert_rounds(eigenvalues, vectors.T @ y, tolerance, rounds)

    def predict(log_c, labels):
        return kernel @ np.linalg.solve(kernel + np.exp(log_c) * np.eye(examples), labels)

    targets, multipliers = [y], []
    while len(multipliers) < rounds and np.mean(targets[-1] ** 2) > tolerance * (1 + 1e-12):
        labels = targets[-1]

        def excess(log_c, labels=labels):
            return np.mean((predict(log_c, labels) - labels) ** 2) / tolerance - 1

        log_c = scipy.optimize.brentq(excess, -40, 40, xtol=1e-14, rtol=1e-14)  # pyright: ignore
        targets.append(predict(log_c, labels))
        multipliers.append(np.exp(log_c))  # pyright: ignore
    guaranteed = theory.guaranteed_rounds(eigenvalues, vectors.T @ y, tolerance)
    return HilbertSimulation(
        eigenvalues, closed_form, np.array(targets) @ vectors, np.array(multipliers), tolerance, guaranteed
    )


# ---- what came out


def reference(pairs: Iterable[tuple[float, float]]) -> list[dict[str, Any]]:
    """Return student and one-hot progress at equal top progress under gradient flow, a dict of JSON values for each (T, s)."""
    rows = []
    for teacher, student in pairs:
        eigenvalues = np.array(REFERENCE_EIGENVALUES)
        time = theory.matched_time(eigenvalues, (teacher, student))
        s, a = theory.student_progress(eigenvalues, teacher, student), theory.progress(eigenvalues, time)
        lower = [
            {"eigenvalue": float(eigenvalue), "student": float(behind), "onehot": float(ahead)}
            for eigenvalue, behind, ahead in zip(eigenvalues[1:], s[1:], a[1:], strict=True)
        ]
        times = {"teacher_time": teacher, "student_time": student, "matched_time": time}
        rows.append({**times, "student_top": float(s[0]), "lower": lower})
    return rows


def measured(simulations: Iterable[Simulation]) -> list[dict[str, Any]]:
    """Return measured progress at the end of every student's round, a dict of JSON values for each lower drawn direction."""
    rows = []
    for simulation in simulations:
        problem = simulation.problem
        for number, (behind, ahead) in enumerate(zip(*simulation.compared(), strict=True), start=1):
            for position, student, onehot in zip(problem.drawn[1:], behind, ahead, strict=True):
                labels = {"problem": problem.name, "seed": problem.seed, "round": number, "direction": position}
                values = {"student": float(student), "onehot": float(onehot)}
                rows.append({**labels, "eigenvalue": float(problem.eigenvalues[position]), **values})
    return rows


def verdicts(simulations: Sequence[Simulation], kernel_rounds: HilbertSimulation) -> list[Verdict]:
    """Return the verdicts on the theorem, decided by the simulations.

    Args:
        simulations: the simulations of gradient descent, one for each problem and seed.
        kernel_rounds: self-distillation in Hilbert space.
    """
    listed = []
    for name in dict.fromkeys(simulation.problem.name for simulation in simulations):
        these = [simulation for simulation in simulations if simulation.problem.name == name]
        student, onehot = np.stack([simulation.compared() for simulation in these], axis=1)
        resolution = max(simulation.resolution() for simulation in these)
        listed += _behind(name, student, onehot, resolution)
    largest = max(simulation.largest_difference() for simulation in simulations)
    listed.append(
        Verdict(
            "gradient descent progresses along every direction as the closed forms say",
            "supported" if largest < AGREES else "contradicted",
            f"largest difference in progress {largest:.1e}, over all directions, rounds and recorded steps",
            f"Gradient descent {'progresses' if largest < AGREES else 'does not progress'} along every direction as the closed"
            f" forms say: the largest difference in progress is {largest:.1e}.",
        )
    )
    rounds, difference, collapsed = (
        len(kernel_rounds.multipliers),
        kernel_rounds.largest_difference(),
        kernel_rounds.closed_form.collapsed,
    )
    holds = difference < AGREES and (not collapsed or rounds >= kernel_rounds.guaranteed)
    ended = "until zero is close enough to the labels" if collapsed else "and not yet collapsed"
    listed.append(
        Verdict(
            "in Hilbert space the rounds are those of theory, and no fewer than it guarantees",
            "supported" if holds else "contradicted",
            f"rounds: {rounds}, {ended}; guaranteed {kernel_rounds.guaranteed:.2g}; largest difference to direct solves"
            f" {difference:.1e}",
            f"In Hilbert space the rounds of self-distillation {'are' if holds else 'are not'} those of theory: {rounds} rounds,"
            f" {ended}; {kernel_rounds.guaranteed:.2g} are guaranteed.",
        )
    )
    return listed


def _behind(name: str, student: np.ndarray, onehot: np.ndarray, resolution: float) -> Iterator[Verdict]:
    """Yield the verdicts on progress [seeds, rounds, lower directions]."""
    gap = (onehot - student)[:, 0]
    behind = _sign(gap, resolution)
    is_so = {"supported": "the student is behind", "contradicted": "the student is not behind"}
    yield Verdict(
        f"{name}: equally far along the top direction, the student is behind along every lower one",
        behind,
        f"progress {gap.min():.2g} to {gap.max():.2g} lower, over the drawn directions (resolved: {resolution:.0e})",
        f"{name}: equally far along the top direction, {is_so.get(behind, 'it is open whether the student is behind')} along every"
        f" lower one, by a progress of {gap.min():.2g} to {gap.max():.2g}.",
    )
    if student.shape[1] > 1:
        share = student / onehot
        fall = 1 - share[:, 1:] / share[:, :-1]
        further = _sign(fall, resolution + 1e-14 / np.abs(student).min())
        is_so = {"supported": "leaves", "contradicted": "does not leave"}
        yield Verdict(
            f"{name}: every further round leaves the lower directions further behind",
            further,
            f"student / one-hot progress falls by {fall.min():.2g} to {fall.max():.2g} of itself in a round",
            f"{name}: every further round {is_so.get(further, 'may or may not leave')} the lower directions further behind:"
            f" progress relative to one-hot falls by {fall.min():.2g} to {fall.max():.2g} of itself.",
        )


def _sign(values: np.ndarray, resolution: float) -> str:
    if values.min() > resolution:
        return "supported"
    return "contradicted" if values.min() < -resolution else "inconclusive"


def summary(
    simulations: Sequence[Simulation], kernel_rounds: HilbertSimulation, teacher_time: float, student_time: float
) -> dict[str, Any]:
    """Return what a summary's `theory` holds, as JSON values: reference values, measured progress, largest differences.

    Args:
        simulations: the simulations of gradient descent, one for each problem and seed.
        kernel_rounds: self-distillation in Hilbert space.
        teacher_time, student_time: a pair to list beside the published ones [1 / top eigenvalue].
    """
    differences = {}
    for simulation in simulations:
        name = simulation.problem.name
        differences[name] = max(differences.get(name, 0.0), simulation.largest_difference())
    differences["hilbert"] = kernel_rounds.largest_difference()
    return {
        "reference": reference(dict.fromkeys([*REFERENCE_TIMES, (teacher_time, student_time)])),
        "measured": measured(simulations),
        "hilbert": {
            "tolerance": kernel_rounds.tolerance,
            "multipliers": kernel_rounds.multipliers.tolist(),
            "norms": kernel_rounds.norms().tolist(),
            "collapsed": kernel_rounds.closed_form.collapsed,
            "guaranteed_rounds": kernel_rounds.guaranteed,
        },
        "differences": differences,
        "largest_difference": max(differences.values()),
    }
