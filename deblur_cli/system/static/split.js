"use strict";
// The line between two pictures that lie on each other: by pointer and by keyboard, and told to screen readers.

// `describe(left, right)` puts the two shares, in per cent, into words. A press anywhere on the stage that `accepts`
// takes moves the line there, and gives it the keyboard if `focuses`. A stage may be larger than the `frame` it is seen
// through: the names of its sides stay in sight, and `nameSides` is for whoever moves or scales it there.
function makeSplit(stage, handle, describe, { accepts = () => true, focuses = true, frame = stage } = {}) {
  const split = { percent: 50, set, nameSides };

  function set(percent) {
    split.percent = clamp(percent, 0, 100);
    stage.style.setProperty("--split", `${split.percent}%`);
    const shown = Math.round(split.percent);
    handle.setAttribute("aria-valuenow", shown);
    handle.setAttribute("aria-valuetext", describe(shown, 100 - shown));
    nameSides();
  }

  function nameSides() {
    const [whole, seen] = [stage, frame].map((node) => node.getBoundingClientRect());
    const left = Math.max(0, seen.left - whole.left);
    const right = Math.max(0, whole.right - seen.right);
    const width = whole.width || 100; // a stage that is not shown yet has none
    const line = width * split.percent / 100 - left;
    const room = Math.max(width - left - right, 1);
    stage.style.setProperty("--left", `${left}px`);
    stage.style.setProperty("--right", `${right}px`);
    stage.querySelector(".at-left").classList.toggle("is-covered", line < 0.12 * room);
    stage.querySelector(".at-right").classList.toggle("is-covered", line > 0.88 * room);
  }

  handle.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 10 : 1;
    const targets = {
      ArrowLeft: split.percent - step, ArrowDown: split.percent - step,
      ArrowRight: split.percent + step, ArrowUp: split.percent + step,
      PageDown: split.percent - 10, PageUp: split.percent + 10, Home: 0, End: 100,
    };
    if (!(event.key in targets)) return;
    event.preventDefault();
    event.stopPropagation(); // the keys have another meaning on the rest of a page
    set(targets[event.key]);
  });
  onDrag(stage, (event, isStart) => {
    if (isStart && focuses) handle.focus({ preventScroll: true });
    const box = stage.getBoundingClientRect();
    set(100 * (event.clientX - box.left) / box.width);
  }, accepts);
  return split;
}
