"""Whatever a JSON record or a metrics file holds, it is read as what it says, or refused in one line."""

import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kd_jax import config
from kd_jax.cli import sweep_words
from kd_jax.config import Study
from kd_jax.errors import BadInput
from kd_jax.studies import folders, sweep
from kd_jax.workdir import metrics_file, records

SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(10**18, 10**30), st.floats(), st.text(max_size=8)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
STUDY_RECORD = {"study": "s", "config": config.to_json(Study.from_flags(dataset="digits"))}
FIELDS = sorted(STUDY_RECORD["config"])


def line_of(call):
    """What a call is refused with; empty if it is not."""
    try:
        call()
    except BadInput as error:
        if len(str(error).splitlines()) != 1:
            raise
        return str(error)
    return ""


@SETTINGS
@given(st.binary(max_size=200))
@example(b"[" * 100_000)
@example(b"\xff\xfe")
@example(b'{"a": 1}\n{"b": 2')
def test_any_bytes_in_the_place_of_a_record(tmp_path, contents):
    (tmp_path / "analysis").mkdir(exist_ok=True)
    for name in ("study.json", "sweep.json", "metrics.jsonl", "tokenizer.json", "analysis/summary.json"):
        (tmp_path / name).write_bytes(contents)
    line_of(lambda: records.read_study(tmp_path))
    line_of(lambda: sweep.read(tmp_path))
    line_of(lambda: metrics_file.read(tmp_path))
    line_of(lambda: records.read_summary(tmp_path))
    line_of(lambda: records.read_tokenizer(tmp_path))
    records.key_of(tmp_path / "runs" / "student-seed0")


@SETTINGS
@given(st.sampled_from(FIELDS), JSON)
@example("seeds", 10**9)
@example("epochs", 10**30)
@example("student", ["../../../x"])
@example("switch", "(" * 1000)
@example("teacher", "mlp_" + "9" * 5000)
@example("label_noise", float("nan"))
def test_a_study_json_with_another_value_in_a_field(tmp_path, field, value):
    record = STUDY_RECORD | {"config": STUDY_RECORD["config"] | {field: value}}
    (tmp_path / "study.json").write_text(json.dumps(record))
    said = line_of(lambda: config.from_json(records.read_study(tmp_path)["config"]).identity())
    assert not said or "expected" in said


@SETTINGS
@given(st.sampled_from(["study", "config", "schema", "seal", "keys", "skipped"]), JSON)
def test_a_study_json_with_another_value_at_its_top(tmp_path, key, value):
    (tmp_path / "study.json").write_text(json.dumps(STUDY_RECORD | {key: value}))
    line_of(lambda: config.from_json(records.read_study(tmp_path)["config"]))
    records.key_of(tmp_path / "runs" / "student-seed0")


@SETTINGS
@given(st.one_of(JSON, st.fixed_dictionaries({"folder": JSON, "values": JSON, "config": JSON})))
def test_a_sweep_json_with_another_variant(tmp_path, variant):
    (tmp_path / "sweep.json").write_text(json.dumps({"study": "s", "variants": [variant]}))
    assert line_of(lambda: sweep.read(tmp_path)) or isinstance(variant["folder"], str)


@SETTINGS
@given(st.lists(JSON, max_size=4), st.binary(max_size=20))
def test_metrics_are_read_to_a_torn_last_line(tmp_path, lines, tail):
    whole = "".join(json.dumps(line) + "\n" for line in lines).encode()
    (tmp_path / "metrics.jsonl").write_bytes(whole + tail)
    found = []
    said = line_of(lambda: found.extend(metrics_file.read(tmp_path)))
    kept = [line for line in lines if isinstance(line, dict)]
    if len(kept) == len(lines) and b"\n" not in tail and b"\r" not in tail:
        assert not said
        assert len(found) in (len(lines), len(lines) + 1)


@SETTINGS
@given(st.text(alphabet="abcdehilmnoprstuw_=,.:-0123456789()[] ", max_size=30))
@example("epochs=" + "1," * 5000)
@example("switch=onehot:" + "9" * 400)
@example("seed=" + "9" * 5000)
def test_any_words_of_a_sweep(words):
    line_of(lambda: sweep_words.parse(words.split()))


@pytest.mark.parametrize("key", ["estimates", "verdicts"])
@SETTINGS
@given(JSON)
def test_a_summary_with_another_value(tmp_path, key, value):
    (tmp_path / "analysis").mkdir(exist_ok=True)
    contents = {"estimates": [], "verdicts": [], "warnings": [], "study": STUDY_RECORD}
    (tmp_path / "analysis" / "summary.json").write_text(json.dumps(contents | {key: value}))
    line_of(lambda: records.read_summary(tmp_path))
    line_of(lambda: folders.opened(tmp_path))
