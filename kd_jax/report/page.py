"""One self-contained HTML page: the answer, accuracies, verdicts, charts, figures, tables. It loads nothing from a network.

The page itself is in `templates/`, where all text is escaped.
"""

import re
import struct
from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from kd_jax.config import from_json, shown
from kd_jax.report import about
from kd_jax.report import charts as charts_of
from kd_jax.report.again import Again
from kd_jax.report.charts import Chart
from kd_jax.report.glossary import Marker
from kd_jax.report.tables import Table

LONG = 60  # characters of a cell, beyond which it may take several lines
MANY_COLUMNS = 7  # beyond which a table is printed in smaller letters
KINDS = ("png", "svg", "pdf")  # of the file of a figure
NUMBER = re.compile(r"[+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?(?: ?%)?(?: (?:±|\[).*)?|-|")
READABLE = 84  # pixels an inch of a figure has at least on a telephone, so that its letters can be read


class Picture(NamedTuple):
    """A figure as the page shows it.

    Attributes:
        png: the image, in base64.
        alt: what one would see, for those who cannot see it.
        inches: its width, by which the size of its letters is known; 0 where it is not known.
        kinds: the kinds of file as which it lies in `figures/`.
    """

    png: str
    alt: str = ""
    inches: float = 0.0
    kinds: Sequence[str] = ()


class Part(NamedTuple):
    """A part of a page: the name of a macro of `templates/parts.html`, and what it is given."""

    macro: str
    values: tuple[Any, ...]


def render(
    name: str,
    about: Iterable[str],
    verdicts: Iterable[Mapping[str, Any]],
    warnings: Iterable[str],
    tables: Iterable[Table],
    images: Mapping[str, Picture],
    captions: Mapping[str, str],
    rest: Iterable[Part] = (),
    *,
    answer: Iterable[str] = (),
    first: Table | None = None,
    charts: Mapping[str, Chart] | None = None,
    again: Again | None = None,
    files: Mapping[str, str] | None = None,
) -> str:
    """Return a page.

    Args:
        name: the name of the study.
        about: paragraphs that say what was done, as plain text.
        verdicts: each verdict, as in `summary.json`.
        warnings: what is wrong with it, in sentences.
        tables: the tables, in their order.
        images: {name of a figure: what `figures.save` returned}.
        captions: {beginning of a figure's name, up to the first dash: its caption}.
        rest: further parts of the page, from `gallery`, `folded`, `links` or `table`.
        answer: sentences that answer the question of the study, the most important first.
        first: a short table that stands above everything but the answer.
        charts: {name: interactive chart}; without any the plotting library is left out.
        again: how it was made.
        files: {relative path of a file or folder: what it has}, as `files_in` returns it.
    """
    charts = charts or {}
    return _environment().get_template("page.html").render(
        name=name,
        about=list(about),
        verdicts=[_verdict(each) for each in verdicts],
        warnings=list(warnings),
        tables=list(tables),
        figures={each: _figure(each, picture, captions) for each, picture in images.items()},
        rest=list(rest),
        answer=list(answer),
        first=first,
        charts=charts,
        charting=_charting() if charts else None,
        again=again,
        files=files or {},
        words=Marker(),
    )  # fmt: skip


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("kd_jax.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"slug": slug, "at": lambda path: quote(path, safe="/=,")}
    environment.globals |= {"numeric": _numeric, "long": LONG, "many": MANY_COLUMNS}
    loader = environment.loader
    assert loader is not None
    environment.globals |= {
        name: Markup(loader.get_source(environment, f"page.{name}")[0].strip()) for name in ("css", "js")
    }
    return environment


def slug(text: str) -> str:
    """Return a text as (part of) an id: letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "part"


def _numeric(of: Table) -> list[bool]:
    """Of each column of a table, whether all of its cells are numbers, of which at least one is."""
    columns = ([row[column] for row in of.rows] for column in range(len(of.header)))
    return [
        any(cell not in ("", "-") for cell in cells) and all(NUMBER.fullmatch(cell) for cell in cells)
        for cells in columns
    ]


def table(of: Table) -> Part:
    """Return a table with its title and notes, as a part of a page."""
    return Part("table", (of,))


def gallery(title: str, examples: Iterable[tuple[tuple[str, str] | None, str]]) -> Part:
    """Return a section of single examples, as a part of a page.

    Args:
        title: its heading.
        examples: (what is shown: ("image", PNG in base64), ("text", text) or None; what is said of it) of each.
    """
    return Part("gallery", (title, [(*(view or ("", "")), said) for view, said in examples]))


def folded(title: str, summary: str, of: Table) -> Part:
    """Return a section with a table that opens on demand, as a part of a page."""
    return Part("folded", (title, summary, of))


def links(title: str, targets: Mapping[str, str]) -> Part:
    """Return a section with a list of links, {text: path relative to the page}, as a part of a page."""
    return Part("links", (title, targets))


FILES = {  # what lies beside a page, in the order in which it is listed
    "summary.json": "every estimate and verdict, unrounded",
    "table.csv": "every estimate, unrounded, a row each",
    "table.md": "the main table, as Markdown",
    "views.npz": "what the charts show of the examples",
    "classes.csv": "every class",
    "examples.csv": "the examples that are shown",
    "cost.json": "what the networks cost to run",
    "pairs": "logits of teacher and student of every run and split (.npz)",
    "examples": "what happened to every example (.npz)",
    "trajectory": "training examples at every checkpoint (.npz)",
    "eigen": "weights along eigendirections, at every checkpoint (.npz)",
    "function": "the functions along eigenvectors of the tangent kernel (.npz)",
    "figures": "every figure (PNG, SVG, PDF)",
    "../study.json": "configuration, data, versions, and the programs that trained it",
    "../sweep.json": "the variants",
    "../runs": "metrics and checkpoints of every run",
}


def files_in(folder: Path, workdir: Path | None = None) -> dict[str, str]:
    """Return {relative path: what it has} of what lies in the folder of a page, for links to it.

    Args:
        folder: the folder of the page.
        workdir: the work folder above it; None where there is none.
    """
    above = [path for path in FILES if path.startswith("../") and workdir and (workdir / path[3:]).exists()]
    known = [path for path in FILES if not path.startswith("../") and (folder / path).exists()]
    others = sorted(
        path.name
        for path in folder.iterdir()
        if path.name not in FILES and path.name != "report.html" and not path.name.startswith(".")
    )
    return {path: FILES.get(path, "") for path in (*known, *others, *above)}


def _verdict(of: Mapping[str, Any]) -> dict[str, Any]:
    """A verdict as the page shows it; a claim that is not supported is not stated."""
    said = {
        "supported": "{claim}.",
        "contradicted": "The numbers contradict this claim: {claim}.",
        "inconclusive": "The numbers do not decide whether this holds: {claim}.",
    }[of["verdict"]].format(claim=of["claim"].rstrip("."))
    details = [("the claim", of["claim"])] if of.get("sentence") else []
    details += [("the numbers", of["because"])]
    details += [("what decided", of["decided_by"])] if of.get("decided_by") else []
    text = of.get("sentence") or said
    return {"kind": of["verdict"], "text": text[:1].upper() + text[1:], "details": details}


def _figure(name: str, picture: Picture, captions: Mapping[str, str]) -> dict[str, Any]:
    width, height = _size(picture.png)
    caption = " ".join(captions.get(name.partition("-")[0], "").split())
    return {
        "png": picture.png,
        "alt": picture.alt or caption or "Figure without a description.",
        "caption": caption,
        "width": width,
        "height": height,
        "least": round(READABLE * picture.inches),
        "files": {kind.upper(): f"figures/{name}.{kind}" for kind in picture.kinds},
    }


def _size(png: str) -> tuple[int, int]:
    """Width and height of a PNG in base64, from its header; zeros where it is none."""
    head = b64decode(png[:32])
    return struct.unpack(">II", head[16:24]) if head[:4] == b"\x89PNG" else (0, 0)


@cache
def _charting() -> dict[str, Markup]:
    """What a page with charts holds once: style, plotting library, and the script that draws; the text of none ends its element."""
    names = {"style": charts_of.STYLE, "library": charts_of.LIBRARY, "script": charts_of.SCRIPT}
    texts = {what: charts_of.asset(name).replace("</script", "<\\/script") for what, name in names.items()}
    return {what: Markup(text) for what, text in texts.items()}


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
    seeds = f"seed{'s' if setup['seeds'] > 1 else ''} {about.seeds(study)}"
    return (
        f"{data['name']}: {data['train_examples']} training and {data['test_examples']} test examples ({data['test_split']} split),"
        f" {data['wrong_labels']} training labels wrong by design. Teacher {teacher}, students {students};"
        f" distillation loss {told.distillation_loss}{of_loss}, temperature {setup['temperature']:g}, weight"
        f" {setup['weight']:g}; {setup['epochs']} epochs of batch {setup['batch_size']}, learning rate"
        f" {setup['learning_rate']:g}{own}; {seeds}."
        f" Trained on {where['devices']} x {where['device']} with jax {study['versions']['jax']}."
    )
