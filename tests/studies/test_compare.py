"""Studies side by side: what is subtracted, how, and what is not."""

import csv
import json

import numpy as np
import pytest
from scipy import stats

import kd_jax
from kd_jax import cli
from kd_jax.config import Study
from kd_jax.errors import BadInput

STUDY = Study.from_flags(dataset="digits", teacher="mlp_8", student=("mlp_8",), epochs=3, batch_size=10, seeds=5)
TWIN = [0.70, 0.72, 0.71, 0.69, 0.74]


def numbers(gain, slope=1.2, arm="student", onehot="onehot", twin=TWIN):
    """Accuracies, gain and slopes of a student whose twin has the accuracies `twin`."""
    twin, rng = np.array(twin), np.random.default_rng(round(1000 * (gain + slope)))
    gains = gain + rng.normal(0, 0.002, len(twin))
    return {
        ("accuracy", "teacher", "test", "all"): (twin + 0.05).tolist(),
        ("accuracy", onehot, "test", "all"): twin.tolist(),
        ("accuracy", arm, "test", "all"): (twin + gains).tolist(),
        ("accuracy_gain", arm, "test", "all"): gains.tolist(),
        ("ece", arm, "test", "all"): rng.normal(0.05, 0.001, len(twin)).tolist(),
        ("exaggeration_slope", arm, "test", "lowest_25"): rng.normal(slope, 0.01, len(twin)).tolist(),
        ("exaggeration_slope", onehot, "test", "lowest_25"): rng.normal(1.0, 0.01, len(twin)).tolist(),
    }


def of(found, name):
    return next(each for each in found.differences if each.name == name)


def test_studies_of_the_same_data_and_seeds_are_subtracted_seed_by_seed(tmp_path, write_analysed):
    first, second = numbers(0.01), numbers(0.05)
    a = write_analysed(tmp_path / "a", STUDY, first)
    b = write_analysed(tmp_path / "b", STUDY.replaced(temperature=2.0), second)
    found = kd_jax.compare([a, b])
    key = ("accuracy", "student", "test", "all")
    values = np.subtract(second[key], first[key])
    half = stats.t.ppf(0.975, 4) * values.std(ddof=1) / np.sqrt(5)
    interval = of(found, "accuracy_difference").interval
    assert (interval.low, interval.high) == pytest.approx((values.mean() - half, values.mean() + half))
    assert of(found, "accuracy_difference").values == pytest.approx(values)
    assert {each["method"] for each in found.summary["differences"]} == {"paired by seed"}
    # Only what differs is listed.
    assert found.summary["differing"] == {"temperature": {"a": 4.0, "b": 2.0}}
    assert "b against a: test accuracy higher, +0.0" in found.answer[0]


def test_numbers_that_other_seeds_lack_are_not_subtracted_seed_by_seed(tmp_path, write_analysed):
    first, second, key = numbers(0.01), numbers(0.05), ("ece", "student", "test", "all")
    folders = []
    for name, of_study, lacking in (("a", first, 1), ("b", second, 2)):
        folders.append(write_analysed(tmp_path / name, STUDY, of_study))
        path = folders[-1] / "analysis" / "summary.json"
        summary = json.loads(path.read_text(encoding="utf-8"))
        (estimate,) = (each for each in summary["estimates"] if (each["name"], each["arm"]) == ("ece", "student"))
        del estimate["values"][lacking]
        estimate["kept"] = [seed for seed in range(5) if seed != lacking]
        path.write_text(json.dumps(summary), encoding="utf-8")
    ours, theirs = np.delete(second[key], 2), np.delete(first[key], 1)
    expected = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval()
    interval = of(kd_jax.compare(folders), "ece_difference").interval
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))


def test_other_seeds_on_the_same_data_are_compared_by_welchs_t(tmp_path, write_analysed):
    first, second = numbers(0.01), numbers(0.05, twin=TWIN[:3])
    a = write_analysed(tmp_path / "a", STUDY, first)
    b = write_analysed(tmp_path / "b", STUDY.replaced(seeds=3, seed=7), second)
    found = kd_jax.compare([a, b])
    for name in ("accuracy", "accuracy_gain", "ece"):
        key = (name, "student", "test", "all")
        expected = stats.ttest_ind(second[key], first[key], equal_var=False).confidence_interval()
        interval = of(found, f"{name}_difference").interval
        assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    assert {each["method"] for each in found.summary["differences"]} == {"Welch's t"}


def test_studies_on_other_data_are_shown_and_not_subtracted_and_that_is_said(tmp_path, write_analysed):
    a = write_analysed(tmp_path / "a", STUDY, numbers(0.01))
    b = write_analysed(tmp_path / "b", STUDY.replaced(dataset="mnist"), numbers(0.3), fingerprint="b")
    found = kd_jax.compare([a, b])
    assert found.differences == []
    assert found.warnings == ["b is on other data or labels than a: both are shown, and nothing is subtracted."]
    assert found.answer == ["Nothing is subtracted here."]
    shown = str(found)
    assert "1.2" in shown
    assert "dataset" in shown


def test_a_single_seed_has_no_difference(tmp_path, write_analysed):
    a = write_analysed(tmp_path / "a", STUDY, numbers(0.01))
    b = write_analysed(tmp_path / "b", STUDY.replaced(seeds=1), numbers(0.05, twin=TWIN[:1]))
    found = kd_jax.compare([a, b])
    assert found.differences == []
    assert {each["reason"] for each in found.summary["differences"]} == {"one seed"}
    assert "has one seed: how others would differ is not known" in found.warnings[0]


def test_the_same_numbers_are_said_to_be_the_same(tmp_path, write_analysed):
    a, b = (write_analysed(tmp_path / name, STUDY, numbers(0.01)) for name in "ab")
    found = kd_jax.compare([a, b], names=["one", "other"])
    assert found.answer == ["other has the same numbers as one, seed by seed."]
    assert found.differences == []


def test_every_number_and_verdict_of_every_study_is_in_the_table_and_the_files(tmp_path, write_analysed):
    a = write_analysed(tmp_path / "x" / "run", STUDY, numbers(0.01), warnings=["a run stopped"])
    two = STUDY.replaced(student=("mlp_8", "mlp_4"))
    more = numbers(0.05) | numbers(0.02, arm="student_mlp_4", onehot="onehot_mlp_4")
    b = write_analysed(tmp_path / "y" / "run", two, more)
    out = tmp_path / "out"
    found = kd_jax.compare([a, b], out=out)
    table = found.table()
    assert list(table.header) == ["", "x/run", "y/run, student", "y/run, student_mlp_4"]
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["student"] == ["mlp_8", "mlp_8", "mlp_4"]
    assert rows["exaggerates low confidence, test"] == ["supported"] * 3
    assert rows["better for being distilled"] == ["supported"] * 3
    assert rows["slope, test, lowest 25 %"][0].startswith("1.2")
    assert rows["control of it"][0].startswith("1.0")
    assert "a run stopped" in found.warnings[0]
    with open(out / "table.csv", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) == len(found.estimates) + len(found.differences)
    assert {line["against"] for line in lines} == {"", "x/run"}
    assert json.loads((out / "summary.json").read_text()) == found.summary
    page = (out / "report.html").read_text()
    assert all(name in page for name in ("x/run", "y/run, student_mlp_4", "../x/run/analysis/report.html"))
    # Again in the same folder: it is replaced.
    kd_jax.compare([a, b], out=out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "x", "y"]
    # In a notebook all text is escaped.
    assert "<script>" not in kd_jax.compare([a, b], names=["<script>", "b"])._repr_html_()


def test_the_variants_of_a_sweep_are_compared_and_those_that_diverged_are_named(tmp_path, write_analysed):
    folder = tmp_path / "sweep"
    variants = []
    for value, gain in ((1.0, 0.01), (2.0, 0.05), (4.0, 0.02)):
        name = f"temperature={value:g}"
        variants.append({"folder": name, "values": {"temperature": f"{value:g}"}, "config": {}})
        study = STUDY.replaced(temperature=value)
        write_analysed(folder / name, study, () if value == 4 else numbers(gain))
    (folder / "sweep.json").write_text(json.dumps({"schema": 2, "study": "cifar_kd", "variants": variants}))
    (folder / "analysis").mkdir()
    left = {"temperature=4": "its loss is not finite"}
    (folder / "analysis" / "summary.json").write_text(json.dumps({"diverged": left, "study": {"variants": []}}))
    found = kd_jax.compare([folder])
    assert list(found.table().header) == ["", "temperature=1", "temperature=2"]
    assert len(found.differences) == 4
    assert found.warnings == [f"{folder / 'temperature=4'} is left out: its loss is not finite"]
    # A variant beside its own sweep would stand there twice.
    with pytest.raises(BadInput, match="expected different folders"):
        kd_jax.compare([folder, folder / "temperature=2"])


def audit(folder, rng, seeds, labels, teacher, **given):
    students = [teacher + rng.normal(0, 1, teacher.shape) for _ in range(seeds)]
    kd_jax.audit(teacher, students, labels, out=folder, **given)
    return folder


def test_audits_of_the_same_answers_are_subtracted_as_independent_samples_and_beside_a_study_only_shown(
    tmp_path, write_analysed
):
    rng = np.random.default_rng(0)
    labels, teacher = rng.integers(0, 4, 80), rng.normal(0, 2, (80, 4))
    a, b = (audit(tmp_path / name, rng, 3, labels, teacher) for name in "ab")
    found = kd_jax.compare([a, b])
    assert {each["method"] for each in found.summary["differences"]} == {"Welch's t"}
    assert found.summary["differing"] == {}
    other = audit(tmp_path / "c", rng, 3, labels, teacher + 1e-3 * rng.normal(size=teacher.shape))
    study = write_analysed(tmp_path / "d", STUDY, numbers(0.01))
    found = kd_jax.compare([a, other, study])
    assert found.differences == []
    assert [warning.split(": ")[0] for warning in found.warnings[:2]] == [
        "c is of other answers of a teacher, or other labels, than a",
        "d is not known to be the data of a",
    ]


def damaged(folder, change):
    path = folder / "analysis" / "summary.json"
    summary = json.loads(path.read_text())
    change(summary)
    path.write_text(json.dumps(summary))
    return folder


def test_bad_input_is_one_line_that_names_the_folder(tmp_path, write_analysed, capsys):
    a = write_analysed(tmp_path / "a", STUDY, numbers(0.01))
    bare = write_analysed(tmp_path / "bare", STUDY)
    torn = write_analysed(tmp_path / "torn", STUDY, numbers(0.01))
    (torn / "analysis" / "summary.json").write_text('{"estimates": [')
    lacking = damaged(
        write_analysed(tmp_path / "lacking", STUDY, numbers(0.01)), lambda summary: summary.pop("verdicts")
    )
    odd = damaged(
        write_analysed(tmp_path / "odd", STUDY, numbers(0.01)), lambda summary: summary["estimates"][0].pop("low")
    )
    theorem = damaged(
        write_analysed(tmp_path / "theorem", STUDY, numbers(0.01)), lambda summary: summary.update(theory={})
    )
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("")
    for words, said in (
        ([], "expected two studies or more"),
        ([a], f"{a}: expected two studies or more"),
        ([a, a], f"{a}: expected different folders"),
        ([a, tmp_path / "x" / ".." / "a"], "expected different folders"),
        ([a, bare], f"{bare}: expected analysis/summary.json; run: kd-jax analyze {bare}"),
        ([a, tmp_path / "none"], f"{tmp_path / 'none'}: expected the work folder of a study"),
        ([a, torn], f"{torn}/analysis/summary.json: expected the JSON of an analysis"),
        ([a, lacking], "found it damaged (no 'verdicts'); run: kd-jax analyze"),
        ([a, odd], "found it damaged (no 'low'); run: kd-jax analyze"),
        ([a, theorem], "this one simulates the theorem"),
        ([a, bare, "--names", "x"], "--names=x: expected 2, one per folder, found 1"),
        ([a, bare, "--names", "x", "x"], "--names=x x: expected a name of its own for each folder"),
        ([a, a, f"--out={full}"], f"--out={full}: expected a new or empty folder"),
        ([a, a, f"--out={full / 'mine.txt'}"], "expected a folder, this is a file"),
    ):
        (tmp_path / "x").mkdir(exist_ok=True)
        assert cli.main(["compare", *map(str, words)]) == 2, words
        streams = capsys.readouterr()
        assert streams.out == ""
        assert streams.err.count("\n") == 1, streams.err
        assert said in streams.err
    assert [path.name for path in full.iterdir()] == ["mine.txt"]
    with pytest.raises(BadInput, match="two studies or more"):
        kd_jax.compare([a])


def test_the_command_prints_the_answer_first_and_quiet_nothing_else(tmp_path, write_analysed, capsys):
    a = write_analysed(tmp_path / "a", STUDY, numbers(0.01))
    b = write_analysed(tmp_path / "b", STUDY.replaced(temperature=2.0), numbers(0.05))
    assert cli.main(["compare", str(a), str(b), f"--out={tmp_path / 'out'}"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines[0].startswith("b against a: test accuracy higher")
    assert f"report: {tmp_path / 'out' / 'report.html'}" in lines
    assert cli.main(["compare", str(a), str(b), "--quiet"]) == 0
    assert capsys.readouterr().out.splitlines() == [lines[0]]
