"use strict";

// A table sorts by the column whose heading is pressed, the other way when pressed again; rows without a value stay last.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  headings.forEach((heading, column) => {
    const numeric = heading.dataset.kind === "number";
    const value = (row) => {
      const cell = row.cells[column];
      return numeric ? parseFloat(cell.dataset.value) : cell.textContent.trim();
    };
    const compare = (a, b) =>
      numeric ? a - b : a.localeCompare(b, undefined, { numeric: true, sensitivity: "base" });
    heading.querySelector("button").addEventListener("click", () => {
      const descending = heading.getAttribute("aria-sort") === "ascending";
      const rows = [...body.rows].map((row) => ({ row, value: value(row) }));
      rows.sort((a, b) => {
        const missing = Number.isNaN(a.value) - Number.isNaN(b.value);
        return missing || (Number.isNaN(a.value) ? 0 : compare(a.value, b.value) * (descending ? -1 : 1));
      });
      body.append(...rows.map(({ row }) => row));
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
    });
  });
}

// The search shows the rows that hold every word.
const filter = document.getElementById("filter");
if (filter) {
  const rows = [...document.getElementById("figures").tBodies[0].rows];
  filter.hidden = false;
  filter.querySelector("input").addEventListener("input", ({ target }) => {
    const words = target.value.toLowerCase().split(/\s+/);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
    const shown = rows.filter((row) => !row.hidden).length;
    filter.querySelector("output").textContent = target.value.trim() ? `${shown} of ${rows.length}` : "";
  });
}

// Pointing at a run in a chart, or tapping it, reads it out below.
document.addEventListener("pointerover", ({ target }) => {
  const strip = target.closest?.(".strip");
  if (!strip) return;
  const panel = strip.closest(".panel");
  panel.querySelector(".readout").textContent = strip.textContent;
  panel.querySelector(".strip.read")?.classList.remove("read");
  strip.classList.add("read");
});

// The theme: the system's, or the one chosen, remembered where the browser lets a page do so.
const theme = document.getElementById("theme");
const select = theme.querySelector("select");
const choose = () => {
  document.documentElement.style.colorScheme = select.value;
};
try {
  select.value = localStorage.getItem("deltamoe-theme") ?? "";
  choose();
} catch {}
select.addEventListener("change", () => {
  choose();
  try {
    localStorage.setItem("deltamoe-theme", select.value);
  } catch {}
});
theme.hidden = false;
