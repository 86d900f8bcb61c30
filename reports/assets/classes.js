// Narrows a table to the rows whose first cell holds what is typed, and sorts it by the columns that say how.
// Without this script all rows are shown.

for (const box of document.querySelectorAll("input[data-filters]")) {
  const rows = [...document.getElementById(box.dataset.filters).rows];
  const told = box.closest(".search").querySelector("output");
  box.closest(".search").hidden = false;
  box.addEventListener("input", () => {
    const wanted = box.value.trim().toLowerCase();
    for (const row of rows) row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
    told.value = wanted ? `${rows.filter((row) => !row.hidden).length} of ${rows.length}` : "";
  });
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const [body] = table.tBodies;
  heads.forEach((head, column) => {
    if (!head.dataset.sorts) return;
    const name = head.textContent.trim();
    asButton(head).addEventListener("click", () => {
      const direction = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      body.append(...sorted([...body.rows], column, head.dataset.sorts, direction));
      mark(heads, column, direction);
      document.getElementById("sort-note").textContent = `Sorted by ${name}, ${direction}.`;
    });
  });
}
