"use strict";
(() => {
  // Sorting: a button in every heading of a table whose rows are of one kind.
  const number = (text) => {
    const found = text.replaceAll(",", "").match(/^\s*[+\-−]?\d+(\.\d+)?(e[+-]?\d+)?/i);
    return found ? Number(found[0].replace("−", "-")) : NaN;
  };
  const compare = (a, b, up) => {
    const [x, y] = [number(a), number(b)];
    if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1; // what is no number comes last
    return (up ? 1 : -1) * (Number.isNaN(x) ? a.localeCompare(b) : x - y);
  };
  for (const table of document.querySelectorAll("table[data-sort]")) {
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.textContent = "↕";
      button.setAttribute("aria-label", `sort by ${heading.textContent.trim()}`);
      heading.append(button);
      button.addEventListener("click", () => {
        const up = heading.getAttribute("aria-sort") !== "ascending";
        for (const each of headings) {
          each.removeAttribute("aria-sort");
          each.querySelector(".sort").textContent = "↕";
        }
        heading.setAttribute("aria-sort", up ? "ascending" : "descending");
        button.textContent = up ? "↑" : "↓";
        const rows = [...table.tBodies[0].rows];
        rows.sort((a, b) => compare(a.cells[column].textContent, b.cells[column].textContent, up));
        table.tBodies[0].append(...rows);
      });
    });
  }

  // On paper everything that is folded is open.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const each of opened) each.open = true;
  });
  addEventListener("afterprint", () => {
    for (const each of opened) each.open = false;
  });
})();
