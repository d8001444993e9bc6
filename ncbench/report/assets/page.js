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
  // Numbers start with the largest, but ranks with the first; names with a.
  const rising = !isNumber || head.textContent === "rank";
  const first = rising ? "ascending" : "descending";
  const other = rising ? "descending" : "ascending";
  const order = head.getAttribute("aria-sort") === first ? other : first;
  for (const each of head.parentNode.children) each.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [row.cells[column].textContent.trim(), row]);
  const isReference = (row) => row.classList.contains("reference");
  rows.sort(
    ([one, row], [another, next]) =>
      isReference(row) - isReference(next) || compareCells(one, another, sign, isNumber)
  );
  body.append(...rows.map(([, row]) => row));
}

function makeSortable(table) {
  for (const head of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sortBy(table, head));
    head.replaceChildren(button);
  }
}

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function applyFilters(section, form) {
  const wanted = { backbone: form.backbone.value, noise: form.noise.value, unit: form.unit.value };
  const seeds = Number(form.seeds.value) || 1;
  const methods = new Set([...form.querySelectorAll("[name=method]:checked")].map((box) => box.value));
  // Clean pairs belong to every unit.
  const fits = (block, names) =>
    names.every(
      (name) => !wanted[name] || block.dataset[name] === wanted[name] || (name === "unit" && block.dataset.unit === "clean")
    );
  let shown = 0;
  for (const block of section.querySelectorAll(".comparison")) {
    block.hidden = !fits(block, ["backbone", "noise", "unit"]);
    shown += !block.hidden;
  }
  for (const block of section.querySelectorAll(".overview")) {
    const noise = wanted.noise === "clean pairs" ? "clean" : wanted.noise.split(" ").pop();
    const covers = !wanted.noise || noise === "clean" || wanted.noise.startsWith(block.dataset.protocol + " ");
    block.hidden = !fits(block, ["backbone", "unit"]) || !covers;
    const table = block.querySelector("table");
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const hide = Boolean(wanted.noise) && head.dataset.ratio !== undefined && head.dataset.ratio !== noise;
      for (const row of table.rows) row.cells[column].hidden = hide;
    });
  }
  for (const row of section.querySelectorAll("tr[data-method]")) {
    row.hidden = !methods.has(row.dataset.method) || Number(row.dataset.seeds || Infinity) < seeds;
  }
  const all = section.querySelectorAll(".comparison").length;
  const boxes = form.querySelectorAll("[name=method]").length;
  section.querySelector(".filtered").textContent =
    `${shown} of ${all} comparisons and ${methods.size} of ${boxes} methods are shown.`;
}

const signed = (value) => (value > 0 ? "+" : "") + value.toFixed(1);

function compareTwo(section, form, data) {
  const [one, other] = [form.one.value, form.other.value];
  const place = section.querySelector(".compared");
  place.replaceChildren();
  if (!one || !other || one === other) return;
  const table = document.createElement("table");
  const head = table.createTHead().insertRow();
  for (const name of ["comparison", "difference in rSum", "95 % interval", "seeds", "is that sure?"]) {
    head.append(element("th", name, { scope: "col" }));
  }
  const body = table.createTBody();
  for (const { title, rsums, pairs } of data.comparisons) {
    if (!(one in rsums) || !(other in rsums)) continue;
    const found = pairs.find(([a, b]) => (a === one && b === other) || (a === other && b === one));
    const cells = [title, signed(rsums[one] - rsums[other]), "-", "-", "not tested"];
    if (found) {
      const sign = found[0] === one ? 1 : -1;
      const [low, high] = [sign * found[3], sign * found[4]].sort((a, b) => a - b);
      const better = low > 0 ? `yes, ${one} is better` : high < 0 ? `yes, ${other} is better` : "no";
      cells.splice(1, 4, signed(sign * found[2]), `${signed(low)} to ${signed(high)}`, String(found[5]), better);
    }
    const row = body.insertRow();
    cells.forEach((text, column) => row.append(element(column ? "td" : "th", text, column ? {} : { scope: "row" })));
  }
  const label = `${one} minus ${other}, paired by seed and test query`;
  table.prepend(element("caption", label));
  const box = element("div", "", { class: "wide", role: "region", tabindex: "0", "aria-label": label });
  box.append(table);
  place.append(body.rows.length ? box : element("p", "They were never run under the same conditions."));
}

// The rows of a CSV text as objects.
function parseCsv(text) {
  const rows = [[]];
  for (const [, quoted, plain, end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^",\n]*))(,|\n|$)/g)) {
    rows.at(-1).push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    if (end === "\n") rows.push([]);
    if (end === "") break;
  }
  const [names, ...body] = rows;
  const value = (cell) => (cell === "" ? null : cell.trim() !== "" && !Number.isNaN(Number(cell)) ? Number(cell) : cell);
  const texts = new Set(["id", "variant", "method", "dataset"]);
  return body
    .filter((cells) => cells.length === names.length)
    .map((cells) => Object.fromEntries(names.map((name, n) => [name, texts.has(name) ? cells[n] : value(cells[n])])));
}

function download(name, type, content) {
  const link = element("a", "", { download: name, href: URL.createObjectURL(new Blob([content], { type })) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

for (const table of document.querySelectorAll("table")) makeSortable(table);

for (const section of document.querySelectorAll("section.dataset")) {
  const data = JSON.parse(section.querySelector("script.data").textContent);
  const form = section.querySelector("form.controls");
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => {
    if (["one", "other"].includes(event.target.name)) compareTwo(section, form, data);
    else applyFilters(section, form);
  });
  form.addEventListener("reset", () =>
    setTimeout(() => {
      applyFilters(section, form);
      compareTwo(section, form, data);
    })
  );
  const kinds = {
    csv: ["text/csv", () => data.csv],
    json: ["application/json", () => JSON.stringify(parseCsv(data.csv), null, 1)],
    bib: ["text/plain", () => data.bibtex],
  };
  section.querySelector(".downloads").hidden = false;
  for (const button of section.querySelectorAll(".downloads button")) {
    const [type, content] = kinds[button.dataset.kind];
    button.addEventListener("click", () => download(`ncbench-runs.${button.dataset.kind}`, type, content()));
  }
}

for (const button of document.querySelectorAll("button.copy")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const command = button.parentNode.querySelector(".command");
    try {
      await navigator.clipboard.writeText(command.textContent);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(command);
      button.textContent = "selected: press Ctrl+C";
    }
  });
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
