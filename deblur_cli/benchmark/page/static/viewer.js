"use strict";
// One crop window over all versions of a photo, pixel for pixel, and the same frame on the error maps.

const detail = { x: 0, y: 0, zoom: 1, width: 0, height: 0 }; // the window's corner and size, in the photo's pixels

// One pixel of the photo is one pixel of the screen at 100 %, also where a CSS pixel has several.
const pixelSize = () => detail.zoom / (window.devicePixelRatio || 1);

function showDetail(photo) {
  byId("crops").replaceChildren(makeOverview(photo), ...photo.versions.map((version) => makeCrop(photo, version)));
  const maps = photo.versions.filter((version) => version.error);
  byId("errors").hidden = maps.length === 0;
  byId("no-truth").hidden = maps.length > 0;
  byId("maps").replaceChildren(...maps.map((version) => makeMap(photo, version)));
  byId("legend-end").textContent = `${photo.limit} levels`;
  byId("legend").setAttribute("aria-label", `Colour scale from 0 to ${photo.limit} levels`);
  byId("encoding").textContent = encodingText(photo);
  measureWindow();
  moveWindow(photo.start[0] - detail.width / 2, photo.start[1] - detail.height / 2);
}

function encodingText(photo) {
  const left = pictures.leftOut;
  const rest = left > 0 ? ` ${left} more photo${left === 1 ? "" : "s"} with pictures found no room in this file.` : "";
  return `Pictures here: ${photo.encoding}. The scores come from the original files.${rest}`;
}

function makeCard(title, extra, ...children) {
  return make("figure", { class: "card" }, ...children,
    make("figcaption", {}, make("strong", {}, title), extra));
}

function makeOverview(photo) {
  const source = wholePicture(findVersion(photo, scores.nothing) ?? photo.versions[0]);
  const frame = make("div", {
    class: "frame", id: "frame", role: "slider", tabindex: "0", "aria-label": "Crop window",
    "aria-roledescription": "two-dimensional slider", "aria-describedby": "crop-hint", "aria-valuemin": "0",
  });
  frame.addEventListener("keydown", moveWindowByKey);
  const plane = makePlane(photo, source, frame, "overview");
  return makeCard("Overview", make("span", { class: "aside", id: "frame-place" }), make("div", { class: "crop" }, plane));
}

// A whole picture with the window's frame on it; a press moves the frame's centre there.
function makePlane(photo, source, frame, name) {
  const plane = make("div", { class: `plane ${name}` }, make("img", { alt: "", src: source, draggable: "false" }), frame);
  plane.style.setProperty("--ratio", photo.width / photo.height);
  onDrag(plane, (event, isStart) => {
    if (isStart) byId("frame").focus({ preventScroll: true }); // the arrow keys go on from here
    const box = plane.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * photo.width;
    const y = (event.clientY - box.top) / box.height * photo.height;
    moveWindow(x - detail.width / 2, y - detail.height / 2);
  });
  return plane;
}

function makeCrop(photo, { name, detail: source }) {
  const image = make("img", { alt: `Crop of ${labelOf(name)}`, src: source, draggable: "false" });
  const crop = make("div", { class: "crop window", "data-version": name }, image);
  // A finger on a crop scrolls the page; a mouse or pen pulls the picture along.
  let from = null; // from the press on, so that rounding to whole pixels never adds up
  onDrag(crop, (event, isStart) => {
    if (isStart) from = { x: detail.x + event.clientX / pixelSize(), y: detail.y + event.clientY / pixelSize() };
    else moveWindow(from.x - event.clientX / pixelSize(), from.y - event.clientY / pixelSize());
  }, (event) => event.pointerType !== "touch");
  return makeCard(labelOf(name), makeNumbers(photo, name), crop);
}

function makeNumbers(photo, name) {
  const row = findRow(photo.dataset, photo.image, name);
  if (!row) return null;
  const values = scores.metrics
    .map((metric, number) => [metric, toNumber(row[5][number])])
    .filter(([, value]) => value !== null);
  const telling = values.filter(([metric]) => /^(psnr|lpips)/.test(metric.key));
  const texts = (telling.length > 0 ? telling : values)
    .slice(0, 2)
    .map(([metric, value]) => `${metric.title} ${formatNumber(value, metric.decimals)}`);
  return make("span", { class: "aside number" }, texts.join(" · "));
}

function makeMap(photo, { name, error, mean }) {
  const plane = makePlane(photo, error, make("div", { class: "frame" }), "map");
  plane.querySelector("img").alt = `Error map of ${labelOf(name)}`;
  const text = `mean ${formatNumber(mean, 2)} levels`;
  return makeCard(labelOf(name), make("span", { class: "aside number" }, text), make("div", { class: "crop whole" }, plane));
}

function measureWindow() {
  const crop = document.querySelector(".crop.window");
  const [, , width, height] = currentPhoto().region;
  detail.width = Math.min(width, crop.clientWidth / pixelSize());
  detail.height = Math.min(height, crop.clientHeight / pixelSize());
}

function moveWindow(x, y) {
  const [left, top, width, height] = currentPhoto().region;
  detail.x = Math.round(clamp(x, left, left + width - detail.width));
  detail.y = Math.round(clamp(y, top, top + height - detail.height));
  for (const image of document.querySelectorAll(".crop.window img")) {
    image.style.width = `${width * pixelSize()}px`;
    image.style.transform = `translate(${(left - detail.x) * pixelSize()}px, ${(top - detail.y) * pixelSize()}px)`;
  }
  for (const frame of document.querySelectorAll(".frame")) placeFrame(frame);
  describeWindow(left + width - detail.width, left);
}

function placeFrame(frame) {
  const { width, height } = currentPhoto();
  frame.style.left = `${100 * detail.x / width}%`;
  frame.style.top = `${100 * detail.y / height}%`;
  frame.style.width = `${100 * detail.width / width}%`;
  frame.style.height = `${100 * detail.height / height}%`;
}

function describeWindow(farthest, nearest) {
  const frame = byId("frame");
  frame.setAttribute("aria-valuemin", nearest);
  frame.setAttribute("aria-valuemax", Math.max(nearest, Math.floor(farthest)));
  frame.setAttribute("aria-valuenow", detail.x);
  frame.setAttribute("aria-valuetext", `left ${detail.x}, top ${detail.y} pixels`);
  byId("frame-place").textContent = `frame at ${detail.x}, ${detail.y}`;
}

function moveWindowByKey(event) {
  const step = event.shiftKey ? 64 : 8;
  const moves = {
    ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step],
    Home: [-Infinity, 0], End: [Infinity, 0], PageUp: [0, -Infinity], PageDown: [0, Infinity],
  };
  const move = moves[event.key];
  if (!move) return;
  event.preventDefault();
  moveWindow(detail.x + move[0], detail.y + move[1]);
}

// Keeps the middle of the window where it is while its size changes.
function resizeWindow() {
  const [x, y] = [detail.x + detail.width / 2, detail.y + detail.height / 2];
  measureWindow();
  moveWindow(x - detail.width / 2, y - detail.height / 2);
}

function startDetail() {
  byId("zoom").addEventListener("change", (event) => {
    detail.zoom = Number(event.target.value);
    byId("crops").classList.toggle("is-magnified", detail.zoom > 1);
    resizeWindow();
  });
  new ResizeObserver(resizeWindow).observe(byId("crops"));
}
