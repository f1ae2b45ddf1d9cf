"use strict";
// Small words for the document. Text goes in as text, never as HTML.

const byId = (id) => document.getElementById(id);

function make(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children.filter((child) => child !== null));
  return node;
}

function fillSelect(select, entries, chosen) {
  select.replaceChildren(...entries.map(([value, label]) => make("option", { value }, label)));
  if (entries.some(([value]) => value === chosen)) select.value = chosen;
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), Math.max(low, high));

function readJson(id) {
  return JSON.parse(byId(id).textContent);
}

// A file name that may break after its joints, without characters that a copy would carry along.
function breakable(name) {
  return name.split(/(?<=[_/.-])/).flatMap((part) => [part, make("wbr")]);
}

// Calls `move(event, isStart)` from a press until its release, also when the pointer leaves the element.
function onDrag(node, move, accepts = () => true) {
  let isDragged = false; // by this one: an element may be dragged in several ways
  node.addEventListener("pointerdown", (event) => {
    isDragged = event.button === 0 && accepts(event);
    if (!isDragged) return;
    node.setPointerCapture(event.pointerId);
    move(event, true);
  });
  node.addEventListener("pointermove", (event) => {
    if (isDragged && node.hasPointerCapture(event.pointerId)) move(event, false);
  });
}

// Whoever presses a switch with a pointer goes on with the page's own keys: else arrows would turn the switch.
function freeKeys(fieldset) {
  fieldset.addEventListener("click", (event) => { if (event.detail > 0) document.activeElement.blur(); });
}

// Binds the switch of colours; what is stored was applied before anything was painted (theme.js).
function startTheme() {
  const chosen = document.querySelector(`#theme input[value="${CSS.escape(storedTheme())}"]`);
  if (chosen) chosen.checked = true;
  byId("theme").addEventListener("change", (event) => storeTheme(event.target.value));
  freeKeys(byId("theme"));
}
