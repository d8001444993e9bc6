"use strict";

// A number at the beginning of a cell, as "61.0 ± 1.4", "1,234 MiB", "-3.5", "90%"; null where there is none.
function numberIn(text) {
  const found = /^[+-]?[\d,]*\.?\d+/.exec(text.trim());
  return found ? parseFloat(found[0].replaceAll(",", "")) : null;
}

// Cells without a number come last, whichever way the others are sorted.
function compareCells(one, other, sign, isNumber) {
  if (!isNumber) return sign * one.localeCompare(other, "en");
  const [a, b] = [numberIn(one), numberIn(other)];
  if (a === null || b === null) return (a === null) - (b === null);
  return sign * (a - b);
}

function sortBy(table, head) {
  const column = [...head.parentNode.children].indexOf(head);
  const isNumber = head.classList.contains("number");
  // What is better, or more, is looked for first; names go from a to z.
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
