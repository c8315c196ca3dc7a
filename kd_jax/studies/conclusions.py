"""What a summary concludes about one quantity, whichever version of the program wrote it."""

from collections.abc import Mapping
from typing import Any

from kd_jax.analysis import results, verdicts
from kd_jax.analysis.results import Unlearned, Verdict


def on(summary: Mapping[str, Any], name: str, arm: str, split: str) -> Verdict | None:
    """Return the verdict about a quantity of an arm on a split; None where there is none.

    Args:
        summary: contents of a `summary.json`. Where an earlier version wrote it, whose verdicts do not say what they are about, the
            verdict is drawn again from the same estimates.
        name: `exaggeration_slope` or `accuracy_gain`.
        arm: the arm of a student.
        split: `train` or `test`.
    """
    for values in summary["verdicts"]:
        if (values.get("name"), values.get("arm"), values.get("split")) == (name, arm, split):
            return Verdict(**values)
    if any("name" in values for values in summary["verdicts"]):
        return None
    arms = [each for each in summary.get("study", {}).get("arms", ()) if each["baseline"]]
    baselines = {each["name"]: each["baseline"] for each in arms}
    controls = {each["name"]: each.get("control", each["baseline"]) for each in arms}
    unlearned = [Unlearned.from_json(run) for run in summary.get("unlearned", ())]
    drawn = verdicts.decide(verdicts.exaggeration_claims(results.read(summary), baselines, controls, unlearned))
    return next((each for each in drawn if (each.name, each.arm, each.split) == (name, arm, split)), None)
