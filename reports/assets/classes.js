// Narrows a table to the rows whose first cell holds what is typed. Without this script all rows are shown.

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
