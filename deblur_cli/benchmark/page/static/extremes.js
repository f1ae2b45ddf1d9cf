"use strict";
// Worst and best cases of a model, each a link into the viewer where it has the photo.

function startExtremes() {
  const datasets = [...new Set(scores.extremes.map((cases) => cases.dataset))];
  fillSelect(byId("extremes-dataset"), datasets.map((name) => [name, name]), datasets[0]);
  byId("extremes-dataset").addEventListener("change", fillExtremesModels);
  byId("extremes-model").addEventListener("change", renderExtremes);
  byId("extremes-empty").hidden = datasets.length > 0;
  byId("extremes-lead").hidden = datasets.length === 0;
  for (const id of ["extremes-dataset", "extremes-model"]) byId(id).closest("label").hidden = datasets.length === 0;
  if (datasets.length > 0) fillExtremesModels();
}

function fillExtremesModels() {
  const dataset = byId("extremes-dataset").value;
  const models = scores.extremes.filter((cases) => cases.dataset === dataset).map((cases) => cases.model);
  fillSelect(byId("extremes-model"), models.map((name) => [name, name]), byId("extremes-model").value);
  renderExtremes();
}

function renderExtremes() {
  const dataset = byId("extremes-dataset").value;
  const model = byId("extremes-model").value;
  const found = scores.extremes.find((cases) => cases.dataset === dataset && cases.model === model);
  byId("extremes-lists").replaceChildren(
    ...[["Worst", found.worst], ["Best", found.best]]
      .filter(([, cases]) => cases.length > 0)
      .map(([title, cases]) => makeCases(title, dataset, model, cases)));
}

function makeCases(title, dataset, model, cases) {
  const items = cases.map(([image, gain]) => make("li", {}, makeCase(dataset, image, model, gain)));
  return make("div", { class: "cases" }, make("h3", {}, title), make("ol", {}, ...items));
}

function makeCase(dataset, image, model, gain) {
  const verdict = Number(gain.toFixed(2)) === 0 ? "same" : gain > 0 ? "better" : "worse";
  const glyph = { better: "▲", worse: "▼", same: "" }[verdict];
  const numbers = make("span", { class: `number change ${verdict}` },
    make("span", { class: "glyph", "aria-hidden": "true" }, glyph), `${formatNumber(gain, 2, true)} dB`);
  const name = make("span", { class: "case-name" }, ...breakable(image));
  if (!hasViewer(dataset, image)) return make("div", { class: "case" }, noPicture(), name, numbers);
  return make("a", { class: "case", href: viewerLink(dataset, image, model) },
    makeThumbnails(dataset, image, model), name, numbers);
}

function noPicture() {
  return make("span", { class: "no-picture" }, "no picture kept");
}

// The most telling place, blurry on the left and restored on the right.
function makeThumbnails(dataset, image, model) {
  const photo = findPhoto(dataset, image);
  const names = [scores.nothing, model].filter((name) => findVersion(photo, name));
  const pictures = names.map((name) => {
    const picture = make("img", { alt: "", src: wholePicture(findVersion(photo, name)) });
    const [x, y] = photo.start;
    picture.style.objectPosition = `${100 * x / photo.width}% ${100 * y / photo.height}%`;
    return picture;
  });
  return make("span", { class: "pair" }, ...pictures);
}
