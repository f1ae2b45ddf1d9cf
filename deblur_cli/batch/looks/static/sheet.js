"use strict";
// A sheet: each photo has a stage, as taken on the left, one of its versions on the right.

const photos = [...document.querySelectorAll(".photo")].map(bindPhoto);
let current = 0;

function bindPhoto(node, number) {
  const stage = node.querySelector(".stage");
  const versions = [...node.querySelectorAll(".version")];
  const photo = { node, split: null, pick };
  if (!stage) return photo;
  const mat = stage.parentElement;
  photo.split = makeSplit(stage, stage.querySelector(".split"), describe, { frame: mat });
  mat.addEventListener("scroll", photo.split.nameSides, { passive: true });
  versions.forEach((button, index) => button.addEventListener("click", () => pick(index)));
  node.addEventListener("focusin", () => { current = number; });
  pick(0);
  return photo;

  function describe(left, right) {
    const labels = [".at-left", ".at-right"].map((place) => stage.querySelector(place).textContent);
    return `${left} % ${labels[0]}, ${right} % ${labels[1]}`;
  }

  function pick(index) {
    if (!(index in versions)) return;
    versions.forEach((button, other) => button.setAttribute("aria-pressed", other === index ? "true" : "false"));
    const [after, source] = [stage.querySelector(".after"), versions[index].querySelector("img")];
    [after.src, after.alt] = [source.src, source.alt];
    stage.querySelector(".at-right").textContent = versions[index].dataset.label;
    photo.split.set(photo.split.percent);
  }
}

function showPhoto(number) {
  if (!(number in photos)) return;
  current = number;
  photos[number].node.focus({ preventScroll: true });
  photos[number].node.scrollIntoView({ block: "start" });
}

function setZoom(value) {
  document.querySelector(`#zoom input[value="${value}"]`).checked = true;
  byId("photos").classList.toggle("is-magnified", value > 1);
  for (const stage of document.querySelectorAll(".stage")) {
    const mat = stage.parentElement;
    const middle = (mat.scrollLeft + mat.clientWidth / 2) / Math.max(stage.clientWidth, 1);
    stage.style.setProperty("--zoom", value);
    mat.scrollLeft = middle * stage.clientWidth - mat.clientWidth / 2;
  }
  nameAllSides();
}

function nameAllSides() {
  for (const { split } of photos) split?.nameSides();
}

function readKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
  const { split, pick } = photos[current] ?? {};
  const zoom = Number(document.querySelector("#zoom input:checked").value);
  const actions = {
    ArrowRight: () => showPhoto(current + 1), j: () => showPhoto(current + 1),
    ArrowLeft: () => showPhoto(current - 1), k: () => showPhoto(current - 1),
    " ": () => split?.set(split.percent > 0 ? 0 : 100),
    b: () => split?.set(split.percent > 0 ? 0 : 100),
    s: () => split?.set(50),
    z: () => setZoom(zoom === 4 ? 1 : 2 * zoom),
  };
  const action = /^[1-9]$/.test(event.key) ? () => pick?.(Number(event.key) - 1) : actions[event.key];
  if (!action || (event.key === " " && event.target.matches("button"))) return;
  event.preventDefault();
  action();
}

startTheme();
// Where a picture is wider than the window, its middle comes first: the line lies there.
for (const mat of document.querySelectorAll(".mat")) mat.scrollLeft = (mat.scrollWidth - mat.clientWidth) / 2;
byId("zoom").addEventListener("change", (event) => setZoom(Number(event.target.value)));
addEventListener("keydown", readKey);
addEventListener("resize", nameAllSides);
freeKeys(byId("zoom"));
