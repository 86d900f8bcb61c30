// Finds an image by id or class over all pages. The index comes as classic scripts, asked for on first use:
// over file: neither fetch nor modules may read it.

const PB = { rows: [], load: ({ page, rows }) => PB.rows.push(...rows.map((row) => [...row, page])) };

for (const finder of document.querySelectorAll(".finder")) {
  const [box, told, found] = ["input", "output", ".found"].map((name) => finder.querySelector(name));
  const shard = (at) => new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = `find/${String(at + 1).padStart(3, "0")}.js`;
    [script.onload, script.onerror] = [resolve, reject];
    document.head.append(script);
  });
  let loading = null;
  const load = () => (loading ??= Promise.all(Array.from({ length: Number(finder.dataset.shards) }, (_, at) => shard(at))));

  const entry = ([id, label, value, page]) => {
    const item = document.createElement("li");
    const link = document.createElement("a");
    link.href = `${page}#${encodeURIComponent(id)}`;
    link.textContent = id;
    item.append(link, ` ${[label, value].filter(Boolean).join(", ")}`);
    return item;
  };

  finder.hidden = false;
  box.addEventListener("input", async () => {
    await load();
    const wanted = box.value.trim().toLowerCase();
    const hits = wanted ? PB.rows.filter(([id, label]) => `${id} ${label}`.toLowerCase().includes(wanted)) : [];
    found.replaceChildren(...hits.slice(0, 50).map(entry));
    told.value = wanted ? `${hits.length.toLocaleString("en")} of ${PB.rows.length.toLocaleString("en")}` : "";
  });
}
