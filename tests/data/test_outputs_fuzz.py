"""Whatever bytes a file holds, it is read as what it says or refused in one line, and nothing larger than it is made of it."""

import io
import json
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import kd_jax
from kd_jax.data import outputs, stored
from kd_jax.data.views import views
from kd_jax.errors import BadInput

SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
LOGITS = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz(compressed=False, **arrays):
    stream = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(stream, **arrays)
    return stream.getvalue()


def parquet():
    arrow, written = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    stream = io.BytesIO()
    written.write_table(arrow.table({str(i): column for i, column in enumerate(LOGITS.T)}), stream)
    return stream.getvalue()


def header(shape, descr="<f4", order=False):
    """A `.npy` that claims a shape and holds four bytes."""
    text = repr({"descr": descr, "fortran_order": order, "shape": shape}).encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + b"\0" * 4


def archive(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as written:
        for name, contents in members.items():
            written.writestr(name, contents)
    return stream.getvalue()


top = np.tile([2, 0], (9, 1))
TOKENIZER = json.dumps({"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": [{"id": 2, "content": "c"}]}).encode()
VALID = {
    "npy": npy(LOGITS),
    "npz": npz(log_probabilities=np.full((9, 2), np.log(0.4)), indices=top),
    "packed.npz": npz(compressed=True, logits=LOGITS),
    "csv": b"a,b,c\n" + b"0.5,-1,2e3\n" * 9,
    "tsv": b"a\tb\tc\n" + b"1\t2\t3.5\n" * 9,
    "txt": b"label\n" + b"1\n" * 9,
    "json": TOKENIZER,
    "parquet": parquet(),
}


def line_of(call):
    """What a call is refused with; empty if it is not."""
    try:
        call()
    except BadInput as error:
        return str(error)
    return ""


def read_all_ways(path):
    """Every reader of the audit on one file; what comes out is finite in size, or a line."""
    for reader in (
        lambda: outputs.model(path, "--teacher")[:],
        lambda: outputs.model(path, "--teacher", "log_probabilities", 5, tokens=True)[:],
        lambda: outputs.labels(path, "--labels", 9, 3),
        lambda: outputs.integers(path, "--mask"),
        lambda: outputs.class_names(path, "--names", 3),
        lambda: views(path, "--examples", 9)(0),
    ):
        assert "\n" not in line_of(reader)


@SETTINGS
@given(st.sampled_from(sorted(VALID)), st.binary(max_size=300))
@example("json", b"[" * 100_000)
@example("txt", b"9" * 5000)
@example("csv", b"1\n" + b"9" * 30)
def test_any_bytes_are_read_or_refused(tmp_path, ending, contents):
    path = tmp_path / f"x.{ending}"
    path.write_bytes(contents)
    read_all_ways(path)


@SETTINGS
@given(st.sampled_from(sorted(VALID)), st.data())
def test_valid_files_with_other_bytes_in_them_are_read_or_refused(tmp_path, ending, data):
    contents = bytearray(VALID[ending])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(contents)))
        contents[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    path = tmp_path / f"x.{ending}"
    path.write_bytes(contents[: data.draw(st.sampled_from([len(contents), len(contents) // 2]))])
    read_all_ways(path)


SHAPES = [(10**12, 1000), (1 << 62, 4), (-1, 3), (1 << 40,), (), (10**30, 2), ("a", 2), (10**9,) * 5]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("descr", ["<f4", "|O", "<U1000000000", "|V0", [("a", "<f8")], "x"], ids=str)
def test_headers_that_claim_what_is_not_there_are_refused_and_take_no_memory(tmp_path, shape, descr):
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, contents in (("x.npy", header(shape, descr)), ("x.npz", archive(**{"logits.npy": header(shape, descr)}))):
        (tmp_path / name).write_bytes(contents)
        with pytest.raises(BadInput):
            outputs.model(tmp_path / name, "--teacher")
        with pytest.raises(BadInput):
            outputs.labels(tmp_path / name, "--labels", 9, 3)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 18  # in KiB: 256 MiB


def test_an_archive_that_unpacks_to_far_more_than_its_size_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "ALWAYS", 1 << 20)
    np.savez_compressed(tmp_path / "bomb.npz", logits=np.zeros((10**6, 2), np.float32))
    with pytest.raises(BadInput, match=r"bytes unpack to 8,0.* which no logits do"):
        outputs.model(tmp_path / "bomb.npz", "--teacher")
    np.savez_compressed(tmp_path / "good.npz", logits=np.random.default_rng(0).normal(size=(10**5, 2)))
    assert outputs.model(tmp_path / "good.npz", "--teacher").shape == (10**5, 2)


def test_members_that_are_no_arrays_and_pickles_are_refused(tmp_path):
    for name, contents in {
        "raw": archive(logits=b"\0" * 36),
        "object": npz(logits=np.array([[{}], [[]]], dtype=object)),
        "empty": archive(),
    }.items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes(contents)
        with pytest.raises(BadInput):
            outputs.model(path, "--teacher")
        with pytest.raises(BadInput):
            outputs.labels(path, "--labels", 9, 3)


numbers = st.one_of(
    st.floats(-30, 30), st.sampled_from([0.0, 1e-300, 1e30, -1e30, 800.0, -np.inf]), st.floats(-1e100, 1e100)
)


@settings(max_examples=8, deadline=None)
@given(st.data())
def test_an_audit_of_any_numbers_has_no_nan_in_it(data):
    count, classes = data.draw(st.integers(8, 12)), data.draw(st.integers(2, 4))

    def logits():
        row = st.lists(numbers, min_size=classes, max_size=classes)
        dtype = data.draw(st.sampled_from([np.float64, np.float32]))
        with np.errstate(over="ignore"):
            return np.array(data.draw(st.lists(row, min_size=count, max_size=count)), dtype)

    labels = data.draw(st.sampled_from([None, np.arange(count) % classes, np.zeros(count, int)]))
    control = logits() if data.draw(st.booleans()) else None
    tokens = {"tokens": True, "sequences": np.arange(count)} if data.draw(st.booleans()) else {}
    found = []
    line = line_of(lambda: found.append(kd_jax.audit(logits(), logits(), labels, control=control, **tokens)))
    assert "\n" not in line
    for each in found:
        json.dumps(each.summary, allow_nan=False)
