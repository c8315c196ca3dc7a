"""One self-contained HTML page: verdicts, figures, tables. No script, no network."""

from html import escape

from kd_jax.report import about, tables

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 66rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.2rem; } .quiet { color: #666; }
table { border-collapse: collapse; font-size: 0.86rem; margin: 0.8rem 0; } .wide { overflow-x: auto; }
th, td { text-align: left; padding: 0.3rem 0.8rem 0.3rem 0; border-bottom: 1px solid #ddd; white-space: nowrap; }
img { max-width: 100%; } figure { margin: 1rem 0; } figcaption { color: #555; font-size: 0.9rem; }
.verdict { border-left: 0.4rem solid; padding: 0.2rem 0 0.2rem 0.8rem; margin: 0.7rem 0; }
.supported { border-color: #009E73; } .contradicted { border-color: #D55E00; } .inconclusive { border-color: #bbb; }
.verdict b { text-transform: uppercase; font-size: 0.75rem; letter-spacing: 0.06em; }
"""
CAPTIONS = {
    "confidence": """Each point is an example: how sure the teacher is of its top class, and how sure the other model is of that
        same class. On the dashed line they agree. A fitted line steeper than it exaggerates the teacher's confidence.""",
    "slopes": """The slopes of those lines, with intervals. Over all points, regression to the mean pulls the slope between two
        equally good, independent models below 1; within a quarter the relation may bend as well. So hold a student against its
        one-hot control.""",
    "eigen_curves": """Growth of a layer's weights along a top (across) and a lower (up) eigendirection of its inputs, a line per
        seed, from the dot in the direction of the arrow. A curve below the one-hot one has grown less along the lower direction at
        equal progress along the top one: the bias of gradient descent, exaggerated. A learning rate alone should move along the
        same curve.""",
    "eigen_ratios": """Left, the variance of the layer's inputs along each eigendirection. Then the same comparison for every lower
        direction, of the weights and of their movement since the start, relative to one-hot at equal progress along the top one:
        the mean of the seeds, and for students their range.""",
    "function_progress": """What a network computes on the probe, along groups of eigenvectors of its tangent kernel at step 0.
        Left, their eigenvalues. Middle, the progress from the start to the labels within each group: points, with the range of the
        seeds, are measured; lines are the filters, a(t) and for the student the composed a(s) a(T), beside it a(s) alone, dotted.
        Right, the same progress against what the linearised networks predict from step 0, a point per seed, checkpoint and
        group.""",
    "learning_curves": "Mean over seeds; the band is the range of the seeds.",
}
RATIO_NOTE = """Weights along a lower eigendirection of a layer's inputs at equal progress along the top one, relative to the
    one-hot run of the same initialisation. The other arms are nulls: they differ from it by something that is no teacher."""

FUNCTION_NOTE = """The function on the probe, along groups of eigenvectors of the tangent kernel at step 0, group 0 the top. Ratio:
    progress toward the labels in a group at equal progress in the group above it, relative to the one-hot run of the same seed, as
    measured and by the filters, a(t) and for a student a(s) a(T); verdicts look at groups where a student's filter lags by 5 % or
    more. Errors are root mean squares of measured less predicted progress: by the linearised networks, and by the filter. Drift:
    relative change of the kernel over training. Where one step covers most of a group, the ratio of a run with smaller steps is
    not 1, and the filters show by how much."""


def facts(study):
    """What was trained on what, in a paragraph.

    Args:
        study: contents of `study.json`.
    """
    setup, where = study["config"], study["platform"]
    data = study["data"]
    sizes = {model: f"{model} ({count:,} parameters)" for model, count in study["parameters"].items()}
    teacher, students = sizes[setup["teacher"]], ", ".join(sizes[model] for model in setup["student"])
    own = f" (the teacher with {', '.join(setup['teacher_with'])})" if setup.get("teacher_with") else ""
    return (
        f"{data['name']}: {data['train_examples']} training and {data['test_examples']} test examples ({data['test_split']} split),"
        f" {data['wrong_labels']} training labels wrong by design. Teacher {teacher}, students {students};"
        f" temperature {setup['temperature']:g}, weight {setup['weight']:g}; {setup['epochs']} epochs of batch"
        f" {setup['batch_size']}, learning rate {setup['learning_rate']:g}{own};"
        f" seeds {setup['seed']} to {setup['seed'] + setup['seeds'] - 1}."
        f" Trained on {where['devices']} x {where['device']} with jax {study['versions']['jax']}."
    )


def render(found, images):
    """Return the page.

    Args:
        found: contents of `summary.json`.
        images: {name: base64 PNG}.
    """
    study = found["study"]
    header, rows = tables.main_table(found)
    about_directions = [(tables.eigen_table(found), RATIO_NOTE), (tables.function_table(found), FUNCTION_NOTE)]
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        f"<title>kd_jax: {escape(study['study'])}</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(study['study'])}</h1><p class='quiet'>{escape(facts(study))}</p>",
        *(f"<p class='quiet'>{escape(line)}</p>" for line in about.data(study)),
        "<h2>What came out</h2>",
        *(f"<div class='verdict contradicted'><b>warning</b> {escape(warning)}</div>" for warning in found["warnings"]),
        *(verdict_box(verdict) for verdict in found["verdicts"]),
        f"<p class='quiet'>{escape(tables.what_intervals_are(found))} Train accuracy is on the labels that were trained on."
        " Gain is over the same network, initialisation and batches without a teacher.</p>",
        table([header, *rows]),
        *(table([of[0], *of[1]]) + f"<p class='quiet'>{note}</p>" for of, note in about_directions if of),
        "<h2>Figures</h2>",
        *(_figure(name, image) for name, image in images.items()),
        "<h2>Every estimate</h2>",
        "<details><summary>All numbers of summary.json</summary>",
        table(_everything(found)),
        "</details></body></html>",
    ]
    return "\n".join(parts) + "\n"


def verdict_box(verdict):
    """A verdict of `summary.json` as HTML."""
    return (
        f"<div class='verdict {verdict['verdict']}'><b>{verdict['verdict']}</b> {escape(verdict['claim'])}<br>"
        f"<span class='quiet'>{escape(verdict['because'])}</span></div>"
    )


def _figure(name, image):
    caption = CAPTIONS[name.split("-")[0]]  # figures of a layer carry its name after a dash
    return f"<figure><img src='data:image/png;base64,{image}' alt='{name}'><figcaption>{caption}</figcaption></figure>"


def _everything(found):
    yield "name", "arm", "where", "estimate", "over"
    for e in found["estimates"]:
        pair = " and ".join(map(str, e.get("directions", [])))
        where = f"{e['split']}, {e['subset']}" if "split" in e else f"{e.get('layer', '')} {pair}".strip()
        yield e["name"], e["arm"], where, tables.shown(e, 4), f"{e['count']} {e['resampled']}"


def table(lines_of_cells):
    """Lines of strings, the header first, as an HTML table."""
    header, *rows = lines_of_cells
    lines = ["<div class='wide'><table><tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in header) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return "".join(lines) + "</table></div>"
