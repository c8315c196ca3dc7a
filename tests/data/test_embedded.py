import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits

from kd_jax.data import breast_cancer, digits, embedded


@pytest.mark.parametrize(
    ("module", "load", "file"),
    [(digits, load_digits, "digits.csv.gz"), (breast_cancer, load_breast_cancer, "breast_cancer.csv")],
    ids=["digits", "breast_cancer"],
)
def test_what_is_read_from_the_file_is_what_scikit_learn_loads_and_without_the_file_that_is_loaded(
    monkeypatch, module, load, file
):
    expected = load()
    rows = embedded.table(file, skip=int(file.endswith("csv")))
    np.testing.assert_array_equal(rows, np.column_stack([expected.data, expected.target]))
    there = module.load()
    monkeypatch.setattr(embedded, "table", lambda *_, **__: None)
    for ours, theirs in zip(there, module.load(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    if module is breast_cancer:
        np.testing.assert_array_equal(there.class_names, expected.target_names)


def test_a_file_that_scikit_learn_lacks_is_none():
    assert embedded.table("absent.csv") is None
