"use strict";
// The scores as they were embedded, and how a number is written.

const scores = readJson("scores-json");
const minus = "\u2212";
const nothingScores = new Map();
for (const [dataset, image, model, , , values] of scores.rows) {
  if (scores.models[model] === scores.nothing) nothingScores.set(`${dataset}\n${image}`, values.map(toNumber));
}

function toNumber(value) {
  return value === null || value === undefined ? null : Number(value);
}

function formatNumber(value, decimals, sign = false) {
  if (value === null) return "–";
  if (!Number.isFinite(value)) return (value < 0 ? minus : "") + "∞";
  const shown = Number(value.toFixed(decimals));
  const digits = Math.abs(shown).toLocaleString("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
  return (shown < 0 ? minus : sign && shown > 0 ? "+" : "") + digits;
}

// The difference of a row's metric to doing nothing, or null where there is none.
function changeOf(row, metric) {
  const nothing = nothingScores.get(`${row[0]}\n${row[1]}`);
  const value = toNumber(row[5][metric]);
  if (!nothing || scores.models[row[2]] === scores.nothing) return null;
  if (!Number.isFinite(value) || !Number.isFinite(nothing[metric]) || value === null || nothing[metric] === null) return null;
  return value - nothing[metric];
}

function verdictOf(change, metric) {
  const { direction, decimals } = scores.metrics[metric];
  if (Number(change.toFixed(decimals)) === 0 || direction === "none") return "same";
  return change > 0 === (direction === "higher") ? "better" : "worse";
}

function makeChange(change, metric) {
  if (change === null) return null;
  const verdict = verdictOf(change, metric);
  const glyph = { better: "▲", worse: "▼", same: "" }[verdict];
  return make("span", { class: `change ${verdict}` },
    make("span", { class: "glyph", "aria-hidden": "true" }, glyph),
    formatNumber(change, scores.metrics[metric].decimals, true),
    make("span", { class: "visually-hidden" }, verdict === "same" ? "" : `, ${verdict} than doing nothing`));
}

const rowIndex = new Map(scores.rows.map((row) =>
  [`${scores.datasets[row[0]]}\n${row[1]}\n${scores.models[row[2]]}`, row]));

function findRow(dataset, image, model) {
  return rowIndex.get(`${dataset}\n${image}\n${model}`);
}

function labelOf(name) {
  if (name === scores.truth) return "truth";
  return name === scores.nothing ? `${name}, as taken` : name;
}
