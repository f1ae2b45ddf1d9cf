"use strict";
// Results to look through: the grid, the viewer over it, and the choices, which the server writes at once.

const data = readJson("results-json");
const results = data.results;
const view = { shown: [], number: -1, zoom: "1", x: 0.5, y: 0.5, width: 0, height: 0, facts: null };
let line = null;

// The version keeps a result that was done again apart from what the browser remembers of it.
const address = (what, number) => `${what}/${number}?${results[number].version}`;

// The grid

// Thumbnails are asked for near the window only; whoever scrolls past many does not wait for them.
const nearness = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const image = target.querySelector("img");
    if (isIntersecting && !image.hasAttribute("src")) image.src = address("thumb", Number(target.dataset.number));
    else if (!isIntersecting && !image.complete) image.removeAttribute("src");
  }
}, { rootMargin: "50%" });

function makeCell(result, number) {
  const image = make("img", { alt: "", decoding: "async" });
  image.addEventListener("error", () => { image.alt = "cannot be shown"; });
  const label = make("span", { class: "label" }, make("span", {}, result.name), make("span", { class: "mark" }));
  const cell = make("button", { type: "button", class: "cell", title: result.name, "data-number": number },
    make("span", { class: "thumb" }, image), label);
  cell.addEventListener("click", () => openViewer(number));
  nearness.observe(cell);
  return cell;
}

const cells = results.map(makeCell);

function markCell(number) {
  const { choice, model, done, name } = results[number];
  const mark = cells[number].querySelector(".mark");
  mark.className = `mark ${choice}${done ? " is-done" : ""}`;
  mark.hidden = choice === "";
  mark.textContent = done ? "redone" : choice;
  cells[number].classList.toggle("is-reject", choice === "reject");
  cells[number].setAttribute("aria-label", `${name}${choice ? `, ${choice} ${model}` : ""}`);
}

function countChoices() {
  for (const input of document.querySelectorAll("#filter input")) {
    const count = results.filter(({ choice }) => input.value === "all" || choice === input.value).length;
    input.nextElementSibling.querySelector("b").textContent = count;
  }
}

function fillGrid() {
  const wanted = document.querySelector("#filter input:checked").value;
  view.shown = results.map((_, number) => number).filter((number) => wanted === "all" || results[number].choice === wanted);
  byId("grid").replaceChildren(...view.shown.map((number) => cells[number]));
  byId("nothing").hidden = view.shown.length > 0;
}

function moveInGrid(event) {
  const grid = byId("grid");
  const at = view.shown.indexOf(Number(document.activeElement.dataset?.number ?? -1));
  const columns = getComputedStyle(grid).gridTemplateColumns.split(" ").length;
  const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, Home: -Infinity, End: Infinity };
  if (!(event.key in steps) || view.shown.length === 0) return false;
  const next = at < 0 ? 0 : clamp(at + steps[event.key], 0, view.shown.length - 1);
  cells[view.shown[next]].focus();
  return true;
}

// The viewer

const covered = [byId("bar"), byId("overview")]; // by it, and out of the keyboard's way meanwhile

async function openViewer(number) {
  view.number = number;
  byId("viewer").hidden = false;
  covered.forEach((node) => { node.inert = true; });
  document.documentElement.style.overflow = "hidden";
  history.replaceState(null, "", `#${number}`);
  byId("name").textContent = results[number].name;
  byId("position").textContent = `${Math.max(0, view.shown.indexOf(number)) + 1} / ${view.shown.length}`;
  byId("name").focus({ preventScroll: true });
  showChoice();
  const facts = await askFacts(number);
  if (view.number !== number) return; // the next one is already there
  view.facts = facts;
  if (facts.result) takeIn(number, facts.result);
  showFacts();
}

async function askFacts(number) {
  try {
    const answer = await fetch(`facts/${number}`);
    return answer.ok ? await answer.json() : { fault: await answer.text(), width: 0, height: 0 };
  } catch {
    return { fault: "deblur view has ended; start it again", width: 0, height: 0 };
  }
}

// A result may have been done again since the page was loaded.
function takeIn(number, told) {
  const isNew = results[number].version !== told.version;
  Object.assign(results[number], told);
  markCell(number);
  showChoice();
  const image = cells[number].querySelector("img");
  if (isNew && image.hasAttribute("src")) image.src = address("thumb", number);
}

function showFacts() {
  const { facts, number } = view;
  [view.width, view.height] = [facts.width, facts.height];
  byId("exif").textContent = [facts.width ? `${facts.width} × ${facts.height}` : "", facts.exif].filter(Boolean).join(" · ");
  byId("recipe").textContent = facts.recipe ?? "";
  byId("source").textContent = facts.source || (facts.width ? "not found" : "");
  byId("notice").textContent = facts.notice ?? "";
  byId("notice").hidden = !facts.notice;
  byId("gone").textContent = facts.fault;
  byId("gone").hidden = !facts.fault;
  byId("stage").classList.toggle("is-alone", !facts.source);
  show(byId("after"), facts.width > 0 ? address("after", number) : "", `${results[number].name}, restored`);
  show(byId("before"), facts.source ? address("before", number) : "", `${results[number].name}, as taken`);
  line.set(facts.source ? line.percent : 0);
  place();
}

function show(image, source, alt) {
  image.hidden = source === "";
  image.alt = alt;
  if (source === "") image.removeAttribute("src");
  else if (image.getAttribute("src") !== source) image.src = source;
}

function scale() {
  const stage = byId("stage");
  const fit = Math.min(stage.clientWidth / view.width, stage.clientHeight / view.height);
  return view.zoom === "fit" ? Math.min(fit, 1) : Number(view.zoom) / (window.devicePixelRatio || 1);
}

// Lays both pictures so that the point of the photo that is looked at is in the middle of the stage.
function place() {
  if (!view.width) return;
  const stage = byId("stage");
  const size = scale();
  const offset = (middle, length, room) => {
    const whole = length * size;
    return whole <= room ? (room - whole) / 2 : clamp(room / 2 - middle * whole, room - whole, 0);
  };
  const left = offset(view.x, view.width, stage.clientWidth);
  const top = offset(view.y, view.height, stage.clientHeight);
  for (const image of [byId("before"), byId("after")]) {
    image.style.width = `${view.width}px`;
    image.style.height = `${view.height}px`;
    image.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px) scale(${size})`;
  }
  stage.classList.toggle("is-fit", view.zoom === "fit");
  stage.classList.toggle("is-magnified", Number(view.zoom) > 1);
}

function pan(across, down) {
  const stage = byId("stage");
  const step = (place, by, length, room) => {
    const half = room / 2 / (length * scale());
    return half >= 0.5 ? 0.5 : clamp(clamp(place, half, 1 - half) + by / (length * scale()), half, 1 - half);
  };
  view.x = step(view.x, across, view.width, stage.clientWidth);
  view.y = step(view.y, down, view.height, stage.clientHeight);
  place();
}

function setZoom(zoom) {
  view.zoom = zoom;
  document.querySelector(`#zoom input[value="${zoom}"]`).checked = true;
  place();
}

function stepZoom(step) {
  const zooms = ["fit", "1", "2", "4"];
  setZoom(zooms[clamp(zooms.indexOf(view.zoom) + step, 0, 3)]);
}

function stepResult(step) {
  const at = view.shown.indexOf(view.number);
  const next = view.shown[clamp(at + step, 0, view.shown.length - 1)];
  if (next !== undefined && next !== view.number) openViewer(next);
}

function closeViewer() {
  byId("viewer").hidden = true;
  covered.forEach((node) => { node.inert = false; });
  document.documentElement.style.overflow = "";
  history.replaceState(null, "", "#");
  fillGrid();
  const cell = cells[view.number];
  view.number = -1;
  if (!cell.isConnected) return;
  cell.focus({ preventScroll: true });
  cell.scrollIntoView({ block: "nearest", behavior: "instant" });
}

// Choices

const current = () => view.number >= 0 ? view.number : Number(document.activeElement.dataset?.number ?? -1);

async function choose(choice, options = {}) {
  const number = current();
  if (number < 0) return;
  const answer = await fetch("choice", {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ number, choice, ...options }),
  }).catch(() => null);
  const told = answer && answer.headers.get("Content-Type") === "application/json" ? await answer.json() : null;
  if (!answer?.ok || !told) {
    say(told?.error ?? "deblur view has ended, so nothing was written");
    return;
  }
  Object.assign(results[number], told);
  markCell(number);
  countChoices();
  if (view.number === number) showChoice();
}

function showChoice() {
  const { choice, model, done, by } = results[view.number];
  for (const button of document.querySelectorAll("[data-choice]")) {
    button.setAttribute("aria-pressed", choice !== "" && button.dataset.choice === choice ? "true" : "false");
  }
  const texts = { keep: "Kept.", redo: done ? `Done again with ${model}.` : `To be done again with ${model}.`, reject: "Rejected; the file stays." };
  byId("verdict").textContent = texts[choice] ?? `By ${by}; nothing is decided yet.`;
}

function askRedo() {
  if (current() < 0) return;
  const dialog = byId("redo");
  const [name, strength] = results[current()].model.split(":strength=");
  if (name) byId("redo-model").value = name;
  if (strength) byId("redo-strength").value = strength;
  showStrength();
  const number = current();
  dialog.returnValue = "";
  dialog.showModal();
  byId("redo-model").focus();
  dialog.onclose = () => {
    if (view.number < 0) cells[number].focus();
    if (dialog.returnValue !== "ok") return;
    const model = byId("redo-model").value;
    choose("redo", { model, strength: hasStrength(model) ? Number(byId("redo-strength").value) : null });
  };
}

const hasStrength = (name) => data.models.some((model) => model.name === name && model.strength);

function showStrength() {
  byId("redo-strength-field").hidden = !hasStrength(byId("redo-model").value);
}

function decide(choice) {
  if (choice === "redo") askRedo();
  else choose(choice);
}

function say(text) {
  const toast = byId("toast");
  toast.textContent = text;
  toast.hidden = false;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { toast.hidden = true; }, 6000);
}

// Keys

function readKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("redo").open) return;
  if (event.target.matches("input, select, textarea") && event.key.startsWith("Arrow")) return;
  const isOpen = view.number >= 0;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const verdicts = { k: "keep", r: "redo", x: "reject", u: "" };
  const far = 120;
  const moves = { ArrowLeft: [-far, 0], ArrowRight: [far, 0], ArrowUp: [0, -far], ArrowDown: [0, far] };
  const actions = {
    ArrowRight: () => stepResult(1), ArrowLeft: () => stepResult(-1), ArrowDown: () => stepResult(1), ArrowUp: () => stepResult(-1),
    PageDown: () => stepResult(1), PageUp: () => stepResult(-1), Home: () => stepResult(-Infinity), End: () => stepResult(Infinity),
    " ": toggle, b: toggle, s: () => line.set(50),
    z: () => setZoom(view.zoom === "fit" ? "1" : "fit"), "+": () => stepZoom(1), "=": () => stepZoom(1), "-": () => stepZoom(-1),
    Escape: closeViewer,
  };
  if (key in verdicts) decide(verdicts[key]);
  else if (isOpen && event.shiftKey && key in moves) pan(...moves[key]);
  else if (isOpen && key in actions && !(key === " " && event.target.matches("button"))) actions[key]();
  else if (isOpen || !moveInGrid(event)) return;
  event.preventDefault();
}

function toggle() {
  if (view.facts?.source) line.set(line.percent > 0 ? 0 : 100);
}

function start() {
  startTheme();
  cells.forEach((_, number) => markCell(number));
  countChoices();
  fillGrid();
  fillSelect(byId("redo-model"), data.models.map(({ name }) => [name, name]), data.models[0]?.name);
  byId("redo-model").addEventListener("change", showStrength);
  const stage = byId("stage");
  const onLine = (event) => event.target.closest(".split") !== null;
  line = makeSplit(stage, byId("split"), (left, right) => `${left} % before, ${right} % after`,
    { accepts: (event) => onLine(event) || view.zoom === "fit", focuses: false });
  let from = null;
  onDrag(stage, (event, isStart) => {
    if (!isStart) pan(from.x - event.clientX, from.y - event.clientY);
    from = { x: event.clientX, y: event.clientY };
  }, (event) => !onLine(event) && view.zoom !== "fit");
  byId("zoom").addEventListener("change", (event) => setZoom(event.target.value));
  byId("filter").addEventListener("change", fillGrid);
  [byId("zoom"), byId("filter")].forEach(freeKeys);
  byId("back").addEventListener("click", closeViewer);
  byId("previous").addEventListener("click", () => stepResult(-1));
  byId("next").addEventListener("click", () => stepResult(1));
  for (const button of document.querySelectorAll("[data-choice]")) button.addEventListener("click", () => decide(button.dataset.choice));
  addEventListener("keydown", readKey);
  new ResizeObserver(place).observe(stage);
  const asked = location.hash.slice(1);
  if (/^\d+$/.test(asked) && Number(asked) < results.length) openViewer(Number(asked));
  else if (results.length === 1) openViewer(0);
}

start();
