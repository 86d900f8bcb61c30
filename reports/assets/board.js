// Sorts and filters a board; what is chosen stands in the address, so that a link shows it again.

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.querySelector("tbody.rows");
  const original = [...body.rows];
  const filters = [...document.querySelectorAll("#filters select")];
  const rows = document.querySelectorAll("tr[data-tier]");
  const note = document.getElementById("board-note");
  const chosen = { sort: "", direction: "ascending" };

  const sort = () => {
    const column = heads.findIndex((head) => head.dataset.key === chosen.sort);
    const { sorts } = heads[column]?.dataset ?? {};
    body.append(...(column < 0 ? original : sorted(original, column, sorts, chosen.direction)));
    mark(heads, column, chosen.direction);
    return column < 0 ? "" : `Sorted by ${heads[column].dataset.name}, ${chosen.direction}.`;
  };

  const fits = (row) => filters.every(({ name, value: wanted }) =>
    !wanted || (name === "training" ? JSON.parse(row.dataset.training) : [row.dataset[name]]).includes(wanted));

  const filter = () => {
    for (const row of rows) row.hidden = !fits(row);
    const shown = [...rows].filter((row) => !row.hidden).length;
    return shown === rows.length ? "" : `${shown} of ${rows.length} systems shown; ranks are those of the whole board.`;
  };

  const remember = () => {
    const state = new URLSearchParams();
    if (chosen.sort) state.set("sort", `${chosen.sort}.${chosen.direction}`);
    for (const { name, value: wanted } of filters) if (wanted) state.set(name, wanted);
    history.replaceState(null, "", state.size ? `#${state}` : location.href.split("#")[0]);
  };

  const show = () => { note.textContent = [sort(), filter()].filter(Boolean).join(" "); };

  const recall = () => {
    const state = new URLSearchParams(location.hash.slice(1));
    const asked = /^(\w[\w@.-]*)\.(ascending|descending)$/.exec(state.get("sort") ?? "");
    chosen.sort = asked && heads.some((head) => head.dataset.key === asked[1]) ? asked[1] : "";
    chosen.direction = asked?.[2] ?? "ascending";
    for (const select of filters) {
      select.value = state.get(select.name) ?? "";
      if (select.selectedIndex < 0) select.value = ""; // a link to a choice this board no longer has
    }
    show();
  };

  for (const head of heads) {
    asButton(head).addEventListener("click", () => {
      const again = chosen.sort === head.dataset.key && chosen.direction === "ascending";
      Object.assign(chosen, { sort: head.dataset.key, direction: again ? "descending" : "ascending" });
      show();
      remember();
    });
  }
  for (const select of filters) select.addEventListener("change", () => { show(); remember(); });
  const controls = document.getElementById("filters");
  controls.hidden = false;
  controls.querySelector("button").addEventListener("click", () => {
    for (const select of filters) select.value = "";
    chosen.sort = "";
    show();
    remember();
  });
  addEventListener("hashchange", () => location.hash.includes("=") && recall()); // not for links to a section
  recall();
}
