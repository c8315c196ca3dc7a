"""A small study in float64, recomputed from its checkpoints in plain NumPy and SciPy: its training, and what its summary says.

Nothing of `kd_jax.analysis`, `kd_jax.extract`, `kd_jax.train` or `kd_jax.losses` is used for what is expected.
"""

import itertools

import jax
import numpy as np
import pytest
from scipy import optimize, stats
from scipy.special import logsumexp

from kd_jax.config import Study
from kd_jax.data.order import order
from kd_jax.studies import analyse, arithmetic, prepare
from kd_jax.studies import train as train_stage
from kd_jax.workdir import checkpoints, metrics_file, records

STEPS, TAUGHT_AT, SEEDS, BATCH = 15, 10, (3, 4), 40
STUDY = Study.from_flags(
    dataset="digits",
    train_examples=200,
    test_examples=120,
    label_noise=0.2,
    teacher="mlp_16",
    student=("mlp_16",),
    precision="float64",
    augment="none",
    optimizer="sgd",
    epochs=3,
    batch_size=BATCH,
    learning_rate=0.05,
    momentum=0.9,
    weight_decay=1e-3,
    warmup=0.2,
    decay_at=(0.6,),
    label_smoothing=0.1,
    temperature=3.0,
    weight=0.7,
    switch="onehot:kd@1,ramp=4",
    teacher_step=TAUGHT_AT,
    checkpoints=2 * STEPS,
    trajectory_examples=0,
    seeds=2,
    seed=SEEDS[0],
)
LOOKED_AT = {"teacher": ("teacher", TAUGHT_AT), "onehot": ("onehot", STEPS), "student": ("student", STEPS)}
LOOKED_AT |= {"onehot_early": ("onehot", TAUGHT_AT)}


@pytest.fixture(scope="module")
def analysed(tmp_path_factory):
    """(the work folder, its data as standardised rows by split, its summary)"""
    workdir, before = tmp_path_factory.mktemp("recomputed") / "work", jax.config.jax_enable_x64
    arithmetic.set_precision(STUDY.networks)
    try:
        train_stage.train("tested", STUDY, workdir, "unused", jax.devices()[:1])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(analyse, "write_report", lambda *_: None)
            found = analyse.analyze(workdir)
    finally:
        jax.config.update("jax_enable_x64", before)
    splits = prepare.open_study(workdir).dataset.splits
    pixels = {name: np.asarray(split.x, np.float64).reshape(len(split.y), -1) for name, split in splits.items()}
    mean, std = pixels["train"].mean(), pixels["train"].std()
    rows = {name: ((pixels[name] - mean) / std, split.y, split.true_y) for name, split in splits.items()}
    return workdir, rows, found


def weights(workdir, arm, seed, step):
    """[kernel, bias, kernel, bias] of the two layers."""
    tree = checkpoints.load_variables(records.run_folder(workdir, f"{arm}-seed{seed}"), step)["params"]
    return [np.array(tree[f"Dense_{layer}"][name]) for layer in (0, 1) for name in ("kernel", "bias")]


def forward(of, x):
    hidden = np.maximum(x @ of[0] + of[1], 0)
    return hidden, hidden @ of[2] + of[3]


def log_softmax(z):
    return z - logsumexp(z, axis=1, keepdims=True)


# ---- training


@pytest.mark.long
@pytest.mark.parametrize(("seed", "arm"), [*itertools.product(SEEDS, ("teacher", "onehot", "student"))])
def test_every_step_and_every_line_of_metrics_is_that_of_numpy(analysed, seed, arm):
    workdir, rows, _ = analysed
    x, y, _ = rows["train"]
    taught = weights(workdir, "teacher", seed, TAUGHT_AT)
    now, velocity = weights(workdir, arm, seed, 0), [0.0] * 4
    lines = metrics_file.read(records.run_folder(workdir, f"{arm}-seed{seed}"))
    for epoch in range(3):
        losses, hits = [], []
        for number, batch in enumerate(order(seed, 0 if arm == "teacher" else 1, epoch, len(y), BATCH)):
            step = 5 * epoch + number
            weight = 0.7 * np.clip((step - 5 + 1) / 4, 0, 1) if arm == "student" else 0.0
            rate = 0.05 * (step / 3 if step < 3 else 0.1 if step >= 9 else 1)
            hidden, z = forward(now, x[batch])
            labels = 0.9 * np.eye(10)[y[batch]] + 0.01
            soft = np.exp(log_softmax(forward(taught, x[batch])[1] / 3))
            losses.append(
                (1 - weight) * -(labels * log_softmax(z)).sum(1).mean()
                + weight * 9 * -(soft * log_softmax(z / 3)).sum(1).mean()
            )
            hits.append((z.argmax(1) == y[batch]).mean())
            of_z = (1 - weight) * (np.exp(log_softmax(z)) - labels) + weight * 3 * (np.exp(log_softmax(z / 3)) - soft)
            of_z /= BATCH
            of_hidden = (of_z @ now[2].T) * (hidden > 0)
            slopes = [x[batch].T @ of_hidden, of_hidden.sum(0), hidden.T @ of_z, of_z.sum(0)]
            velocity = [0.9 * v + g + 1e-3 * w for v, g, w in zip(velocity, slopes, now, strict=True)]
            now = [w - rate * v for w, v in zip(now, velocity, strict=True)]
            for ours, kept in zip(now, weights(workdir, arm, seed, step + 1), strict=True):
                np.testing.assert_allclose(kept, ours, rtol=0, atol=1e-7)  # learning rates are float32
        test_x, test_y, _ = rows["test"]
        z = forward(now, test_x)[1]
        expected = {
            "epoch": epoch + 1,
            "step": 5 * epoch + 5,
            "learning_rate": rate,
            "train_loss": np.mean(losses),
            "train_accuracy": np.mean(hits),
            "test_loss": -log_softmax(z)[np.arange(len(z)), test_y].mean(),
            "test_accuracy": (z.argmax(1) == test_y).mean(),
        }
        expected |= {"kd_weight": weight} if arm == "student" else {}
        assert {name: lines[epoch][name] for name in expected} == pytest.approx(expected, rel=1e-6)


# ---- the summary


def confidence(z, classes):
    """log p/(1-p) of a class of each row."""
    z, at = z.copy(), (np.arange(len(z)), classes)
    own = z[at]
    z[at] = -np.inf
    return own - logsumexp(z, axis=1)


def of_model(z, y):
    logs = log_softmax(z)
    p, hits, surest = np.exp(logs), z.argmax(1) == y, np.exp(logs).max(1)
    edges = np.linspace(0, 1, 16)
    bins = [(surest > low) & (surest <= high) for low, high in itertools.pairwise(edges)]
    return {
        ("accuracy", "all", 0): hits.mean(),
        ("nll", "all", 0): -logs[np.arange(len(y)), y].mean(),
        ("brier", "all", 0): ((p - np.eye(10)[y]) ** 2).sum(1).mean(),
        ("ece", "all", 0): sum(b.sum() * abs(hits[b].mean() - surest[b].mean()) for b in bins if b.any()) / len(y),
        ("entropy", "all", 0): -(p * logs).sum(1).mean(),
    }


def beside(teacher, student, temperature):
    of_teacher, of_student = log_softmax(teacher), log_softmax(student)
    p, top = np.exp(of_teacher), teacher.argmax(1)
    x, y = confidence(teacher, top), confidence(student, top)
    kl, shape = ((p * (of_teacher - log_softmax(student / t))).sum(1).mean() for t in (1, temperature))
    entropies = [-(np.exp(logs) * logs).sum(1) for logs in (of_teacher, of_student)]
    found = {
        ("agreement", "all", 0): (student.argmax(1) == top).mean(),
        ("kl", "all", 0): kl,
        ("kl_shape", "all", 0): shape,
        ("kl_scale", "all", 0): kl - shape,
        ("entropy_difference", "all", 0): (entropies[1] - entropies[0]).mean(),
        ("entropy_slope", "all", 0): stats.linregress(*entropies).slope,
    }
    low, high = np.quantile(x, (0.25, 0.75))
    for subset, mask in (("all", x == x), ("lowest_25", x <= low), ("highest_25", x >= high)):
        line = stats.linregress(x[mask], y[mask])
        found["exaggeration_slope", subset, 0] = line.slope
        found["exaggeration_intercept", subset, 0] = line.intercept
        found["mean_deviation", subset, 0] = (y - x)[mask].mean()
    for rank, classes in enumerate(np.argsort(-teacher, axis=1, kind="stable").T, 1):
        of_rank = stats.linregress(confidence(teacher, classes), confidence(student, classes))
        found["exaggeration_slope_rank", "all", rank] = of_rank.slope
    return found


def closest(teacher, student):
    """The temperature of the student at which the mean divergence is smallest."""
    p = np.exp(log_softmax(teacher))

    def loss(log_t):
        return -(p * log_softmax(student / np.exp(log_t))).sum(1).mean()

    return np.exp(optimize.minimize_scalar(loss, bounds=(-4, 4), method="bounded", options={"xatol": 1e-10}).x)


@pytest.mark.long
@pytest.mark.parametrize("split", ["train", "test"])
def test_every_number_that_logits_give_is_that_of_numpy(analysed, split):
    workdir, rows, summary = analysed
    x, y, true_y = rows[split]
    parts = {"all": y == y} | ({"clean": y == true_y, "noisy": y != true_y} if split == "train" else {})
    logits = {
        (name, seed): forward(weights(workdir, arm, seed, step), x)[1]
        for name, (arm, step) in LOOKED_AT.items()
        for seed in SEEDS
    }
    expected = {}
    for (part, rows_of), seed in itertools.product(parts.items(), SEEDS):
        teacher, hits = logits["teacher", seed], {}
        for arm in LOOKED_AT:
            z = logits[arm, seed]
            found = of_model(z[rows_of], y[rows_of])
            hits[arm] = found["accuracy", "all", 0]
            if part == "noisy":
                found["accuracy_true", "all", 0] = (z.argmax(1) == true_y)[rows_of].mean()
            if arm != "teacher":
                best = closest(teacher, z)
                found |= beside(teacher[rows_of], z[rows_of], best)
                found |= {("kl_temperature", "all", 0): best} if part == "all" else {}
            if arm == "student":
                found["accuracy_gain", "all", 0] = hits["student"] - hits["onehot"]
                found["accuracy_over_teacher", "all", 0] = hits["student"] - hits["teacher"]
            for (name, quarter, rank), value in found.items():
                subset = "_".join(each for each in (part, quarter) if each != "all") or "all"
                expected.setdefault((name, arm, subset, rank), []).append(value)
    measured = {
        (e["name"], e["arm"], e["subset"], e.get("rank", 0)): e
        for e in summary["estimates"]
        if e.get("split") == split and not e["name"].startswith(("accuracy_best", "epoch_best"))
    }
    assert set(measured) == set(expected)
    for about, values in expected.items():
        estimate = measured[about]
        assert estimate["values"] == pytest.approx(values, rel=1e-6, abs=1e-6), about  # ranks are float32
        found = estimate["values"]
        half = stats.t.ppf(0.975, 1) * stats.sem(found)
        ends = [estimate["low"], estimate["estimate"], estimate["high"]]
        assert ends == pytest.approx(np.mean(found) + np.array([-half, 0, half]), rel=1e-9, abs=1e-9), about
        assert (estimate["resampled"], estimate["count"]) == ("seeds", 2)


@pytest.mark.long
def test_every_verdict_on_confidence_and_gain_is_that_of_paired_t_tests(analysed):
    *_, summary = analysed
    values = {
        (e["name"], e["arm"], e.get("split"), e.get("subset")): np.array(e["values"]) for e in summary["estimates"]
    }

    def above(*parts):
        each = [stats.ttest_1samp(part, 0, alternative="greater").pvalue for part in parts]
        return min(1.0, 2 * max(each))

    tested = [each for each in summary["verdicts"] if "p_value" in each]
    for verdict in tested:
        if verdict["name"] == "exaggeration_slope":
            own, control = (
                values["exaggeration_slope", arm, verdict["split"], "lowest_25"] for arm in ("student", "onehot_early")
            )
            expected = min(above(own - 1, own - control), above(1 - own))
        elif verdict["name"] == "accuracy_gain":
            gain = values["accuracy_gain", "student", "test", "all"]
            expected = min(above(gain), above(-gain))
        else:
            continue
        assert verdict["p_value"] == pytest.approx(expected, rel=1e-4)
    ordered = sorted(tested, key=lambda each: each["p_value"])
    adjusted = np.maximum.accumulate([min(1, (len(ordered) - i) * v["p_value"]) for i, v in enumerate(ordered)])
    assert [each["adjusted"] for each in ordered] == pytest.approx(adjusted.tolist())
