// Copies a block, and sorts a board by a column. Everything is readable without this script.
"use strict";

for (const button of document.querySelectorAll("button[data-copies]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const block = document.getElementById(button.dataset.copies);
    getSelection().selectAllChildren(block); // what a reader without clipboard rights can copy by key
    try {
      await navigator.clipboard.writeText(block.textContent);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Selected";
    }
  });
}

const value = (row, column, kind) => {
  const cell = row.cells[column];
  if (kind === "text") return cell.textContent.trim().toLowerCase();
  return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
};

// A missing value stands last in both directions; equal values keep the order of the page.
const compare = (a, b, sign) => {
  if (a === null || b === null) return (a === null) - (b === null);
  return sign * (typeof a === "string" ? a.localeCompare(b, "en") : a - b);
};

const sortBy = (table, column, direction) => {
  const heads = [...table.tHead.rows[0].cells];
  const kind = heads[column].dataset.sorts;
  const sign = direction === "descending" ? -1 : 1;
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => compare(value(a, column, kind), value(b, column, kind), sign));
  table.tBodies[0].append(...rows);
  heads.forEach((head, at) => head.setAttribute("aria-sort", at === column ? direction : "none"));
  const name = heads[column].querySelector("button").firstChild.textContent.trim();
  document.getElementById("sort-note").textContent = `Sorted by ${name}, ${direction}`;
};

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const direction = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      sortBy(table, column, direction);
      history.replaceState(null, "", `#sort=${column},${direction}`);
    });
  });
  const asked = /^#sort=(\d+),(ascending|descending)$/.exec(location.hash);
  if (asked && Number(asked[1]) < table.tHead.rows[0].cells.length) sortBy(table, Number(asked[1]), asked[2]);
}
