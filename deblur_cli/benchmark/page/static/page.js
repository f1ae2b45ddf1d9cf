"use strict";
// Binds the page's controls and starts its parts.

function startTheme() {
  const chosen = document.querySelector(`#theme input[value="${CSS.escape(storedTheme())}"]`);
  if (chosen) chosen.checked = true;
  byId("theme").addEventListener("change", (event) => storeTheme(event.target.value));
}

function startPlots() {
  byId("plot-dataset").addEventListener("change", (event) => {
    for (const figure of document.querySelectorAll("figure.plot")) {
      figure.hidden = figure.dataset.dataset !== event.target.value;
    }
  });
  byId("plot-dataset").closest("label").hidden = byId("plot-dataset").options.length < 2;
}

startTheme();
startPlots();
startCompare();
startTable();
startExtremes();
