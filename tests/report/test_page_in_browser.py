"""Pages in a real browser, Chromium without a window: on screen, on a telephone, in the dark, on paper, by keyboard.

Skipped where there is no Chromium. To hold a report of one's own to the same, and to take its pictures:

    KD_JAX_REPORT=runs/digits_kd/analysis/report.html KD_JAX_PICTURES=experiments/figures \
        python -m pytest -n 0 tests/report/test_page_in_browser.py
"""

import io
import os
import shutil
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from kd_jax.analysis.eigen import Growth
from kd_jax.analysis.results import Estimate, Interval
from kd_jax.plan import Arm
from kd_jax.report import again, charts_directions, page, tables
from kd_jax.report.tables import Table
from kd_jax.studies.audit import audit

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.long, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")]

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
SIZES = {
    "desktop": (1200, 900),
    "phone": (390, 844),
    "paper": (703, 994),
}  # paper: A4 less margins of 12 mm, in CSS pixels
ARMS = ["teacher", "onehot", "student", "onehot_order", "onehot_init", "onehot_slower", "onehot_faster"]
BYTES = 6_000_000  # of a page, at most


def growths():
    rng, falling = np.random.default_rng(0), 1 / (1 + np.arange(6.0))
    for arm in ("onehot", "student"):
        for seed in (0, 1):
            path = np.linspace(0, 1, 8)[:, None] ** (
                1 + np.arange(6) * (0.2 + 0.3 * (arm == "student"))
            ) + 0.01 * rng.random(6)
            yield Growth(arm, seed, "mlp", "Dense_0", falling, np.zeros(6), np.arange(8), path + 1, path)


def a_study(folder):
    """A page with seven arms, a table of thirteen columns, a slider, and a name that would be code were it not escaped."""
    interval = Interval(0.884, 0.872, 0.896, 0.95, "seeds", 5)
    estimates = [
        Estimate(name, arm, interval, (0.88,) * 5, split=split, subset=subset)
        for arm in ARMS[:3]
        for _, name, split, subset, _ in tables.COLUMNS
    ]
    arms = [Arm(arm, "mlp_256x256", teacher="teacher" if arm == "student" else None) for arm in ARMS[:3]]
    wide = Table([f"column {k}" for k in range(13)], [["0.884 ± 0.012"] * 13] * 3, title="Thirteen columns")
    sorted_by = Table(["item", "number"], [["b", "1,200"], ["a", "-3 ± 1"], [HOSTILE, "20"]], title="To sort")
    by_arm = Table(["ratio", *ARMS], [["Dense_0, 0 and 7", *["1.057 ± 0.128"] * 7]], title="Seven arms")
    chart = charts_directions.chart(growths(), {"student": "onehot"}, ARMS)
    verdicts = [{"claim": f"claim {HOSTILE}", "verdict": "inconclusive", "because": "slope 1", "p_value": 0.2}]
    made = again.Again(["kd-jax run digits_kd"], [("versions", "jax 0")], [again.configuration({"teacher_step": 0})])
    text = page.render(
        HOSTILE, ["An arm, its slope and its null."], verdicts, [], [sorted_by, wide, by_arm], {}, {},
        [page.folded("Every estimate", "All numbers", tables.everything(estimates))],
        answer=["Distillation did not measurably help."], first=tables.first_table(estimates, arms),
        charts={"directions": chart}, again=made,
    )  # fmt: skip
    folder.mkdir()
    (folder / "report.html").write_text(text, encoding="utf-8")
    return folder / "report.html"


def an_audit(folder):
    """The page of an audit of made-up logits, with every file beside it."""
    rng = np.random.default_rng(0)
    teacher = 2 * rng.normal(size=(60, 3))
    student = 1.3 * teacher + rng.normal(size=teacher.shape)
    labels = np.where(rng.random(60) < 0.8, teacher.argmax(axis=1), 0)
    images = rng.integers(0, 256, (60, 8, 8, 1), dtype=np.uint8)
    np.save(folder / "images.npy", images)
    names = ["cat", "dog", HOSTILE]
    audit(teacher, student, labels, names=names, examples=folder / "images.npy", out=folder / "audit")
    return folder / "audit" / "report.html"


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """{name: page}."""
    if own := os.environ.get("KD_JAX_REPORT"):
        return {"own": Path(own).resolve()}
    folder = tmp_path_factory.mktemp("pages")
    return {"study": a_study(folder / "study"), "audit": an_audit(folder)}


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def visit(browser):
    """A function that opens a page; afterwards it must have said nothing on the console, and asked for nothing."""
    said, asked, contexts = [], [], []

    def opened(path, size="desktop", scheme="light", **more):
        width, height = SIZES[size]
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, **more)
        contexts.append(context)
        context.set_default_timeout(20_000)
        tab = context.new_page()
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
        address = path.as_uri()
        tab.on(
            "request",
            lambda of: asked.append(of.url) if of.url != address and of.url[:5] not in ("data:", "blob:") else None,
        )
        tab.goto(address)
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert (said, asked) == ([], [])


def draw(tab):
    """Draw all charts, also those that one has to scroll to."""
    tab.evaluate("async () => { for (const chart of window.kdCharts?.all ?? []) await kdCharts.draw(chart); }")


@pytest.mark.parametrize(("size", "scheme"), [("desktop", "light"), ("phone", "dark")])
def test_no_rule_of_accessibility_is_broken_and_nothing_is_wider_than_the_screen(visit, paths, size, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    for path in paths.values():
        tab = visit(path, size, scheme)
        draw(tab)
        broken = axe.run(tab).response["violations"]
        assert [(each["id"], each["nodes"][0]["html"][:200]) for each in broken] == []
        assert tab.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]


def test_the_answer_and_the_accuracies_are_above_the_fold(visit, paths):
    for path in paths.values():
        tab = visit(path)
        assert (
            tab.locator("table").first.bounding_box()["y"] + tab.locator("table").first.bounding_box()["height"] < 900
        )


# Cells of tables that are cut off at the right, or that have no size.
CUT = """() => [...document.querySelectorAll("th, td")].filter((cell) => {
  const at = cell.getBoundingClientRect();
  return at.right > innerWidth + 1 || at.left < -1 || at.height < 2 || (cell.textContent.trim() && at.width < 2);
}).map((cell) => cell.textContent)"""


def test_on_paper_every_column_of_every_table_is_there_and_what_is_folded_is_open(visit, paths):
    for path in paths.values():
        tab = visit(path, "paper")
        tab.emulate_media(media="print")
        folded = tab.evaluate("document.querySelectorAll('details:not([open])').length")
        tab.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert tab.evaluate("document.querySelectorAll('details:not([open])').length") == 0
        assert tab.evaluate(CUT) == []
        assert tab.evaluate(
            "[...document.querySelectorAll('.wide')].every((of) => getComputedStyle(of).overflow === 'visible')"
        )
        assert tab.evaluate("document.documentElement.scrollWidth") <= SIZES["paper"][0]
        tab.evaluate("dispatchEvent(new Event('afterprint'))")
        assert tab.evaluate("document.querySelectorAll('details:not([open])').length") == folded > 0
        assert tab.pdf(format="A4")[:4] == b"%PDF"


def test_a_point_shows_its_example_under_the_pointer(visit, paths):
    tab = visit(paths.get("audit") or paths["own"])
    draw(tab)
    tab.locator("figure.chart", has=tab.locator(".chart-plot .points")).first.scroll_into_view_if_needed()
    x, y = tab.evaluate("""() => {
      const { plot } = kdCharts.all.find((each) => each.plot.data.some((trace) => trace.meta?.tip));
      plot.scrollIntoView({ block: "center" });
      const [{ x, y }, { xaxis, yaxis }, at] = [
        plot.data.find((trace) => trace.meta?.tip), plot._fullLayout, plot.getBoundingClientRect()];
      return [at.left + xaxis._offset + xaxis.d2p(x[3]), at.top + yaxis._offset + yaxis.d2p(y[3])];
    }""")
    tab.mouse.move(x - 30, y - 30)
    tab.mouse.move(x, y, steps=4)
    tip = tab.locator(".chart-tip:visible")
    tip.wait_for()
    assert "teacher" in tip.inner_text()
    assert tip.locator("canvas").count() == 1


def test_a_slider_moves_through_the_directions_by_keyboard(visit, paths):
    tab = visit(paths.get("study") or paths["own"])
    draw(tab)
    chart = "kdCharts.all.find((each) => each.figure.querySelector('input[type=range]'))"
    slider = tab.locator("figure.chart input[type=range]").first
    before = tab.evaluate(f"JSON.stringify({chart}.plot.data)"), slider.get_attribute("aria-valuetext")
    slider.focus()
    tab.keyboard.press("ArrowRight")
    tab.wait_for_function(f"(before) => JSON.stringify({chart}.plot.data) !== before", arg=before[0])
    assert slider.get_attribute("aria-valuetext") != before[1]


def test_tables_are_sorted_by_keyboard(visit, tmp_path):
    tab = visit(a_study(tmp_path / "study"))
    table = tab.locator("table", has_text="1,200")

    def column(k):
        return table.locator("tbody tr").evaluate_all(f"(rows) => rows.map((row) => row.cells[{k}].textContent)")

    table.locator("thead th").nth(1).locator("button.sort").focus()
    tab.keyboard.press("Enter")
    assert column(1) == ["-3 ± 1", "20", "1,200"]
    assert table.locator("thead th").nth(1).get_attribute("aria-sort") == "ascending"
    tab.keyboard.press("Enter")
    assert column(1) == ["1,200", "20", "-3 ± 1"]
    assert table.locator("thead th").nth(1).get_attribute("aria-sort") == "descending"


def test_a_word_is_explained_by_keyboard_and_by_touch(visit, tmp_path):
    path = a_study(tmp_path / "study")
    tab = visit(path)
    tab.locator("button.term", has_text="slope").first.focus()
    tab.keyboard.press("Enter")
    assert "fitted to the student's confidence" in tab.locator(":popover-open").inner_text()
    tab.keyboard.press("Escape")
    assert tab.locator(":popover-open").count() == 0
    tab = visit(path, "phone", has_touch=True)
    tab.locator("button.term", has_text="null").first.tap()
    assert tab.locator(":popover-open").bounding_box()["y"] < SIZES["phone"][1]


def test_every_scroll_region_is_reached_by_the_tab_key(visit, paths):
    for path in paths.values():
        tab = visit(path, "phone")
        cut = tab.evaluate("""() => [...document.querySelectorAll("*")].filter((of) => {
          const { overflowX } = getComputedStyle(of);
          return of.scrollWidth > of.clientWidth + 1 && (overflowX === "auto" || overflowX === "scroll") && of.tabIndex < 0;
        }).map((of) => of.outerHTML.slice(0, 80))""")
        assert cut == []


def test_links_lead_to_files_that_are_there_and_the_page_is_small(visit, paths):
    path = paths.get("audit") or paths["own"]
    tab = visit(path)
    links = tab.evaluate("[...document.querySelectorAll('a[href]')].map((of) => of.getAttribute('href'))")
    files = [unquote(link) for link in links if not link.startswith("#")]
    assert {"summary.json", "table.csv", "figures/slopes.svg", "figures/slopes.pdf"} <= set(files)
    assert [each for each in files if not (path.parent / each).exists()] == []
    assert path.stat().st_size < BYTES


VIEWS = {
    "desktop": ("desktop", "light"),
    "phone": ("phone", "light"),
    "dark": ("desktop", "dark"),
    "print": ("paper", "light"),
}


def test_pictures_can_be_taken(visit, paths, tmp_path):
    folder = Path(os.environ.get("KD_JAX_PICTURES", tmp_path))
    path = next(iter(paths.values()))
    for name, (size, scheme) in VIEWS.items():
        tab = visit(path, size, scheme)
        if name == "print":
            tab.emulate_media(media="print")
        draw(tab)
        if name == "dark":  # the first chart, and what is around it
            tab.locator("figure.chart").first.evaluate("(of) => scrollTo(0, of.offsetTop - 60)")
            tab.wait_for_timeout(200)
        shot = Image.open(io.BytesIO(tab.screenshot()))
        assert shot.size == SIZES[size]
        colours = shot.convert("RGB").getcolors(shot.width * shot.height)
        most = max(colours)[1]
        assert (max(most) < 60) == (name == "dark"), "light on dark, or dark on light"
        assert len(colours) > 50
        shot.convert("RGB").save(folder / f"report_{name}.png", optimize=True)
        assert (folder / f"report_{name}.png").stat().st_size < 200_000
