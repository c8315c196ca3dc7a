"""Folders from strangers: nothing is executed, nothing outside of them is written or removed, and what is wrong is one line."""

import base64
import io
import json
import os
import shutil
import zipfile

import jax
import numpy as np
import pytest

from kd_jax.cli import commands
from kd_jax.config import Study
from kd_jax.data import stored
from kd_jax.errors import BadInput
from kd_jax.files import fresh_folder
from kd_jax.report import figures
from kd_jax.report.page import Picture
from kd_jax.studies import analyse, sweep
from kd_jax.studies import train as train_stage
from kd_jax.studies.report import write_report
from kd_jax.workdir import records

STUDY = Study.from_flags(
    dataset="digits",
    train_examples=120,
    test_examples=60,
    teacher="mlp_8",
    student=("mlp_8",),
    epochs=2,
    batch_size=40,
    checkpoints=4,
)
SCRIPT, FORMULA = "<script>alert(1)</script>", "=cmd|' /C calc'!A0"
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(24)).decode()


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A study that was trained and analysed, without its figures."""
    workdir = tmp_path_factory.mktemp("hostile") / "done"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analyse, "write_report", lambda workdir, folder, *_: (folder / "report.html").write_text(""))
        train_stage.train("hostile", STUDY, workdir, "unused", jax.devices()[:1])
        analyse.analyze(workdir)
    return workdir


@pytest.fixture
def drawn(monkeypatch):
    """Which figures would be written, instead of writing them, which takes seconds."""
    paths = []
    monkeypatch.setattr(figures, "save", lambda figure, path: paths.append(path) or Picture(PIXEL))
    return paths


@pytest.fixture
def copy(done, tmp_path):
    shutil.copytree(done, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def victim(tmp_path):
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "precious.txt").write_text("x")
    yield tmp_path / "victim"
    assert os.listdir(tmp_path / "victim") == ["precious.txt"]
    assert (tmp_path / "victim" / "precious.txt").read_text() == "x"


def edit(path, change):
    contents = json.loads(path.read_text(encoding="utf-8"))
    change(contents)
    path.write_text(json.dumps(contents), encoding="utf-8")


# ---- what is shown


def poisoned(summary):
    for number, text in enumerate((SCRIPT, FORMULA)):
        summary["verdicts"][number] |= dict.fromkeys(("claim", "because", "sentence", "decided_by"), text)
        summary["estimates"][number] |= {"name": text, "resampled": text}
        summary["warnings"].append(text)
    summary["study"]["study"] = summary["study"]["data"]["name"] = summary["study"]["data"]["test_split"] = SCRIPT
    summary["study"]["platform"]["device"] = summary["study"]["versions"]["jax"] = SCRIPT
    for each in summary["estimates"]:
        each["arm"] = {"student": SCRIPT, "onehot": FORMULA}.get(each["arm"], each["arm"])
    for arm in summary["study"]["arms"]:
        for key in ("name", "baseline", "control"):
            if key in arm:
                arm[key] = {"student": SCRIPT, "onehot": FORMULA}.get(arm[key], arm[key])


def test_names_that_are_script_or_formulas_are_text_wherever_they_are_shown(copy, drawn):
    edit(copy / "analysis" / "summary.json", poisoned)
    write_report(copy)
    page = (copy / "analysis" / "report.html").read_text(encoding="utf-8")
    assert SCRIPT not in page
    assert "alert(1)" in page
    assert "<" not in (copy / "analysis" / "table.md").read_text(encoding="utf-8").replace("&lt;", "")
    written = (copy / "analysis" / "table.csv").read_text(encoding="utf-8")
    assert f"'{FORMULA}" in written
    assert f"\n{FORMULA}" not in written
    assert f",{FORMULA}" not in written


def test_a_verdict_of_another_kind_is_refused_for_it_names_a_style(copy, capsys):
    edit(copy / "analysis" / "summary.json", lambda summary: summary["verdicts"][0].update(verdict=f"x'>{SCRIPT}"))
    assert commands.main(["report", str(copy)]) == 2
    assert "verdicts: expected one of supported" in (line := capsys.readouterr().err)
    assert len(line.splitlines()) == 1


def growth(copy, **changes):
    (path,) = (copy / "analysis" / "eigen").glob("student-seed0-*.npz")
    arrays = dict(np.load(path))
    np.savez(path, **(arrays | {key: np.asarray(value) for key, value in changes.items()}))
    return path


@pytest.mark.parametrize("name", ["/../../../../PWNED", "..", "a\0b", SCRIPT, "x" * 5000])
def test_a_model_or_a_layer_called_as_a_path_is_drawn_inside_of_the_folder(copy, drawn, name):
    growth(copy, model=name, layer=name)
    write_report(copy)
    assert drawn
    for path in drawn:
        assert path.parent == copy / "analysis" / "figures"
        assert path.name not in ("", ".", "..")
        assert not set("/\0<>") & set(path.name)
        assert len(path.name) < 200
    assert SCRIPT not in (copy / "analysis" / "report.html").read_text(encoding="utf-8")


class Executed:
    def __reduce__(self):
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("folder", ["eigen", "pairs"])
def test_pickles_and_bombs_in_an_analysis_are_refused(copy, drawn, folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stored, "ALWAYS", 1 << 20)
    path = next((copy / "analysis" / folder).glob("student-seed0-*.npz"))
    arrays = dict(np.load(path))
    for contents in (
        {key: np.array([Executed()], dtype=object) for key in arrays},
        {"components": np.zeros((40, 10**5))},
        None,
    ):
        if contents is None:
            path.write_bytes(path.read_bytes()[:100])
        else:
            np.savez_compressed(path, **(arrays | contents))
        with pytest.raises(BadInput, match="kd-jax analyze"):
            write_report(copy)
    assert not (tmp_path / "executed").exists()


# ---- links and names that lead elsewhere


def outsider(copy, folder):
    (copy.parent / "sweep").mkdir()
    config = records.read_study(copy)["config"]
    variant = {"folder": folder, "values": {}, "config": config}
    records.write_json(copy.parent / "sweep" / "sweep.json", {"study": "s", "variants": [variant], "versions": {}})
    return copy.parent / "sweep"


@pytest.mark.parametrize("folder", ["../copy", "..", ".", "", "a/../../copy", "/etc", "a\0b", 3, None, "linked"])
def test_a_sweep_has_its_variants_inside_of_it(copy, folder, capsys):
    (copy / "analysis" / "mine.txt").write_text("kept by hand")
    workdir = outsider(copy, folder)
    (workdir / "linked").symlink_to(copy)
    for command in ("analyze", "report"):
        assert commands.main([command, str(workdir)]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert (copy / "analysis" / "mine.txt").read_text() == "kept by hand"


def test_an_analysis_that_is_a_link_is_replaced_and_not_written_through(copy, victim, no_figures):
    shutil.rmtree(copy / "analysis")
    for name in ("analysis", ".analysis", ".analysis-replaced"):
        (copy / name).symlink_to(victim)
    analyse.analyze(copy)
    assert (copy / "analysis" / "summary.json").is_file()
    assert not any((copy / name).is_symlink() for name in ("analysis", ".analysis", ".analysis-replaced"))


@pytest.mark.parametrize("there", ["a link", "a folder", "a file", "nothing"])
def test_a_fresh_folder_is_empty_whatever_was_there(tmp_path, victim, there):
    path = tmp_path / "new"
    if there == "a link":
        path.symlink_to(victim)
    elif there == "a folder":
        shutil.copytree(victim, path)
    elif there == "a file":
        path.write_text("x")
    assert not list(fresh_folder(path).iterdir())
    assert not path.is_symlink()


@pytest.mark.parametrize(
    "name",
    ["runs", *(f"runs/student-seed0{name}" for name in ("", *(f"/{name}" for name in records.WRITTEN[:-1])))],
)
def test_a_run_that_is_a_link_out_of_the_study_is_refused(copy, victim, name):
    path = copy / name
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.symlink_to(victim / "precious.txt" if path.suffix else victim)
    for call in (
        lambda: train_stage.train("hostile", STUDY, copy, "unused", jax.devices()[:1]),
        lambda: analyse.analyze(copy),
    ):
        with pytest.raises(BadInput, match=r"expected .*this is a link"):
            call()


@pytest.mark.parametrize("target", ["../..", "..", "../../x/../../../victim", "../../x/runs/onehot-seed0", "/etc"])
def test_links_of_other_forms_than_this_programs_are_none_of_its_runs(tmp_path, target):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "student-seed0").symlink_to(target)
    with pytest.raises(BadInput, match="which is none of this study"):
        records.check_links(tmp_path)


def test_links_of_a_sweep_and_of_copied_teachers_pass(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "student-seed0").symlink_to("../../epochs=3/runs/student-seed0")
    (tmp_path / "runs" / "teacher-seed1").symlink_to("teacher-seed0")
    records.check_links(tmp_path)


def test_json_without_end_is_one_line(copy, capsys):
    deep = "[" * 100_000
    for name, command in (
        ("study.json", ["analyze", str(copy)]),
        ("analysis/summary.json", ["report", str(copy)]),
        ("sweep.json", ["report", str(copy)]),
    ):
        (copy / name).write_text(deep)
        assert commands.main(command) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
        (copy / name).write_text("{}")


def test_sweeps_are_read_as_they_are_written(copy):
    workdir = outsider(copy, "epochs=3")
    assert sweep.read(workdir)["variants"][0]["folder"] == "epochs=3"


def test_an_archive_whose_members_have_paths_as_names_writes_nothing(tmp_path, copy, drawn):
    path = next((copy / "analysis" / "eigen").glob("student-seed0-*.npz"))
    stream = io.BytesIO(path.read_bytes())
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr("../../../PWNED.npy", b"\x93NUMPY")
    path.write_bytes(stream.getvalue())
    with pytest.raises(BadInput, match="kd-jax analyze"):
        write_report(copy)
    assert not list(tmp_path.rglob("PWNED*"))


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("teacher", "mlp_9", "expected the parameters of the network that study.json names"),
        ("student", ["../../../x"], "expected one of linear"),
        ("seeds", 10**9, "expected a whole number from 1 to"),
        ("seed", 2**63, "expected a whole number from 0"),
        ("seed", "0/../../x", "seed: expected int"),
        ("dataset", "../../../../etc", "expected a folder with a dataset_info"),
        ("layers", ["../../x"], "expected a layer of a student"),
        ("kernel_examples", 10**6, "expected at most the 120 training examples"),
        ("temperature", "4", "temperature: expected float"),
        ("switch", "(" * 1000, "--switch="),
    ],
)
def test_settings_of_a_stranger_are_one_line(copy, capsys, field, value, said):
    record = {key: each for key, each in records.read_study(copy).items() if key != "seal"}
    records.write_study(copy, record | {"config": record["config"] | {field: value}})
    assert commands.main(["analyze", str(copy)]) == 2
    assert said in (line := capsys.readouterr().err)
    assert len(line.strip().splitlines()) == 1
