"""Presets: what a study asks where nothing is said."""

import pytest

from kd_jax.cli import study as study_line
from kd_jax.recipes.studies import STUDIES


def parsed(name, *words):
    shipped = STUDIES[name]
    return study_line._parsed(words, "", shipped.presets, shipped.flag, None)[1]


@pytest.mark.parametrize("small", [(), ("--small",)])
def test_a_table_of_ones_own_gets_no_wrong_labels_that_were_not_asked_for(small):
    assert parsed("tabular_kd", *small).data.label_noise == 0.1  # of the biopsies
    assert parsed("tabular_kd", "--dataset=wine", *small).data.label_noise == 0
    assert parsed("tabular_kd", "--dataset=wine", "--label_noise=0.3", *small).data.label_noise == 0.3
