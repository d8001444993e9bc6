"use strict";

// The number at the start of a cell such as "61.0 ± 1.4", "1,234 MiB", "-3.5" or "90%"; null if there is none.
function numberIn(text) {
  const found = /^[+-]?[\d,]*\.?\d+/.exec(text.trim());
  return found ? parseFloat(found[0].replaceAll(",", "")) : null;
}

// Cells without a number come last in either order.
function compareCells(one, other, sign, isNumber) {
  if (!isNumber) return sign * one.localeCompare(other, "en");
  const [a, b] = [numberIn(one), numberIn(other)];
  if (a === null || b === null) return (a === null) - (b === null);
  return sign * (a - b);
}

function sortBy(table, head) {
  const column = [...head.parentNode.children].indexOf(head);
  const isNumber = head.classList.contains("number");
  // Numbers start with the largest, names with a.
  const first = isNumber ? "descending" : "ascending";
  const other = isNumber ? "ascending" : "descending";
  const order = head.getAttribute("aria-sort") === first ? other : first;
  for (const each of head.parentNode.children) each.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [row.cells[column].textContent, row]);
  rows.sort(([one], [another]) => compareCells(one, another, sign, isNumber));
  body.append(...rows.map(([, row]) => row));
}

for (const table of document.querySelectorAll("table")) {
  for (const head of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sortBy(table, head));
    head.replaceChildren(button);
  }
}

const theme = document.getElementById("theme");
theme.hidden = false;
theme.addEventListener("click", () => {
  const root = document.documentElement;
  const isDark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
});
