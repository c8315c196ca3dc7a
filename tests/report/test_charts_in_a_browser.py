"""Charts in a headless Chromium: what it draws is what `charts.resolved` says, by pointer, by touch and by keyboard."""

import itertools
import json
import re
import shutil

import numpy as np
import pytest

from kd_jax.analysis import gallery, summary
from kd_jax.analysis.eigen import Growth
from kd_jax.analysis.summary import Pair
from kd_jax.report import charts, charts_confidence, charts_directions, charts_galleries, page, thumbnails
from kd_jax.report.charts_confidence import Examples

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
ARMS = ["teacher", "onehot", "student"]


def made_charts():
    rng = np.random.default_rng(0)
    y, true_y, ids = np.arange(30) % 3, (np.arange(30) + (np.arange(30) < 4)) % 3, np.arange(100, 130)
    listed = []
    for seed, arm in itertools.product(range(2), ("onehot", "student")):
        teacher = 2 * np.eye(3)[y] + np.random.default_rng(seed).normal(size=(30, 3))
        listed.append(Pair(arm, seed, "test", teacher, 1.3 * teacher + 0.4 * rng.normal(size=(30, 3)), y, true_y, ids))
    runs = [gallery.of_run(summary.compared(pair)) for pair in listed]
    images = np.repeat(np.arange(0, 240, 8, dtype=np.uint8), 12).reshape(30, 2, 2, 3)
    examples = {"test": Examples(ids, y, true_y, thumbnails.Views(ids, images))}
    names = ["<b>one</b>", "two & a half", "three"]
    scatter = charts_confidence.chart(runs, examples, ARMS, names)
    scatter = scatter._replace(galleries=charts_galleries.galleries(runs, examples, {"student": "onehot"}, names))
    t = np.linspace(0, 1, 5)[:, None]
    growths = [
        Growth(
            arm,
            seed,
            "mlp",
            layer,
            2.0 ** -np.arange(count),
            np.zeros(count),
            np.arange(5),
            start + t,
            t * np.ones(count),
        )
        for layer, count, start in (("first", 9, 1.0), ("second", 5, 0.0))
        for arm in ("onehot", "student")
        for seed in range(2)
        for start in [start + 0.1 * np.arange(count)]
    ]
    directions = charts_directions.chart(growths, {"student": "onehot"}, ARMS)
    return {"confidence": scatter, "directions": directions}, listed


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def opened(browser, tmp_path_factory):
    """(the page, open; its charts; the logits in them; what the browser complained about)."""
    made, listed = made_charts()
    path = tmp_path_factory.mktemp("charted") / "report.html"
    path.write_text(page.render("x", [], [], [], [], {}, {}, charts=made), encoding="utf-8")
    view = browser.new_page(viewport={"width": 1100, "height": 900})
    complaints = []
    view.on("console", lambda message: complaints.append(message.text))
    view.on("pageerror", lambda error: complaints.append(str(error)))
    view.on(
        "request",
        lambda request: None if re.match("file:|data:|blob:", request.url) else complaints.append(request.url),
    )
    view.goto(path.as_uri())
    for name in made:
        view.locator(f"#chart-{name}").scroll_into_view_if_needed()
        view.wait_for_selector(f"#chart-{name} .main-svg")
    yield view, made, listed, complaints
    view.close()


def drawn(view, name):
    """What plotly.js was given for a chart: (data, layout, choice)."""
    script = """(name) => {
      const chart = window.kdCharts.all.find((each) => each.figure.dataset.name === name);
      return JSON.stringify([chart.plot.data, chart.plot.layout, chart.chosen]);
    }"""
    return json.loads(view.evaluate(script, name))


def place(view, row):
    """Where an example is in the window, in pixels."""
    script = """([x, y]) => {
      const plot = document.querySelector("#chart-confidence .chart-plot");
      const { xaxis, yaxis } = plot._fullLayout, box = plot.getBoundingClientRect();
      return [box.left + xaxis._offset + xaxis.d2p(x), box.top + yaxis._offset + yaxis.d2p(y)];
    }"""
    return view.evaluate(script, [drawn(view, "confidence")[0][0][axis][row] for axis in "xy"])


def choose(view, name, control, value):
    view.locator(f"#chart-{name} [name='{name}-{control}']").select_option(value)
    next_frame(view)


def next_frame(view):
    """Wait until what was asked for is drawn, however slow the machine: charts draw once a frame."""
    view.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))")


def test_every_choice_draws_what_python_says_and_nothing_complains(opened):
    view, made, _, complaints = opened
    for arm, seed in itertools.product(("onehot", "student"), ("0", "1")):
        choose(view, "confidence", "arm", arm)
        choose(view, "confidence", "seed", seed)
        data, layout, chosen = drawn(view, "confidence")
        assert chosen == {"split": "test", "arm": arm, "seed": seed}
        expected = charts.resolved(made["confidence"].figure, chosen)
        assert [trace.get("name") for trace in data] == [trace.get("name") for trace in expected["data"]]
        for found, wanted in zip(data, expected["data"], strict=True):
            assert (found["x"], found["y"]) == (wanted["x"], wanted["y"])
        assert layout["yaxis"]["title"]["text"] == expected["layout"]["yaxis"]["title"]["text"]
    assert complaints == []


def test_the_slider_walks_over_the_directions_of_the_layer_by_keyboard(opened):
    view, made, _, _ = opened
    figure = made["directions"].figure
    choose(view, "directions", "layer", "mlp|first")
    slider = view.locator("#chart-directions input[type=range]")
    slider.focus()
    view.keyboard.press("Home")
    seen = []
    for _ in range(8):
        next_frame(view)
        data, layout, chosen = drawn(view, "directions")
        seen.append(chosen["direction"])
        assert slider.get_attribute("aria-valuetext").startswith(f"{chosen['direction']} (")
        expected = charts.resolved(figure, chosen)["data"]
        assert [trace["y"] for trace in data] == [trace["y"] for trace in expected]
        assert f"direction {chosen['direction']}" in layout["yaxis"]["title"]["text"]
        view.keyboard.press("ArrowRight")
    assert seen == [str(k) for k in range(1, 9)]
    choose(view, "directions", "layer", "mlp|second")
    assert int(slider.get_attribute("max")) == 3
    assert drawn(view, "directions")[2]["direction"] in "1234"


def test_pointing_at_an_example_shows_its_thumbnail_and_what_both_say_and_so_does_the_keyboard(opened):
    view, _, listed, _ = opened
    choose(view, "confidence", "arm", "student")
    choose(view, "confidence", "seed", "0")
    pair = next(each for each in listed if (each.arm, each.seed) == ("student", 0))
    chart = view.locator("#chart-confidence")
    chart.scroll_into_view_if_needed()
    tip = chart.locator(".chart-tip")
    row = 2  # its label is wrong
    view.mouse.move(*place(view, row))
    tip.wait_for(state="visible")
    said = tip.inner_text()
    names = ["<b>one</b>", "two & a half", "three"]
    assert f"label {names[pair.y[row]]}" in said
    assert f"published label {names[pair.true_y[row]]}" in said
    assert "number 102" in said
    p = np.exp(pair.teacher[row]) / np.exp(pair.teacher[row]).sum()
    assert f"teacher: {names[p.argmax()]}, p {p.max():.3f}" in said
    pixel = "[...document.querySelector('.chart-tip canvas').getContext('2d').getImageData(0, 0, 1, 1).data]"
    view.wait_for_function(f"() => {pixel}[3] === 255")  # the picture is decoded
    assert view.evaluate(f"() => {pixel}")[:3] == [8 * row] * 3
    view.mouse.move(2, 2)
    tip.wait_for(state="hidden")
    chart.get_by_role("button", name="Next example").focus()
    view.keyboard.press("Enter")
    tip.wait_for(state="visible")
    x, y = (np.array(drawn(view, "confidence")[0][0][axis]) for axis in "xy")
    assert f"number {pair.ids[np.abs(y - x).argmax()]}" in tip.inner_text()
    view.keyboard.press("Escape")
    tip.wait_for(state="hidden")


def test_a_tap_on_a_phone_shows_the_example_until_another_is_tapped(browser, opened):
    context = browser.new_context(has_touch=True, is_mobile=True, viewport={"width": 390, "height": 844})
    phone = context.new_page()
    phone.goto(opened[0].url)
    phone.locator("#chart-confidence").scroll_into_view_if_needed()
    phone.wait_for_selector("#chart-confidence .main-svg")
    x, _ = (np.array(drawn(phone, "confidence")[0][0][axis]) for axis in "xy")
    for row in (int(x.argmin()), int(x.argmax())):
        tip = phone.locator("#chart-confidence .chart-tip")
        for _ in range(5):  # two taps in quick succession are a double tap, which a slow machine may make of any two
            phone.wait_for_timeout(700)
            phone.touchscreen.tap(*place(phone, row))
            try:
                playwright.expect(tip).to_contain_text(f"number {100 + row}", timeout=2000)
                break
            except AssertionError:
                continue
        assert f"number {100 + row}" in tip.inner_text()
    context.close()


def test_a_chart_is_downloaded_as_png_and_svg_of_what_is_chosen(opened):
    view, _, _, _ = opened
    choose(view, "confidence", "arm", "onehot")
    chart = view.locator("#chart-confidence")
    for kind, start in (("PNG", b"\x89PNG"), ("SVG", b"<svg")):
        with view.expect_download() as waited:
            chart.get_by_role("button", name=kind, exact=True).click()
        assert waited.value.suggested_filename.startswith("confidence-test-onehot-")
        assert waited.value.path().read_bytes().startswith(start)


def test_a_dark_page_has_light_letters_in_its_charts_and_a_narrow_one_its_legend_below(opened):
    view, _, _, _ = opened
    text = "() => getComputedStyle(document.querySelector('#chart-directions .xtitle')).fill"
    legend = "() => document.querySelector('#chart-directions .chart-plot').layout.legend.orientation"
    assert view.evaluate(legend) == "v"
    light = view.evaluate(text)
    view.emulate_media(color_scheme="dark")
    view.set_viewport_size({"width": 390, "height": 800})
    view.wait_for_function(f"() => ({legend})() === 'h'")
    view.wait_for_function(f"(light) => ({text})() !== light", arg=light)
    dark = view.evaluate(text)
    assert sum(map(int, re.findall(r"\d+", light)[:3])) < 200 < 500 < sum(map(int, re.findall(r"\d+", dark)[:3]))
    assert view.evaluate(legend) == "h"
    view.wait_for_function("() => document.documentElement.scrollWidth <= 390")  # once it is laid out anew
    view.emulate_media(color_scheme="light")
    view.set_viewport_size({"width": 1100, "height": 900})
