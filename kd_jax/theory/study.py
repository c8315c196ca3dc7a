"""The study of the theorem: its configuration, and running it. JAX is imported when it runs: `--help` must not wait for it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kd_jax.config import BadInput
from kd_jax.provenance import now, program

MOST_STEPS = 1_000_000  # of a round
MOST_IN_ALL = 10 * MOST_STEPS  # of all rounds of a draw: minutes
MOST = {"rounds": 1000, "hilbert_rounds": 1000, "seeds": 1000, "examples": 10_000}


@dataclass(frozen=True)
class Theory:
    """Everything that decides the numbers of the study. The top eigenvalue is 1, and times are in units of 1 / top eigenvalue."""

    teacher_time: float = 2.0
    """How long the teacher trains on the labels [1 / top eigenvalue]."""
    student_time: float = 5.0
    """How long each student trains on the predictions of its teacher [1 / top eigenvalue]."""
    learning_rate: float = 0.01
    """Step of gradient descent [1 / top eigenvalue; between 0 and 1]."""
    rounds: int = 4
    """Rounds of self-distillation; each student teaches the next."""
    spectrum: tuple[float, ...] = (1.0, 0.5, 0.1, 0.01)
    """Eigenvalues of the generated matrix, falling from 1 [top eigenvalue]."""
    examples: int = 100
    """Rows of the generated matrix."""
    directions: tuple[int, ...] = (0, 3, 7, 15, 30)
    """Eigendirections of the digits' pixels to draw, rising; 0 is the top one."""
    tolerance: float = 0.02
    """Hilbert space: mean squared error that each round may leave; labels are -1 and 1 [1e-6 to 1]."""
    hilbert_rounds: int = 20
    """Hilbert space: how many rounds at most; they end sooner when they collapse to zero."""
    hilbert_examples: int = 100
    """Hilbert space: digits in the kernel matrix [2 to 500]."""
    seeds: int = 3
    """Draws of the generated matrix and its targets."""
    seed: int = 0
    """The first seed; the others follow."""

    def __post_init__(self):
        self._need("learning_rate", 0 < self.learning_rate < 1, "between 0 and 1 / top eigenvalue = 1", "lower it")
        for name in ("teacher_time", "student_time"):
            value = getattr(self, name)
            self._need(name, 0 < value < math.inf, "a time above 0", "pass one such as 2")
            self._need(name, self._steps(value) >= 1, f"at least a step, {self.learning_rate:g}", "lengthen it")
            fix = "shorten it or raise --learning_rate"
            self._need(name, self._steps(value) <= MOST_STEPS, f"at most {MOST_STEPS:,} steps", fix)
        for name in ("rounds", "hilbert_rounds", "seeds"):
            self._need(name, getattr(self, name) >= 1, "a whole number of at least 1", "raise it")
        for name, most in MOST.items():
            self._need(name, getattr(self, name) <= most, f"at most {most:,}", "lower it")
        in_all = self._steps(self.teacher_time) + self.rounds * self._steps(self.student_time)
        expected = f"at most {MOST_IN_ALL:,} steps in all rounds, found {in_all:,}"
        self._need(
            "rounds", in_all <= MOST_IN_ALL, expected, "lower it, shorten --student_time or raise --learning_rate"
        )
        self._need("seed", 0 <= self.seed <= 2**32 - self.seeds, "a whole number from 0 to below 2^32", "change it")
        spectrum, directions = list(self.spectrum), list(self.directions)
        falls = spectrum == sorted(set(spectrum), reverse=True) and len(spectrum) > 1
        falls = falls and spectrum[0] == 1 and spectrum[-1] > 0
        self._need("spectrum", falls, "two or more, falling from 1, above 0", "divide them by the largest")
        self._need("examples", self.examples >= len(self.spectrum), "at least one for each eigenvalue", "raise it")
        rises = directions == sorted(set(directions)) and len(directions) > 1
        self._need("directions", rises and directions[0] == 0, "0 and others, rising", "pass e.g. 0 7 30")
        # From 1 on, predicting zero is good enough; far below, the smallest multiplier drowns in rounding.
        self._need("tolerance", 1e-6 <= self.tolerance < 1, "1e-6 or more, below 1", "change it")
        self._need("hilbert_examples", 2 <= self.hilbert_examples <= 500, "2 to 500", "change it")

    def _need(self, name: str, holds: bool, expected: str, fix: str) -> None:
        if not holds:
            value = getattr(self, name)
            shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
            raise BadInput(f"--{name}={shown}: expected {expected}; {fix}")

    def _steps(self, time: float) -> int:
        return round(time / self.learning_rate)

    def steps(self) -> list[int]:
        """Return the number of steps of each round, the teacher's first."""
        return [self._steps(self.teacher_time), *[self._steps(self.student_time)] * self.rounds]

    def identity(self) -> dict[str, Any]:
        """Return what must agree for two studies to share a work folder, as JSON values: all but which seeds were asked for."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {name: value for name, value in values.items() if name not in ("seeds", "seed")}


def run(
    name: str,
    study: Theory,
    workdir: str | Path,
    devices: Sequence[Any],
    warn: Callable[[str], None],
    command: str = "",
) -> dict[str, Any]:
    """Compute everything, write the work folder, its report included, and return `summary.json`'s contents.

    Args:
        name: the name of the study, for `study.json`.
        study: the configuration.
        workdir: the work folder; made if absent. If it holds the same study, that is computed again: it takes seconds.
        devices: JAX devices, the first of which is used.
        warn: called with a line of text, before the work begins, when there will be no effect to see.
        command: the command line of this program, for `study.json`.

    Raises:
        BadInput: before anything is written.
    """
    import jax

    from kd_jax.theory import simulate as linear
    from kd_jax.theory.report import write_report
    from kd_jax.workdir import records

    records.check_workdir(workdir, name, study.identity())
    here = program(devices[:1], command)
    pixels = linear.digit_pixels(study.directions)
    seeds = range(study.seed, study.seed + study.seeds)
    problems = [*(linear.generated(study.spectrum, study.examples, seed) for seed in seeds), pixels]
    warning = ""
    if all(linear.fully_fitted(problem, study.teacher_time) for problem in problems):
        warning = (
            f"warning: --teacher_time={study.teacher_time:g} fits the teacher fully (less than {linear.FITTED:g} is left along"
            " every drawn direction): in theory the effect on its student vanishes; stop it earlier to see one"
        )
        warn(warning)
    with records.locked(workdir), jax.enable_x64(True):
        simulations = [linear.simulate(problem, study.learning_rate, study.steps()) for problem in problems]
        hilbert = linear.hilbert(study.hilbert_examples, study.tolerance, study.hilbert_rounds)
        record = {
            "study": name,
            "config": {**study.identity(), "seeds": study.seeds, "seed": study.seed},
            "data": {"name": "digits", "train_examples": len(pixels.y), "fingerprint": linear.fingerprint(pixels)},
            **{key: here[key] for key in ("platform", "versions")},
            "history": [here | {"ended": now()}],
        }
        verdicts = linear.verdicts(simulations, hilbert)
        theory = linear.summary(simulations, hilbert, study.teacher_time, study.student_time)
        summary = {
            "answer": [verdict.sentence for verdict in verdicts[:2]],
            "estimates": [],
            "verdicts": [verdict.to_json() for verdict in verdicts],
            "study": record,
            "theory": {**theory, "warning": warning},
        }
        folder = Path(workdir) / "analysis"
        records.write_study(workdir, record)
        records.write_json(folder / "summary.json", summary)
        write_report(folder, summary, study, simulations, hilbert)
    return summary
