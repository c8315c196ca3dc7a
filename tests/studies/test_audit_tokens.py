"""Audits of language models: the same questions as of examples, per token, over sequences."""

import json

import numpy as np
import pytest
from scipy.special import log_softmax

import kd_jax
from kd_jax.cli import commands
from kd_jax.errors import BadInput

SEQUENCES, LENGTH, VOCABULARY = 30, 12, 8


def language_models(seed=0):
    """(inputs, logits of a teacher and of a student [sequences, length, vocabulary]): a row predicts the next position's input."""
    rng = np.random.default_rng(seed)
    inputs = rng.integers(0, VOCABULARY, (SEQUENCES, LENGTH))
    following = np.eye(VOCABULARY)[np.roll(inputs, -1, axis=1)]
    teacher = following * rng.gamma(2, 1.5, (SEQUENCES, LENGTH, 1)) + rng.normal(size=following.shape)
    return inputs, teacher, 1.4 * teacher + 0.3 * rng.normal(size=teacher.shape)


def test_the_estimates_are_those_of_the_same_rows_and_intervals_are_over_sequences():
    inputs, teacher, student = language_models()
    whole = kd_jax.audit(teacher, student, inputs, tokens=True, shift_labels=True)
    rows = (teacher[:, :-1].reshape(-1, VOCABULARY), student[:, :-1].reshape(-1, VOCABULARY))
    flat = kd_jax.audit(*rows, inputs[:, 1:].ravel())
    assert [(e.name, e.subset, e.values) for e in whole.estimates] == [
        (e.name, e.subset, e.values) for e in flat.estimates
    ]
    assert {(e.interval.resampled, e.interval.count) for e in whole.estimates} == {("sequences", SEQUENCES)}
    assert {e.interval.resampled for e in flat.estimates} == {"examples"}
    calibration = whole.summary["audit"]["calibration"]["student"]["nll_before"]
    assert (calibration["resampled"], calibration["count"]) == ("sequences", SEQUENCES)
    given = whole.summary["audit"]["given"]
    assert (given["unit"], given["sequences"], given["rows"]) == ("tokens", SEQUENCES, SEQUENCES * LENGTH)
    assert given["examples"] == SEQUENCES * (LENGTH - 1)


def test_copies_of_each_token_in_its_sequence_make_no_interval_narrower():
    """Ten times the same token are no ten observations: over rows its interval would shrink by the root of ten."""
    inputs, teacher, student = language_models()
    labels = np.roll(inputs, -1, axis=1)

    def width(times):
        arrays = [np.repeat(each, times, axis=1) for each in (teacher, student, labels)]
        interval = kd_jax.audit(*arrays, tokens=True).estimate("nll", split="test").interval
        return interval.high - interval.low

    assert width(10) == pytest.approx(width(1))


def test_positions_that_are_left_out_are_not_even_looked_at():
    inputs, teacher, student = language_models()
    mask = np.arange(LENGTH) < np.random.default_rng(1).integers(4, LENGTH + 1, (SEQUENCES, 1))
    labels = np.where(mask, np.roll(inputs, -1, axis=1), -100)
    broken = np.where(mask[..., None], teacher, np.nan)
    by_labels = kd_jax.audit(broken, student, labels, tokens=True)
    by_mask = kd_jax.audit(broken, student, np.roll(inputs, -1, axis=1), tokens=True, mask=mask)
    assert [e.values for e in by_labels.estimates] == [e.values for e in by_mask.estimates]
    assert by_labels.summary["audit"]["given"]["examples"] == mask.sum()
    for each in by_labels.summary["audit"]["surer"]:
        assert mask[each["sequence"], each["position"]]
        assert each["row"] == each["sequence"] * LENGTH + each["position"]


def test_labels_that_are_the_inputs_are_noticed():
    inputs, teacher, student = language_models()
    found = kd_jax.audit(teacher, student, inputs, tokens=True)
    assert any("--shift_labels" in warning for warning in found.warnings)
    right = kd_jax.audit(teacher, student, inputs, tokens=True, shift_labels=True)
    assert not right.warnings


def test_tokens_of_unknown_sequences_are_said_to_have_intervals_that_are_too_narrow():
    _, teacher, student = language_models()
    rows = teacher.reshape(-1, VOCABULARY), student.reshape(-1, VOCABULARY)
    assert "intervals are too narrow" in kd_jax.audit(*rows, tokens=True).warnings[0]
    told = kd_jax.audit(*rows, tokens=True, sequences=np.repeat(np.arange(SEQUENCES), LENGTH))
    assert not told.warnings
    few = kd_jax.audit(teacher[:9], student[:9], tokens=True)
    assert "there are 9 sequences" in few.warnings[0]
    with pytest.raises(BadInput, match="expected at least 8 sequences, found 7"):
        kd_jax.audit(teacher[:7], student[:7], tokens=True)


def top(logits, k):
    log_p = log_softmax(logits, axis=-1)
    indices = np.argsort(-log_p, axis=-1)[..., :k]
    return {"indices": indices, "log_probabilities": np.take_along_axis(log_p, indices, axis=-1)}


def test_of_the_most_probable_tokens_it_is_told_what_is_left_out_and_what_hangs_on_it(tmp_path):
    _, teacher, student = language_models()
    for name, logits in (("t", teacher), ("s", student)):
        np.savez(tmp_path / f"{name}.npz", **top(logits, 3))
    found = kd_jax.audit(tmp_path / "t.npz", tmp_path / "s.npz", tokens=True, classes=VOCABULARY, out=tmp_path / "out")
    p = np.exp(log_softmax(student, axis=-1)).reshape(-1, VOCABULARY)
    ordered = np.sort(p, axis=1)[:, ::-1]
    outside = found.summary["audit"]["outside"]
    assert outside["student"]["mean"] == pytest.approx((1 - ordered[:, :3].sum(axis=1)).mean())
    assert outside["student"]["largest"] == pytest.approx((1 - ordered[:, :3].sum(axis=1)).max())
    tops = teacher.reshape(-1, VOCABULARY).argmax(1)
    of_teacher_class = p[np.arange(len(p)), tops]
    lacking = of_teacher_class < ordered[:, 2]
    assert outside["assumed"]["rows"] == pytest.approx(lacking.mean())
    # Where no class is left out of what decides, the slope is that of all logits.
    whole = kd_jax.audit(teacher, student, tokens=True)
    x = log_softmax(teacher, axis=-1).reshape(-1, VOCABULARY).max(axis=1)
    x, y = x - np.log1p(-np.exp(x)), np.log(of_teacher_class) - np.log1p(-of_teacher_class)
    expected = np.polyfit(x[~lacking], y[~lacking], 1)[0]
    assert outside["assumed"]["slope_listed"] == pytest.approx(expected)
    assert whole.summary["audit"]["outside"] == {}
    assert "What the files leave out" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_the_command_shows_tokens_by_name_in_their_context(tmp_path, capsys):
    inputs, teacher, student = language_models()
    words = {f"▁w{i}": i for i in range(VOCABULARY)}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": words}}), encoding="utf-8")
    for name, array in {"t": teacher.astype(np.float32), "s": student.astype(np.float16), "ids": inputs}.items():
        np.save(tmp_path / f"{name}.npy", array)
    argv = ["audit", "--tokens", "--shift_labels", f"--teacher={tmp_path}/t.npy", f"--student={tmp_path}/s.npy"]
    argv += [f"--labels={tmp_path}/ids.npy", f"--names={tmp_path}/tokenizer.json", f"--out={tmp_path}/out"]
    assert commands.main(argv) == 0
    assert f"{SEQUENCES} sequences" in (page := (tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    first = summary["audit"]["less_sure"][0]
    s, t = first["sequence"], first["position"]
    before = "".join(f" w{token}" for token in inputs[s, : t + 1])
    assert f"{before}⟦ w{inputs[s, t + 1]}⟧" in page
    assert f"␣w{first['teacher']}" in page
    capsys.readouterr()
    for extra, said in (
        (["--mask", f"{tmp_path}/t.npy"], "expected integers"),
        (["--sequences", f"{tmp_path}/absent.npy"], "there is none"),
    ):
        assert commands.main([*argv, *extra]) == 2
        assert said in capsys.readouterr().err
    del argv[1:3]
    assert commands.main([*argv, f"--mask={tmp_path}/ids.npy"]) == 2
    assert "pass --tokens" in capsys.readouterr().err
