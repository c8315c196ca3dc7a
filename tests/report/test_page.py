"""The page as text: what it holds, in which order, and that nothing that is shown can become part of its code."""

import ast
import inspect
import itertools
import re
from collections import Counter
from html.parser import HTMLParser
from typing import get_type_hints

import pytest
from typing_extensions import Doc

from kd_jax import config
from kd_jax.analysis.results import Estimate, Interval
from kd_jax.config import SECTIONS, Study
from kd_jax.plan import Arm
from kd_jax.report import again, figures, page, settings, tables
from kd_jax.report.charts import Chart
from kd_jax.report.page import Picture
from kd_jax.report.tables import Table

HOSTILE = "</script><script>alert(1)</script>&'\"<b>"
INTERVAL = Interval(0.5, 0.4, 0.6, 0.95, "seeds", 3)
ESTIMATES = [
    Estimate(name, arm, INTERVAL, (0.4, 0.5, 0.6), split="test", subset="all")
    for name, arm in (("accuracy", "teacher"), ("accuracy", "onehot"), ("accuracy", "student"), ("accuracy_gain", "student"))
]  # fmt: skip
ARMS = [Arm("teacher", "mlp"), Arm("onehot", "mlp"), Arm("student", "mlp", teacher="teacher", baseline="onehot")]
STUDY = {
    "study": "tested",
    "config": config.to_json(config.Study.from_flags(dataset="digits", teacher="mlp", student=("mlp",), epochs=3, seeds=3)),
    "data": {"name": "made", "train_examples": 9, "test_examples": 5, "test_split": "test", "wrong_labels": 2,
             "fingerprint": "f00d"},
    "platform": {"platform": "cpu", "device": "cpu", "devices": 1},
    "versions": {"jax": "0"},
    "parameters": {"mlp": 1234567},
    "history": [{"command": "kd-jax run digits_kd --small", "started": "2026-11-25T18:42:17+00:00", "revision": "abc",
                 "platform": {"platform": "cpu", "device": "cpu", "devices": 1}, "versions": {"jax": "0"}}],
}  # fmt: skip
VOID = {"meta", "link", "img", "br", "input", "hr"}


class Read(HTMLParser):
    """A page as read: elements, ids, text outside scripts and styles; elements that are not closed in order fail."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text, self.scripts = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif self.open and self.open[-1] != "style":
            self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def said(self):
        return " ".join(" ".join(self.text).split())


def rendered(text="x", **more):
    """A page every part of which has `text` in it."""
    values = {
        "name": text,
        "about": [page.facts(STUDY), text],
        "verdicts": [
            {"claim": f"claimed {text}", "verdict": kind, "because": text, "decided_by": text, "p_value": 0.03}
            for kind in ("supported", "contradicted", "inconclusive")
        ],
        "warnings": [text],
        "tables": [Table([text, "b"], [[text, "1"], ["z", "2"], ["y", "10"]], text, text, text)],
        "images": {f"slopes-{text}": Picture("QUJD", text, 8, ("png", "svg"))},
        "captions": {"slopes": text},
        "rest": [
            page.gallery(f"gallery {text}", [(("image", "QUJD"), text), (("text", text), text), (None, text)]),
            page.folded(f"folded {text}", text, tables.everything(ESTIMATES)),
            page.links(f"links {text}", {text: "../50%#/x=1,y"}),
        ],
        "answer": [text],
        "first": tables.first_table(ESTIMATES, ARMS),
        "charts": {"points": Chart(text, {"data": [{"name": text}], "layout": {}}, text, text)},
        "again": again.study(STUDY),
        "files": {"a b.csv": text},
    }
    return page.render(**values | more)


def test_nothing_that_is_shown_becomes_code():
    plain, hostile = Read(rendered()), Read(rendered(HOSTILE))
    # The elements are those of the templates, whatever is shown.
    assert Counter(tag for tag, _ in hostile.elements) == Counter(tag for tag, _ in plain.elements)
    assert hostile.said.count("<script>alert(1)</script>") > 15
    assert not any("alert(1)" in script and not script.lstrip().startswith("{") for script in hostile.scripts)
    assert len(hostile.scripts) == len(plain.scripts)
    assert {name for _, attributes in hostile.elements for name in attributes} == {
        name for _, attributes in plain.elements for name in attributes
    }


def test_ids_are_unique_and_what_refers_to_them_finds_them():
    read = Read(rendered("the slope of an arm"))
    ids = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = [attributes.get(key) for _, attributes in read.elements for key in ("popovertarget", "aria-labelledby")]
    used += [attributes["href"][1:] for attributes in read.all("a") if attributes["href"].startswith("#")]
    assert {"word-arm", "word-slope", "main"} <= set(used)
    assert set(used) - {None} <= set(ids)


def test_the_page_loads_nothing_from_a_network():
    read = Read(rendered())
    loaded = [attributes.get("src", "data:") for _, attributes in read.elements]
    loaded += [attributes["href"] for attributes in read.all("link")]
    assert all(each.startswith("data:") for each in loaded)
    assert any("default-src 'none'" in attributes.get("content", "") for attributes in read.all("meta"))
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in read.all("meta")
    assert read.all("html") == [{"lang": "en"}]


def test_the_plotting_library_is_there_once_and_only_where_there_are_charts():
    assert rendered().count("plotly.js (basic - minified)") == 1
    without = rendered(charts={})
    assert "plotly" not in without
    assert len(without) < 60_000


def test_the_answer_comes_first_then_accuracies_verdicts_figures_numbers():
    text = Read(rendered(answer=["The answer."])).said
    order = [
        text.index(each)
        for each in ("The answer.", "Accuracies", "What came out", "Figures x", "Numbers x", "How to make it again kd")
    ]
    assert order == sorted(order)
    assert "teacher (mlp) 0.500 ± 0.100" in text


@pytest.mark.parametrize("verdict", ["contradicted", "inconclusive"])
def test_a_claim_that_is_not_supported_is_not_stated(verdict):
    of = {"claim": "student exaggerates", "verdict": verdict, "because": "slope 1"}
    text = Read(rendered(verdicts=[of])).said
    assert re.search("(contradict this claim|do not decide whether this holds): student exaggerates", text)
    told = Read(rendered(verdicts=[of | {"sentence": "Nothing was found."}])).said
    assert f"{verdict} Nothing was found." in told
    assert "the claim student exaggerates" in told  # in the details


def test_tables_have_captions_scopes_and_regions_that_the_keyboard_reaches():
    read = Read(rendered())
    assert len(read.all("caption")) == len(read.all("table")) > 2
    assert {attributes["scope"] for attributes in read.all("th")} == {"col", "row"}
    regions = [attributes for _, attributes in read.elements if attributes.get("role") == "region"]
    assert len(regions) == len(read.all("table")) + 1  # and the figure
    assert all(attributes["tabindex"] == "0" and attributes["aria-label"] for attributes in regions)


def test_numbers_are_aligned_on_the_right_and_texts_are_not():
    rows = [["a", "0.5 ± 0.1", "1,234", "2 of 3 seeds"], ["b", "-0.1 [-0.2, 0.0]", "-", "x"]]
    cells = Read(rendered(tables=[Table(list("wxyz"), rows, title="t")], first=None, rest=[], again=None)).all("td")
    assert ["number" in cell.get("class", "") for cell in cells] == [True, True, False] * 2


def test_every_image_says_what_it_shows():
    images = Read(rendered("gain of 0.5")).all("img")
    assert len(images) == 2
    assert all("gain of 0.5" in image["alt"] for image in images)


def test_a_page_says_how_to_make_it_again():
    text = Read(rendered()).said
    for said in ("kd-jax run digits_kd --small", "2026-11-25T18:42:17+00:00", "abc", "1 x cpu", "jax 0", "f00d"):
        assert said in text
    assert "teacher_step its last" in text
    assert "teacher_step 0" not in text


def help_texts():
    """{field: its help text, the string below it or in its type} of all sections."""
    found = {}
    for section in (*SECTIONS.values(), Study):
        for kind in section.__mro__[:-1]:
            (node,) = ast.parse(inspect.getsource(kind)).body
            for before, after in itertools.pairwise(node.body):
                if isinstance(before, ast.AnnAssign) and isinstance(after, ast.Expr):
                    found[before.target.id] = ast.literal_eval(after.value)
        for name, hint in get_type_hints(section, include_extras=True).items():
            for note in getattr(hint, "__metadata__", ()):
                if isinstance(note, Doc):
                    found[name] = note.documentation
    return found


def sentinels():
    """{field: what its help text says in brackets} of the fields where a value stands for something else."""
    found = {}
    for name, text in help_texts().items():
        for value in re.findall(r"(?:\[|; )(0|none|empty|auto):", " ".join(text.split())):
            found[name] = value
    return found


def test_no_setting_that_stands_for_something_else_is_shown_as_a_value():
    known = sentinels()
    assert {"teacher_step": "0", "switch": "empty", "distillation": "auto", "layers": "none"}.items() <= known.items()
    for name, value in known.items():
        sentinel = {"0": 0, "none": (), "empty": "", "auto": "auto"}[value]
        assert settings.said(name, sentinel) not in ("0", "0.0", "", "auto"), name


def test_links_lead_to_what_lies_beside_the_page(tmp_path):
    folder = tmp_path / "analysis"
    (folder / "pairs").mkdir(parents=True)
    for path in (folder / "summary.json", folder / "more.txt", folder / "report.html", tmp_path / "study.json"):
        path.touch()
    found = page.files_in(folder, tmp_path)
    assert list(found) == ["summary.json", "pairs", "more.txt", "../study.json"]
    assert all((folder / path).exists() for path in found)
    assert list(page.files_in(folder)) == ["summary.json", "pairs", "more.txt"]


def test_a_figure_is_saved_as_each_kind_that_the_page_links_to(tmp_path):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3, 2))
    figure.subplots().plot([0, 1])
    figure.set_label("A rising line.")
    picture = figures.save(figure, tmp_path / "line-a.b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["line-a.b.pdf", "line-a.b.png", "line-a.b.svg"]
    read = Read(rendered(images={"line-a.b": picture}, captions={}))
    drawn = next(image for image in read.all("img") if image.get("class") == "drawn")
    assert (drawn["alt"], drawn["width"], drawn["height"]) == ("A rising line.", "390", "260")
    linked = [attributes["href"] for attributes in read.all("a") if attributes["href"].startswith("figures/")]
    assert linked == [f"figures/line-a.b.{kind}" for kind in ("png", "svg", "pdf")]
