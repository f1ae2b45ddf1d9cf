"use strict";
// The table of all photos: filter, sort, and only so many rows at a time.

const pageOfRows = 50;
const table = { column: 0, isDescending: false, shown: pageOfRows };
const arrows = { higher: " ↑", lower: " ↓", none: "" };

const columns = [
  { title: "Photo", isText: true, key: (row) => row[1] },
  { title: "Data set", isText: true, key: (row) => scores.datasets[row[0]] },
  { title: "Model", isText: true, key: (row) => row[2] },
  { title: "Size", unit: "px", key: (row) => row[3] * row[4] },
  ...scores.metrics.map((metric, number) => ({
    title: metric.title + arrows[metric.direction], unit: metric.unit, protocol: metric.protocol, metric: number,
    key: (row) => sortsByChange() ? changeOf(row, number) : toNumber(row[5][number]),
    isDescendingFirst: metric.direction === "higher",
  })),
  { title: "Time", unit: "s", key: (row) => toNumber(row[6]) },
];

function sortsByChange() {
  return document.querySelector("#sort-by input:checked").value === "change";
}

function buildHead() {
  const cells = columns.map((column, number) => {
    const button = make("button", { type: "button" }, column.title);
    if (column.unit) button.append(make("span", { class: "unit" }, column.unit));
    button.append(make("span", { class: "sort", "aria-hidden": "true" }));
    button.addEventListener("click", () => sortBy(number));
    const attributes = { scope: "col", class: column.isText ? "" : "number" };
    return make("th", column.protocol ? { ...attributes, title: column.protocol } : attributes, button);
  });
  byId("rows").tHead.replaceChildren(make("tr", {}, ...cells));
}

function sortBy(number) {
  const isSame = table.column === number;
  table.isDescending = isSame ? !table.isDescending : Boolean(columns[number].isDescendingFirst);
  table.column = number;
  renderRows();
}

const collator = new Intl.Collator("en", { numeric: true });

// Rows without a value come last in both directions.
function compareRows(one, other) {
  const a = columns[table.column].key(one);
  const b = columns[table.column].key(other);
  if (a === null || b === null) return Number(a === null) - Number(b === null);
  const order = typeof a === "string" ? collator.compare(a, b) : a === b ? 0 : a < b ? -1 : 1;
  return table.isDescending ? -order : order;
}

function filteredRows() {
  const dataset = byId("filter-dataset").value;
  const model = byId("filter-model").value;
  const name = byId("filter-name").value.trim().toLowerCase();
  return scores.rows.filter((row) =>
    (dataset === "" || scores.datasets[row[0]] === dataset)
    && (model === "" || scores.models[row[2]] === model)
    && row[1].toLowerCase().includes(name));
}

function renderRows() {
  const rows = filteredRows().sort(compareRows);
  byId("rows").tBodies[0].replaceChildren(...rows.slice(0, table.shown).map(makeRow));
  const shown = Math.min(rows.length, table.shown);
  byId("row-count").textContent = `${shown} of ${rows.length} rows shown, ${scores.rows.length} in all`;
  byId("more").hidden = shown === rows.length;
  markSorted();
}

function markSorted() {
  [...byId("rows").tHead.rows[0].cells].forEach((cell, number) => {
    const order = number !== table.column ? "none" : table.isDescending ? "descending" : "ascending";
    cell.setAttribute("aria-sort", order);
  });
}

function makeRow(row) {
  const [dataset, image, model, width, height, values, seconds, note] = row;
  const cells = scores.metrics.map((metric, number) => make("td", { class: "number" },
    make("span", { class: "value" }, formatNumber(toNumber(values[number]), metric.decimals)),
    makeChange(changeOf(row, number), number)));
  return make("tr", scores.models[model] === scores.nothing ? { class: "nothing" } : {},
    make("th", { scope: "row" }, photoName(scores.datasets[dataset], image, scores.models[model]),
      note ? make("span", { class: "aside note" }, note) : null),
    make("td", {}, scores.datasets[dataset]),
    make("td", {}, scores.models[model]),
    make("td", { class: "number" }, `${width} × ${height}`),
    ...cells,
    make("td", { class: "number" }, formatNumber(toNumber(seconds), 2)));
}

// The photo's name, as a link where the viewer has it.
function photoName(dataset, image, model) {
  if (!hasViewer(dataset, image)) return make("span", {}, ...breakable(image));
  return make("a", { href: viewerLink(dataset, image, model) }, ...breakable(image));
}

function renderFromTop() {
  table.shown = pageOfRows;
  renderRows();
}

function startTable() {
  const all = ["", "All"];
  fillSelect(byId("filter-dataset"), [all, ...scores.datasets.map((name) => [name, name])], "");
  fillSelect(byId("filter-model"), [all, ...scores.models.map((name) => [name, name])], "");
  for (const id of ["filter-dataset", "filter-model", "sort-by"]) byId(id).addEventListener("change", renderFromTop);
  byId("filter-name").addEventListener("input", renderFromTop);
  byId("more").addEventListener("click", () => {
    table.shown += pageOfRows;
    renderRows();
  });
  buildHead();
  renderRows();
}
