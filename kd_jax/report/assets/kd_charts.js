// Draws the charts of a page. kd_jax/report/charts.py says what a figure may hold besides `data` and `layout` of plotly.js.
(() => {
  "use strict";
  const CONFIG = { displayModeBar: false, displaylogo: false, responsive: true, doubleClick: "reset" };
  const PRINT_WIDTH = 660;
  const NARROW = 620; // pixels, below which legends stand below and titles are broken into lines
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const coarse = matchMedia("(pointer: coarse)");
  const LIGHT = { text: "#222222", faint: "rgba(127, 127, 127, 0.28)", page: "#ffffff" };
  const all = [];

  const element = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };

  const themeOf = (figure) => ({
    text: getComputedStyle(figure).color,
    faint: "rgba(127, 127, 127, 0.28)",
    page: getComputedStyle(document.body).backgroundColor,
  });

  // ---- what is drawn for a choice of the reader; the same as `charts.resolved`

  const MISSING = Symbol("missing");

  function resolve(value, columns, chosen, theme) {
    const of = (each) => {
      if (typeof each === "string" && each[0] === "@") return theme[each.slice(1)] ?? each;
      if (each === null || typeof each !== "object") return each;
      if (Array.isArray(each)) return each.map(of);
      const keys = Object.keys(each);
      if (keys.length === 1 && keys[0] === "column") {
        const key = each.column.replace(/\{(\w+)\}/g, (_, name) => chosen[name]);
        if (!Object.hasOwn(columns, key)) throw MISSING;
        const found = columns[key];
        return found?.column === undefined ? found : of(found); // a column may stand for another one
      }
      return Object.fromEntries(keys.map((name) => [name, of(each[name])]));
    };
    return of(value);
  }

  function traces(spec, chosen, theme) {
    const drawn = [];
    for (const trace of spec.data) {
      try {
        drawn.push(resolve(trace, spec.columns ?? {}, chosen, theme));
      } catch (error) {
        if (error !== MISSING) throw error;
      }
    }
    return drawn;
  }

  // plotly.js does not break lines of titles
  function wrapped(text, most) {
    const rows = [""];
    for (const word of text.split(" ")) {
      if (rows.at(-1) && rows.at(-1).length + word.length > most) rows.push("");
      rows.push(`${rows.pop()} ${word}`.trim());
    }
    return rows.join("<br>");
  }

  function layoutOf(spec, chosen, theme, width) {
    const narrow = width < NARROW;
    // plotly.js writes into a layout, so columns are copied.
    const layout = structuredClone(resolve(spec.layout, spec.columns ?? {}, chosen, theme));
    const axis = { gridcolor: theme.faint, zerolinecolor: theme.faint, linecolor: theme.faint, automargin: true };
    for (const name of Object.keys(layout)) {
      if (!/^[xy]axis\d*$/.test(name)) continue;
      layout[name] = { ...axis, ...layout[name] };
      const text = layout[name].title?.text;
      if (narrow && text) layout[name].title = { text: wrapped(text, 34), font: { size: 12 } };
    }
    // A square plot is no higher than it is wide.
    if (narrow && layout.yaxis?.scaleanchor) layout.height = Math.min(layout.height, width + 200);
    const legend = narrow
      ? { orientation: "h", xref: "container", yref: "container", x: 0, y: 0, yanchor: "bottom" }
      : { orientation: "v", x: 1.02, y: 1, yanchor: "top" };
    return {
      xaxis: axis,
      yaxis: axis,
      hovermode: "closest",
      dragmode: coarse.matches ? false : "zoom",
      paper_bgcolor: "rgba(0, 0, 0, 0)",
      plot_bgcolor: "rgba(0, 0, 0, 0)",
      height: 460,
      ...layout,
      margin: { l: 60, r: 16, t: 24, b: narrow ? 110 : 50, ...layout.margin },
      legend: { ...legend, bgcolor: "rgba(0, 0, 0, 0)", ...layout.legend },
      font: { family: "system-ui, sans-serif", size: 13, color: theme.text, ...layout.font },
    };
  }

  // ---- the example under the pointer

  const probability = (logOdds) => {
    const p = 1 / (1 + Math.exp(-logOdds));
    return p > 0.9995 ? "> 0.999" : p < 0.0005 ? "< 0.001" : p.toFixed(3);
  };

  function lines(tip, index, names, chosen) {
    const said = [];
    for (const line of tip.lines) {
      let known = true;
      const text = line.replace(/\{(\w+)(?::(\w+))?\}/g, (_, name, kind) => {
        if (!Object.hasOwn(tip.values, name)) return chosen[name];
        const values = tip.values[name];
        const value = Array.isArray(values) ? values[index] : values;
        if (value === null || value === undefined) known = false;
        if (kind === "class") return names?.[value] ?? String(value);
        return kind === "p" ? probability(value) : String(value);
      });
      if (known) said.push(text);
    }
    return said;
  }

  const sheets = new Map(); // address of a sprite: its image, decoded once

  function thumbnail(set, position) {
    const canvas = element("canvas", { width: set.width, height: set.height });
    const scale = Math.max(1, Math.round(88 / Math.max(set.width, set.height)));
    canvas.style.width = `${set.width * scale}px`;
    canvas.style.height = `${set.height * scale}px`;
    if (!sheets.has(set.sprite)) sheets.set(set.sprite, element("img", { src: set.sprite }));
    const image = sheets.get(set.sprite);
    const [column, row] = [position % set.columns, Math.floor(position / set.columns)];
    image.decode().then(() => {
      const from = [column * set.width, row * set.height, set.width, set.height];
      canvas.getContext("2d").drawImage(image, ...from, 0, 0, set.width, set.height);
    });
    return canvas;
  }

  function fillTip(chart, point) {
    const tip = point.data.meta.tip;
    const shown = [];
    const set = chart.spec.views?.[tip.views?.replace(/\{(\w+)\}/g, (_, name) => chart.chosen[name])];
    const position = tip.view ? tip.view[point.pointIndex] : null;
    if (set && position !== null && position !== undefined) {
      shown.push(set.texts ? element("blockquote", { textContent: set.texts[position] }) : thumbnail(set, position));
    }
    for (const line of lines(tip, point.pointIndex, chart.spec.names, chart.chosen)) shown.push(element("div", { textContent: line }));
    chart.tip.replaceChildren(...shown);
  }

  function showTip(chart, event) {
    const point = event.points.find((each) => each.data.meta?.tip);
    if (!point) return;
    fillTip(chart, point);
    chart.tip.hidden = false;
    const plot = chart.plot.getBoundingClientRect();
    const figure = chart.figure.getBoundingClientRect();
    const left = plot.left - figure.left + point.xaxis._offset + point.xaxis.d2p(point.x);
    const top = plot.top - figure.top + point.yaxis._offset + point.yaxis.d2p(point.y);
    const beside = left + 16 + chart.tip.offsetWidth < figure.width ? left + 16 : Math.max(0, left - 16 - chart.tip.offsetWidth);
    chart.tip.style.left = `${beside}px`;
    const lowest = plot.bottom - figure.top - chart.tip.offsetHeight;
    chart.tip.style.top = `${Math.max(0, Math.min(top - chart.tip.offsetHeight / 2, lowest))}px`;
  }

  // The same for the keyboard: one example after the other, those first on which the two differ most.
  function step(chart, by) {
    const trace = chart.plot.data?.find((each) => each.meta?.tip);
    if (!trace) return;
    if (chart.walked !== trace) {
      const differ = (index) => Math.abs(trace.y[index] - trace.x[index]);
      const known = [...trace.x.keys()].filter((index) => trace.x[index] !== null && trace.y[index] !== null);
      Object.assign(chart, { walked: trace, order: known.sort((a, b) => differ(b) - differ(a)), at: by > 0 ? -1 : 0 });
    }
    chart.at = (chart.at + by + chart.order.length) % chart.order.length;
    const index = chart.order[chart.at];
    const { xaxis, yaxis } = chart.plot._fullLayout;
    showTip(chart, { points: [{ data: trace, pointIndex: index, x: trace.x[index], y: trace.y[index], xaxis, yaxis }] });
  }

  // ---- controls: HTML elements, which the keyboard reaches and screen readers know

  function optionsOf(chart, control) {
    const of = (value) => resolve(value, chart.spec.columns ?? {}, chart.chosen, {});
    const listed = of(control.options);
    const has = (value) => listed.some((option) => option.value === value);
    if (has(chart.chosen[control.name])) return listed;
    const first = of(control.first ?? null);
    chart.chosen[control.name] = has(first) ? first : listed[0].value;
    return listed;
  }

  function refreshControls(chart) {
    for (const [control, input, output] of chart.inputs) {
      const listed = optionsOf(chart, control);
      const position = listed.findIndex((option) => option.value === chart.chosen[control.name]);
      if (control.kind === "range") {
        Object.assign(input, { min: 0, max: listed.length - 1, step: 1, value: position });
        input.setAttribute("aria-valuetext", listed[position].text);
        output.textContent = listed[position].text;
      } else {
        const texts = listed.map((option) => option.text).join("\n");
        if (input.dataset.texts !== texts) {
          input.replaceChildren(...listed.map((option) => element("option", { value: option.value, textContent: option.text })));
          input.dataset.texts = texts;
        }
        input.value = chart.chosen[control.name];
      }
    }
  }

  function addControls(chart) {
    const place = chart.figure.querySelector(".chart-controls");
    for (const control of chart.spec.controls ?? []) {
      const isRange = control.kind === "range";
      const input = element(isRange ? "input" : "select", isRange ? { type: "range" } : {});
      const output = element("output");
      input.name = `${chart.figure.dataset.name}-${control.name}`;
      input.addEventListener("input", () => {
        chart.chosen[control.name] = isRange ? optionsOf(chart, control)[input.value].value : input.value;
        refreshControls(chart);
        schedule(chart);
      });
      chart.inputs.push([control, input, output]);
      const label = element("label", {}, control.label, input);
      if (isRange) label.append(output);
      place.append(label);
    }
    // Twice: options may depend on a control that comes later.
    refreshControls(chart);
    refreshControls(chart);
    // A single choice is none.
    for (const [control, input] of chart.inputs) {
      if (Array.isArray(control.options) && control.options.length < 2) input.closest("label").hidden = true;
    }
  }

  function addButtons(chart) {
    const place = chart.figure.querySelector(".chart-buttons");
    const button = (text, title, act) => {
      const made = element("button", { type: "button", textContent: text, title });
      made.addEventListener("click", act);
      place.append(made);
    };
    const heading = chart.figure.querySelector("h3").textContent;
    if (chart.spec.data.some((trace) => trace.meta?.tip)) {
      button("Previous example", "Show the example on which the two differ a little more", () => step(chart, -1));
      button("Next example", "Show the example on which the two differ most, then the next", () => step(chart, 1));
    }
    button("PNG", `Download "${heading}" as PNG`, () => download(chart, "png"));
    button("SVG", `Download "${heading}" as SVG`, () => download(chart, "svg"));
    button("Reset view", `Show all of "${heading}" again`, () => draw(chart, { reset: true }));
  }

  async function download(chart, format) {
    const width = Math.max(chart.plot.clientWidth, 640);
    const layout = layoutOf(chart.spec, chart.chosen, LIGHT, width);
    const chosen = chart.inputs.map(([control]) => chart.chosen[control.name]);
    const title = [chart.figure.querySelector("h3").textContent, ...chosen].join(", ");
    const whole = { ...layout, width, paper_bgcolor: "#ffffff", title: { text: escaped(title), font: { size: 14 } } };
    whole.margin = { ...layout.margin, t: 56 };
    const figure = { data: traces(chart.spec, chart.chosen, LIGHT), layout: whole };
    const address = await Plotly.toImage(figure, { format, width, height: layout.height, scale: format === "png" ? 2 : 1 });
    const name = [chart.figure.dataset.name, ...chosen].join("-").replace(/[^\w.-]+/g, "_");
    const link = element("a", { href: address, download: `${name}.${format}` });
    document.body.append(link);
    link.click();
    link.remove();
  }

  // plotly.js reads a little HTML in texts
  const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  // ---- drawing

  function draw(chart, { reset = false, print = false } = {}) {
    chart.isDrawn = true;
    chart.isNarrow = chart.plot.clientWidth < NARROW;
    chart.tip.hidden = true;
    const theme = print ? LIGHT : themeOf(chart.figure);
    const data = traces(chart.spec, chart.chosen, theme);
    const layout = layoutOf(chart.spec, chart.chosen, theme, print ? PRINT_WIDTH : chart.plot.clientWidth);
    if (print) layout.width = PRINT_WIDTH;
    // A view that the reader has zoomed stays while the same choice is drawn again, as in another colour scheme.
    if (reset) chart.resets += 1;
    layout.uirevision = `${Object.values(chart.chosen).join("|")} ${chart.resets}`;
    chart.plot.classList.toggle("chart-empty", !data.length);
    // `react` forgets to make a plot square again once its ranges have changed.
    const isSquare = Boolean(layout.yaxis?.scaleanchor);
    const drawn = (isSquare ? Plotly.newPlot : Plotly.react)(chart.plot, data, layout, CONFIG);
    if (chart.listens && !isSquare) return drawn;
    chart.listens = true;
    return drawn.then(() => {
      chart.plot.on("plotly_hover", (event) => showTip(chart, event));
      chart.plot.on("plotly_click", (event) => showTip(chart, event));
      chart.plot.on("plotly_unhover", () => (chart.tip.hidden = !coarse.matches));
      chart.plot.on("plotly_relayouting", () => (chart.tip.hidden = true));
    });
  }

  function schedule(chart) {
    if (chart.isWaiting) return;
    chart.isWaiting = true;
    requestAnimationFrame(() => {
      chart.isWaiting = false;
      draw(chart);
    });
  }

  function add(figure) {
    const spec = JSON.parse(figure.querySelector('script[type="application/json"]').textContent);
    const tip = element("div", { className: "chart-tip", hidden: true });
    tip.setAttribute("role", "status");
    const plot = figure.querySelector(".chart-plot");
    const chart = { figure, spec, plot, tip, chosen: {}, inputs: [], resets: 0, isDrawn: false };
    figure.append(tip);
    addControls(chart);
    addButtons(chart);
    all.push(chart);
    return chart;
  }

  function start() {
    const visible = new IntersectionObserver(
      (entries) => {
        for (const entry of entries) {
          if (!entry.isIntersecting) continue;
          visible.unobserve(entry.target);
          const chart = all.find((each) => each.figure === entry.target);
          if (!chart.isDrawn) draw(chart);
        }
      },
      { rootMargin: "400px" },
    );
    for (const figure of document.querySelectorAll("figure.chart")) visible.observe(add(figure).figure);
    // plotly.js follows the width; where the legend stands changes with it.
    const resized = new ResizeObserver(() => {
      for (const chart of all) if (chart.isDrawn && chart.isNarrow !== chart.plot.clientWidth < NARROW) schedule(chart);
    });
    all.forEach((chart) => resized.observe(chart.plot));
    dark.addEventListener("change", () => all.filter((chart) => chart.isDrawn).forEach((chart) => schedule(chart)));
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape") all.forEach((chart) => (chart.tip.hidden = true));
    });
    addEventListener("beforeprint", () => all.forEach((chart) => draw(chart, { print: true })));
    addEventListener("afterprint", () => all.forEach((chart) => draw(chart)));
  }

  // For tests and for whoever looks around: the charts, and a way to draw them again.
  window.kdCharts = { all, draw };
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", start);
  else start();
})();
