"use strict";
// Runs in the head, before anything is painted: a stored choice of colours must not flash.
const themeKey = "deblur-report-theme";

function storedTheme() {
  try {
    return localStorage.getItem(themeKey) || "auto";
  } catch {
    return "auto"; // a page from a file may have no storage
  }
}

function applyTheme(theme) {
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

function storeTheme(theme) {
  applyTheme(theme);
  try {
    localStorage.setItem(themeKey, theme);
  } catch {
    // the choice lasts as long as the page then
  }
}

applyTheme(storedTheme());
