"use strict";
// The photos with pictures, the links to them, and the slider over two whole pictures.

const pictures = readJson("pictures-json");
const photoIndex = new Map(pictures.photos.map((photo, number) => [`${photo.dataset}\n${photo.image}`, number]));
const compare = { photo: 0, left: "", right: "" };
let splitLine = null;

const hasViewer = (dataset, image) => photoIndex.has(`${dataset}\n${image}`);
const findPhoto = (dataset, image) => pictures.photos[photoIndex.get(`${dataset}\n${image}`)];
const findVersion = (photo, name) => photo.versions.find((version) => version.name === name);
const wholePicture = (version) => version.preview ?? version.detail;
const currentPhoto = () => pictures.photos[compare.photo];

function viewerLink(dataset, image, model) {
  return `#${new URLSearchParams({ dataset, photo: image, model })}`;
}

// Opens the photo that the address names; true if it names one.
function openFromAddress() {
  const asked = new URLSearchParams(location.hash.slice(1));
  const [dataset, image] = [asked.get("dataset"), asked.get("photo")];
  if (image === null || !hasViewer(dataset, image)) return false;
  showPhoto(photoIndex.get(`${dataset}\n${image}`), asked.get("model"));
  byId("compare").scrollIntoView();
  byId("split").focus({ preventScroll: true });
  return true;
}

// A link to the address that stands there already changes no address, and would do nothing.
function openSameAgain(event) {
  const link = event.target.closest("a");
  if (link && link.hash !== "" && link.hash === location.hash) openFromAddress();
}

function chooseVersions(photo, model) {
  const names = photo.versions.map((version) => version.name);
  const isFree = (name) => names.includes(name) && name !== scores.nothing;
  const models = names.filter((name) => name !== scores.nothing && name !== scores.truth);
  compare.left = names.includes(compare.left) ? compare.left : names[0];
  if (model && names.includes(scores.nothing)) compare.left = scores.nothing;
  compare.right = [model, compare.right, models[0], ...names].find(isFree) ?? names[0];
}

function showPhoto(number, model = null) {
  compare.photo = number;
  const photo = currentPhoto();
  chooseVersions(photo, model);
  const entries = photo.versions.map(({ name }) => [name, labelOf(name)]);
  fillSelect(byId("left"), entries, compare.left);
  fillSelect(byId("right"), entries, compare.right);
  byId("compare-name").textContent = `${photo.dataset} · ${photo.image} · ${photo.width} × ${photo.height}`;
  byId("position").textContent = `${number + 1} / ${pictures.photos.length}`;
  byId("stage").style.setProperty("--ratio", photo.width / photo.height);
  markStrip();
  renderStage();
  showDetail(photo);
}

function renderStage() {
  for (const side of ["left", "right"]) {
    const name = compare[side];
    const image = byId(`${side}-image`);
    image.src = wholePicture(findVersion(currentPhoto(), name));
    image.alt = `${labelOf(name)}: ${currentPhoto().image}`;
    byId(`${side}-badge`).textContent = labelOf(name);
  }
  splitLine.set(splitLine.percent);
}

function buildStrip() {
  const buttons = pictures.photos.map((photo, number) => {
    const source = wholePicture(findVersion(photo, scores.nothing) ?? photo.versions[0]);
    const image = make("img", { alt: "", decoding: "async", src: source });
    const button = make("button", { type: "button", "aria-label": `${photo.dataset}, ${photo.image}`, title: photo.image }, image);
    button.addEventListener("click", () => showPhoto(number));
    return button;
  });
  byId("strip").replaceChildren(...buttons);
}

function markStrip() {
  [...byId("strip").children].forEach((button, number) => {
    button.setAttribute("aria-current", number === compare.photo ? "true" : "false");
  });
  // Not scrollIntoView: that would move the page as well.
  const strip = byId("strip");
  const chosen = strip.children[compare.photo];
  strip.scrollLeft = chosen.offsetLeft - strip.offsetLeft - (strip.clientWidth - chosen.clientWidth) / 2;
}

function stepPhoto(step) {
  const count = pictures.photos.length;
  showPhoto((compare.photo + step + count) % count);
}

function startCompare() {
  const hasPhotos = pictures.photos.length > 0;
  byId("viewer").hidden = !hasPhotos;
  byId("compare-empty").hidden = hasPhotos;
  if (!hasPhotos) return;
  buildStrip();
  for (const side of ["left", "right"]) {
    byId(side).addEventListener("change", (event) => {
      compare[side] = event.target.value;
      renderStage();
    });
  }
  byId("previous").addEventListener("click", () => stepPhoto(-1));
  byId("next").addEventListener("click", () => stepPhoto(1));
  splitLine = makeSplit(byId("stage"), byId("split"),
    (left, right) => `${left} % ${labelOf(compare.left)}, ${right} % ${labelOf(compare.right)}`);
  startDetail();
  addEventListener("hashchange", openFromAddress);
  addEventListener("click", openSameAgain);
  showPhoto(0);
  openFromAddress();
}
