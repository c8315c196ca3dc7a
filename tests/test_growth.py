"""experiments/growth.py: what it fits, and that it measures every stage of a study and draws it."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

EXPERIMENTS = Path(__file__).parent.parent / "experiments"


@pytest.fixture
def growth(monkeypatch):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    return importlib.import_module("growth")


def test_the_exponent_of_a_power_and_the_line_of_a_line_are_found(growth):
    sizes = np.array([10.0, 40.0, 160.0])
    assert growth.growth(sizes, 3 * sizes**0.7)["exponent"] == pytest.approx(0.7)
    of_line = growth.growth(sizes, 2 + 0.25 * sizes)
    assert (of_line["per_unit"], of_line["fixed"]) == (pytest.approx(0.25), pytest.approx(2))


@pytest.mark.long
def test_a_small_growth_measures_every_stage_and_draws_it(growth, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["growth.py", "--small", "--only", "checkpoints", "--out", str(tmp_path)])
    growth.main()
    found = json.loads((tmp_path / "growth.json").read_text(encoding="utf-8"))["growth"]["checkpoints"]
    assert found["sizes"] == list(growth.SMALL["checkpoints"])
    for seconds in found["seconds"]:
        assert set(seconds) == {*growth.STAGES, "all"}
        assert all(cpu > 0 for _, cpu in seconds.values())
        assert seconds["all"][1] == pytest.approx(sum(seconds[stage][1] for stage in growth.STAGES))
    for kind in ("png", "svg"):
        assert (tmp_path / f"growth_checkpoints.{kind}").stat().st_size > 1000
    assert "slope" in capsys.readouterr().out
