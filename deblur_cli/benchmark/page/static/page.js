"use strict";
// Binds the page's controls and starts its parts.

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
