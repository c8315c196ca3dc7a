"""One self-contained HTML page: verdicts, tables, figures. No script, no network. All text is escaped here and nowhere else."""

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any
from urllib.parse import quote

from kd_jax.config import from_json, shown
from kd_jax.report.tables import Table

LONG = 60  # characters of a cell, beyond which it may take several lines
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 66rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.2rem; } .quiet { color: #666; }
table { border-collapse: collapse; font-size: 0.86rem; margin: 0.8rem 0; } .wide { overflow-x: auto; }
th, td { text-align: left; padding: 0.3rem 0.8rem 0.3rem 0; border-bottom: 1px solid #ddd; white-space: nowrap; }
td { font-variant-numeric: tabular-nums; }
img { max-width: 100%; } figure { margin: 1rem 0; } figcaption { color: #555; font-size: 0.9rem; }
.verdict { border-left: 0.4rem solid; padding: 0.2rem 0 0.2rem 0.8rem; margin: 0.7rem 0; }
.supported { border-color: #009E73; } .contradicted { border-color: #D55E00; } .inconclusive { border-color: #bbb; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: 1rem; }
.card { margin: 0; } .card img { width: 6rem; image-rendering: pixelated; } .card blockquote { margin: 0 0 0.3rem; }
td { vertical-align: top; } td.long { white-space: normal; min-width: 16rem; }
.verdict b { text-transform: uppercase; font-size: 0.75rem; letter-spacing: 0.06em; }
@media (prefers-color-scheme: dark) {
  :root { color-scheme: dark; } body { background: #16181d; color: #e4e4e4; }
  .quiet, figcaption { color: #a8adb7; } th, td { border-color: #3a3f4a; } img { background: #fff; } a { color: #8ab4f8; }
}
"""


def render(
    name: str,
    about: Iterable[str],
    verdicts: Iterable[Mapping[str, str]],
    warnings: Iterable[str],
    tables: Iterable[Table],
    images: Mapping[str, str],
    captions: Mapping[str, str],
    rest: Iterable[str] = (),
) -> str:
    """Return a page.

    Args:
        name: the name of the study.
        about: paragraphs that say what was done, as plain text.
        verdicts: `claim`, `verdict` and `because` of each verdict, as in `summary.json`.
        warnings: what is wrong with it, in sentences.
        tables: the tables, in their order.
        images: {name of a figure: PNG in base64}.
        captions: {beginning of a figure's name, up to the first dash: its caption}.
        rest: further parts of the page, as HTML.
    """
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>kd_jax: {escape(name)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(name)}</h1>",
        *map(paragraph, about),
        "<h2>What came out</h2>",
        *(_box("contradicted", "warning", warning) for warning in warnings),
        *(_box(each["verdict"], each["verdict"], each["claim"], each["because"]) for each in verdicts),
        *map(table, tables),
        "<h2>Figures</h2>",
        *(_figure(figure, image, captions) for figure, image in images.items()),
        *rest,
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def paragraph(text: str) -> str:
    """Return a paragraph in a quiet colour, as HTML."""
    return f"<p class='quiet'>{escape(text)}</p>"


def table(of: Table) -> str:
    """Return a table with its title and notes, as HTML."""
    lines = ["<div class='wide'><table><tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in of.header) + "</tr>"]
    lines += ["<tr>" + "".join(map(_cell, row)) + "</tr>" for row in of.rows]
    title = f"<h2>{escape(of.title)}</h2>" if of.title else ""
    notes = " ".join(note for note in (of.note, of.details) if note)
    return title + "".join(lines) + "</table></div>" + (paragraph(notes) if notes else "")


def _cell(text: str) -> str:
    long = " class='long'" if len(text) > LONG else ""
    return f"<td{long}>{escape(text)}</td>"


def gallery(title: str, examples: Iterable[tuple[tuple[str, str] | None, str]]) -> str:
    """Return a section of single examples, as HTML.

    Args:
        title: its heading.
        examples: (what is shown: ("image", PNG in base64), ("text", text) or None; what is said of it) of each.
    """
    cards = []
    for view, said in examples:
        kind, content = view or ("", "")
        shown = {
            "image": f"<img src='data:image/png;base64,{content}' alt=''>" if kind == "image" else "",
            "text": f"<blockquote>{escape(content)}</blockquote>",
        }.get(kind, "")
        cards.append(f"<figure class='card'>{shown}<figcaption>{escape(said)}</figcaption></figure>")
    return f"<h2>{escape(title)}</h2><div class='gallery'>{''.join(cards)}</div>"


def folded(title: str, summary: str, of: Table) -> str:
    """Return a section with a table that opens on demand, as HTML."""
    return f"<h2>{escape(title)}</h2>\n<details><summary>{escape(summary)}</summary>{table(of)}</details>"


def links(title: str, targets: Mapping[str, str]) -> str:
    """Return a section with a list of links, {text: path relative to the page}, as HTML."""
    items = (
        f"<li><a href='{escape(quote(path, safe='/=,'))}'>{escape(text)}</a></li>" for text, path in targets.items()
    )
    return f"<h2>{escape(title)}</h2><ul>{''.join(items)}</ul>"


def _box(kind: str, label: str, text: str, because: str = "") -> str:
    """A verdict or a warning; `kind` is one of the classes of `STYLE`."""
    more = f"<br><span class='quiet'>{escape(because)}</span>" if because else ""
    return f"<div class='verdict {escape(kind)}'><b>{escape(label)}</b> {escape(text)}{more}</div>"


def _figure(name: str, image: str, captions: Mapping[str, str]) -> str:
    caption = " ".join(captions.get(name.partition("-")[0], "").split())
    return (
        f"<figure><img src='data:image/png;base64,{image}' alt='{escape(name)}'>"
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def facts(study: Mapping[str, Any]) -> str:
    """Return what was trained on what, in a paragraph.

    Args:
        study: contents of `study.json`.
    """
    setup, where = study["config"], study["platform"]
    data = study["data"]
    sizes = {model: f"{model} ({count:,} parameters)" for model, count in study["parameters"].items()}
    teacher = "a file of logits" if study.get("teacher_logits") else sizes[setup["teacher"]]
    students = ", ".join(sizes[model] for model in setup["student"])
    told = from_json(setup)
    read = told.distillation.settings_of(told.distillation_loss)
    of_loss = "".join(f", {name} {value:g}" for name, value in read.items())
    of_loss += f", features {shown(told.distillation.features)}" if told.distillation.features else ""
    own = f" (the teacher with {', '.join(setup['teacher_with'])})" if setup.get("teacher_with") else ""
    return (
        f"{data['name']}: {data['train_examples']} training and {data['test_examples']} test examples ({data['test_split']} split),"
        f" {data['wrong_labels']} training labels wrong by design. Teacher {teacher}, students {students};"
        f" distillation loss {told.distillation_loss}{of_loss}, temperature {setup['temperature']:g}, weight"
        f" {setup['weight']:g}; {setup['epochs']} epochs of batch {setup['batch_size']}, learning rate"
        f" {setup['learning_rate']:g}{own}; seeds {setup['seed']} to {setup['seed'] + setup['seeds'] - 1}."
        f" Trained on {where['devices']} x {where['device']} with jax {study['versions']['jax']}."
    )
