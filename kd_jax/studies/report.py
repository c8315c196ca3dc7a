"""The report of a study, from the files of its analysis: no network and no data is needed."""

import csv
from pathlib import Path

from kd_jax.report import about, again, costs, page, tables
from kd_jax.studies import analyses
from kd_jax.workdir import records

NO_FIGURES = (
    "The figures of this study have not been drawn. To draw them, run kd-jax report on its work folder, the one above"
    " analysis/."
)


def write_report(workdir: str | Path, folder: str | Path | None = None, with_figures: bool = True) -> None:
    """Write `table.csv`, `table.md`, `figures/` and `report.html` from the analysis of a work folder.

    Args:
        workdir: the work folder.
        folder: the folder of the analysis, in which the report is written; `analysis` of the work folder by default.
        with_figures: whether to draw figures, which take most of the time.

    Raises:
        BadInput: when there is no analysis.
    """
    from kd_jax.report import figures

    folder = Path(folder or Path(workdir) / "analysis")
    summary = records.read_summary(workdir, folder)
    analysed = analyses.Analysed.of(workdir, folder, summary)
    with open(folder / "table.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(tables.CSV_COLUMNS)
        writer.writerows(tables.csv_rows(analysed.estimates))
    main = tables.main_table(analysed.estimates, analysed.shown)
    (folder / "table.md").write_text(tables.markdown(*main), encoding="utf-8")
    listed, images, captions, charts = [], {}, {}, {}
    for analysis in analyses.ANALYSES:
        listed += analysis.tables(analysed)
        captions |= analysis.captions
        charts |= analysis.charts(analysed)
        for name, figure in analysis.figures(analysed).items() if with_figures else ():
            name = figures.file_name(name)
            images[name] = figures.save(figure, folder / "figures" / name)
    cost = costs.read(folder)
    if cost is not None:
        listed.append(costs.table(cost))
        drawn = costs.figure(cost) if with_figures else None
        if drawn is not None:
            images["cost"], captions["cost"] = figures.save(drawn, folder / "figures" / "cost"), costs.CAPTION
    study = summary["study"]
    text = page.render(
        study["study"],
        [page.facts(study), *about.teacher(study), *about.controls(study), *about.data(study)]
        + ([] if with_figures else [NO_FIGURES]),
        summary["verdicts"],
        summary["warnings"],
        listed,
        images,
        captions,
        [page.folded("Every estimate", "All numbers of summary.json", tables.everything(analysed.estimates))],
        answer=summary.get("answer", ()),
        first=tables.first_table(analysed.estimates, analysed.shown),
        charts=charts,
        again=again.study(study),
        files=page.files_in(folder, Path(workdir)),
    )
    (folder / "report.html").write_text(text, encoding="utf-8")
