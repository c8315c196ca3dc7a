"""Results as tables, figures and one self-contained page. Sees `summary.json`, the pairs and the metrics; rounds here only."""

import csv
import json
from pathlib import Path

from kd_jax import config, runs
from kd_jax.config import BadInput
from kd_jax.report import figures, page, tables


def write_report(workdir):
    """Write `analysis/table.csv`, `table.md`, `figures/` and `report.html` from the analysis of a work folder.

    Raises:
        BadInput: when there is no analysis.
    """
    folder = Path(workdir) / "analysis"
    path = folder / "summary.json"
    if not path.is_file():
        raise BadInput(f"{workdir}: expected analysis/summary.json; run: kd-jax analyze {workdir}")
    found = json.loads(path.read_text())
    study = config.from_json(found["study"]["config"])
    metrics = {
        arm.name: [
            runs.read_metrics(runs.run_folder(workdir, config.run_name(arm, seed))) for seed in study.seed_range()
        ]
        for arm in config.arms(study)
    }
    header, rows = tables.main_table(found)
    with open(folder / "table.csv", "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(tables.CSV_COLUMNS)
        writer.writerows(tables.csv_rows(found))
    (folder / "table.md").write_text(tables.markdown(header, rows))
    drawn = {
        "confidence": figures.confidence(folder / "pairs", found, study),
        "slopes": figures.slopes(found),
        "learning_curves": figures.learning_curves(metrics),
    }
    images = {name: figures.save(figure, folder / "figures" / name) for name, figure in drawn.items()}
    (folder / "report.html").write_text(page.render(found, images))
