"""Networks taken away from a study: what other programs make of the files is what kd_jax makes of the checkpoints."""

import json
import os
import re
import shutil
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open

from kd_jax import cli, models
from kd_jax.analysis import rescaling
from kd_jax.config import Study, to_json
from kd_jax.errors import BadInput
from kd_jax.export import program
from kd_jax.extract.logits import make_logits
from kd_jax.models import Variables
from kd_jax.report import card as cards
from kd_jax.studies import export, prepare
from kd_jax.studies import train as train_stage
from kd_jax.workdir import checkpoints, packing, records

STUDY = Study.from_flags(
    dataset="digits", train_examples=200, teacher="mlp_16", student=("mlp_8",), epochs=2, batch_size=40, checkpoints=4
)
RUN = "student-seed0"


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("done") / "study"
    train_stage.train("tested", STUDY, folder, "unused", jax.devices()[:1])
    return folder


@pytest.fixture(scope="module")
def ours(workdir):
    """(test images, logits) of the run at its last step."""
    opened = prepare.open_study(workdir)
    variables = Variables(**checkpoints.load_variables(records.run_folder(workdir, RUN), 10))
    x = opened.dataset.test.x
    return x, make_logits("mlp_8", opened.dataset, "float32")(variables, x)


def python(code, folder):
    """What a program prints in a folder where no kd_jax can be imported."""
    guard = "import sys\nsys.modules['kd_jax'] = None\n"
    done = subprocess.run([sys.executable, "-c", guard + code], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def code_of(folder):
    """The Python code that a card shows."""
    return re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]


def test_a_program_runs_without_kd_jax_with_the_same_logits(workdir, ours, tmp_path):
    x, logits = ours
    out = export.export(workdir, RUN, "stablehlo", out=tmp_path / "out")
    np.save(tmp_path / "x.npy", x)
    more = "\nx = np.load('../x.npy')\nnp.save('../y.npy', np.asarray(program.call(x)))\n"
    more += "print([name for name in sys.modules if name.startswith('kd_jax.') or name.startswith('flax')])"
    said = python(code_of(out) + more, out)
    found = np.load(tmp_path / "y.npy")
    assert said.splitlines()[0].startswith("(1, 10)")
    assert said.splitlines()[-1] == "[]"
    np.testing.assert_allclose(found, logits, atol=1e-5)
    np.testing.assert_array_equal(found.argmax(1), logits.argmax(1))
    assert json.loads((out / "card.json").read_text())["platforms"] == ["cpu", "cuda", "tpu"]


def test_a_program_of_any_batch_has_running_statistics_and_standardisation_in_it(tmp_path):
    class Normalised(nn.Module):
        param_dtype: object = jnp.float32

        @nn.compact
        def __call__(self, x, train=False):
            y = nn.BatchNorm(use_running_average=not train)(nn.Conv(4, (3, 3))(x))
            return nn.Dense(3)(nn.relu(y).mean((1, 2)))

    model = models.from_module(Normalised())
    variables = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 2)))
    state = jax.tree.map(lambda leaf: leaf + 0.3, variables.model_state)
    mean, std = np.array([100.0, 50.0]), np.array([20.0, 30.0])

    def logits(x):
        standardised = (x.astype(jnp.float32) - mean.astype(np.float32)) / std.astype(np.float32)
        return model.apply(variables._replace(model_state=state), standardised, train=False).logits

    program.write(tmp_path, logits, (8, 8, 2), "uint8")
    run = jax.export.deserialize(bytearray((tmp_path / program.FILE).read_bytes()))
    for batch in (1, 5):
        x = np.random.default_rng(batch).integers(0, 256, (batch, 8, 8, 2)).astype(np.uint8)
        np.testing.assert_allclose(run.call(x), logits(x), atol=1e-5)
    with pytest.raises(ValueError, match=r"dtype|float32"):
        run.call(np.zeros((1, 8, 8, 2), np.float32))


class Lengths(nn.Module):
    """Asks for the number of examples, and may look at all of them."""

    looks_around: bool = False
    param_dtype: object = jnp.float32

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(use_running_average=not train)(nn.Dense(6)(x.reshape(len(x), -1)))
        return nn.Dense(3)(nn.relu(x) - (x.mean(0) if self.looks_around else 0))


@pytest.mark.parametrize("looks_around", [False, True])
def test_a_network_that_asks_for_the_number_of_examples_is_written_one_by_one_if_that_is_the_same(
    tmp_path, looks_around
):
    model = models.from_module(Lengths(looks_around))
    variables = model.init(jax.random.key(0), jnp.zeros((1, 4, 5, 1)))

    def logits(x):
        return model.apply(variables, x.astype(jnp.float32) / 255, train=False).logits

    if looks_around:
        with pytest.raises(BadInput, match="--format=stablehlo: expected a network that takes any number of examples"):
            program.write(tmp_path, logits, (4, 5, 1), "uint8")
        return
    program.write(tmp_path, logits, (4, 5, 1), "uint8")
    run = jax.export.deserialize(bytearray((tmp_path / program.FILE).read_bytes()))
    for batch in (1, 5):
        x = np.random.default_rng(batch).integers(0, 256, (batch, 4, 5, 1)).astype(np.uint8)
        np.testing.assert_allclose(run.call(x), logits(x), atol=1e-5)


def test_weights_lie_under_the_names_of_the_checkpoint_and_say_what_they_are(workdir, ours, tmp_path):
    out = export.export(workdir, RUN, "safetensors", step=1, out=tmp_path / "out")
    record = records.read_study(workdir)
    with checkpoints.trajectory(workdir / "runs" / RUN) as trajectory:
        expected = trajectory.load(1)
    with safe_open(out / "model.safetensors", "numpy") as file:
        assert set(file.keys()) == set(expected)
        for name, array in expected.items():
            np.testing.assert_array_equal(file.get_tensor(name), array)
        said = file.metadata()
    assert said["architecture"] == "mlp_8"
    assert said["hash"] == packing.tree_digest(packing.nest(expected))
    assert (said["run"], said["step"], said["classes"]) == (RUN, "1", "10")
    assert json.loads(said["mean"]) == record["data"]["mean"]
    assert said["fingerprint"] == record["data"]["fingerprint"]


def test_the_code_on_the_card_of_weights_runs_and_gives_the_same_logits(workdir, ours, tmp_path, monkeypatch, capsys):
    x, logits = ours
    out = export.export(workdir, RUN, "safetensors", out=tmp_path / "out")
    monkeypatch.chdir(out)
    names = {}
    exec(code_of(out), names)
    assert capsys.readouterr().out == "(1, 10)\n"
    card = json.loads((out / "card.json").read_text())["normalisation"]
    standardised = (x - np.array(card["mean"])) / np.array(card["std"])
    found = names["model"].apply(names["variables"], standardised.astype(np.float32)).logits
    np.testing.assert_allclose(found, logits, atol=1e-5)


def test_the_card_says_how_good_the_network_is_and_where_it_is_from(workdir, ours, tmp_path):
    _, logits = ours
    out = export.export(workdir, RUN, "safetensors", out=tmp_path / "out")
    card = json.loads((out / "card.json").read_text(encoding="utf-8"))
    record, y = records.read_study(workdir), prepare.open_study(workdir).dataset.test.y
    accuracy = card["measured"]["accuracy"]
    assert accuracy["estimate"] == np.mean(logits.argmax(1) == y)
    assert accuracy["low"] < accuracy["estimate"] < accuracy["high"]
    assert accuracy["count"] == len(y) == 500
    log_p = logits - np.log(np.exp(logits.astype(np.float64)).sum(1, keepdims=True))
    assert card["measured"]["nll"]["estimate"] == pytest.approx(-log_p[np.arange(500), y].mean(), rel=1e-6)
    assert card["study"] == to_json(STUDY)
    assert card["teacher"]["hash"] == record["teacher_hash"]["teacher-seed0"]
    assert card["data"]["fingerprint"] == record["data"]["fingerprint"]
    text = (out / "README.md").read_text(encoding="utf-8")
    for part in (f"{accuracy['estimate']:.4f} [", card["hash"], "fits the test split of digits best", "mlp_8"):
        assert part in text
    assert export.export(workdir, "onehot-seed0", "safetensors", out=tmp_path / "onehot")
    assert json.loads((tmp_path / "onehot" / "card.json").read_text())["teacher"] is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"run": "student-seed7"},
            "--run=student-seed7: expected a run of .*; it has onehot-seed0, student-seed0, teach",
        ),
        ({"run": "pupil-seed0"}, "--run=pupil-seed0: expected a run of"),
        (
            {"step": 3},
            "--step=3: expected a step of student-seed0 that is kept; it has 0, 1, 3|--step=3: .* it has 0, 1",
        ),
        ({"form": "hf"}, "--format=hf: expected a RoBERTa, student-seed0 is mlp_8; pass --format=safetensors"),
        ({"out": "there"}, "--out=.*there: expected a folder that is not there yet"),
        ({"out": "file/below"}, "--out=.*below: expected a folder that can be made"),
    ],
)
def test_what_cannot_be_exported_is_one_line_and_writes_nothing(workdir, tmp_path, changes, said):
    (tmp_path / "there").mkdir()
    (tmp_path / "file").write_text("")
    words = {"run": RUN, "form": "safetensors", "step": None, "out": "new"} | changes
    words["out"] = tmp_path / words["out"]
    if changes.get("step") == 3:
        words["step"] = 4  # digits of 200 in batches of 40, two epochs: 0 1 3 5 10
        said = "--step=4: expected a step of student-seed0 that is kept; it has 0, 1, 3, 5, 10"
    with pytest.raises(BadInput, match=said):
        export.export(workdir, **words)
    assert sorted(os.listdir(tmp_path)) == ["file", "there"]
    assert os.listdir(tmp_path / "there") == []


def test_a_damaged_checkpoint_is_one_line_of_the_command_and_writes_nothing(workdir, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy)
    chunk = copy / "runs" / RUN / "trajectory" / "10" / "default" / "float32" / "0"
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)
    assert cli.main(["export", str(copy), f"--run={RUN}", "--format=stablehlo"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(r"trajectory/10: .*; expected a whole checkpoint", said)
    assert not (copy / "export").exists()


def test_the_command_writes_into_the_work_folder_once(workdir, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy)
    assert cli.main(["export", str(copy), f"--run={RUN}", "--step=5"]) == 0
    assert f"safetensors: {copy / 'export' / 'student-seed0-safetensors-step5'}" in capsys.readouterr().out
    assert cli.main(["export", str(copy), f"--run={RUN}", "--step=5"]) == 2
    assert "expected a folder that is not there yet" in capsys.readouterr().err


def test_an_export_that_fails_leaves_nothing_behind(workdir, tmp_path, monkeypatch):
    monkeypatch.setattr(export.cards, "render", lambda card: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export.export(workdir, RUN, "safetensors", out=tmp_path / "out")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("form", "package"), [("safetensors", "safetensors"), ("stablehlo", "flatbuffers")])
def test_a_package_that_is_not_installed_is_named_with_the_extra(workdir, tmp_path, monkeypatch, form, package):
    for name in [name for name in sys.modules if name.startswith(package)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BadInput, match=rf"expected the package {package}; pip install 'kd_jax\[export\]'"):
        export.export(workdir, RUN, form, out=tmp_path / "out")


@pytest.mark.parametrize(
    ("switch", "said"),
    [
        ("", "at temperature 4."),
        ("onehot:kd@3", "at temperature 4, switched to this loss from that on labels after 3 epochs."),
        (
            "kd:onehot@2.5,ramp=10",
            "at temperature 4, switched from this loss to that on labels after 2.5 epochs, over 10 steps.",
        ),
    ],
)
def test_the_card_of_a_student_says_when_its_loss_was_switched(switch, said):
    teacher = {"architecture": "mlp_8", "run": "teacher-seed0", "step": 9, "loss": "kd"}
    made = {"teacher": teacher, "study": {"weight": 1.0, "temperature": 4.0, "switch": switch}}
    assert cards._origin(made).endswith(said)


def test_the_advice_is_to_divide_where_that_helps_and_to_leave_it_where_it_does_not():
    """Labels are drawn from the softmax of a third of the logits, so 3 is the temperature; then from that of the logits."""
    rng = np.random.default_rng(0)
    true = rng.normal(0, 2, (4000, 5))
    p = np.exp(true) / np.exp(true).sum(1, keepdims=True)
    labels = (p.cumsum(1) > rng.random((4000, 1))).argmax(1)
    said = cards.advice(rescaling.calibrated(3 * true, labels, rng).to_json(), "the test split")
    assert re.match(r"Divide the logits by (2\.9|3\.[01])\d+ before", said)
    assert cards.advice(rescaling.calibrated(true, labels, rng).to_json(), "the test split").startswith(
        "Leave the logits as they are"
    )
    assert "too few" in cards.advice(None, "the test split")
