"""The notebook: every cell runs, and what it says of the student that was taken away is true."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parent.parent / "experiments" / "tour.ipynb"

CHECK = """
assert np.mean(np.asarray(logits).argmax(1) == source.test_y) == results.estimate("accuracy", split="test").values[0]
assert len(audit.estimates) > 20
"""


@pytest.mark.long
def test_every_cell_of_the_tour_runs_and_the_exported_student_predicts_as_the_study_measured(tmp_path):
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    source = [line for cell in cells if cell["cell_type"] == "code" for line in ["".join(cell["source"]), ""]]
    script = tmp_path / "tour.py"
    script.write_text("\n".join([*source, CHECK]), encoding="utf-8")
    environment = os.environ | {"MPLBACKEND": "Agg", "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr[-2000:]
