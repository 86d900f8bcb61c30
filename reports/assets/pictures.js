// Opens cards in the viewer, and shows the reader's own copies. Without this script every image is on the page.

const pictures = {
  kinds: ["input", "output", "original"],
  panel: (card, kind) => card.querySelector(`figure[data-kind="${kind}"] img`),
};

// the viewer: one dialog, filled from the card it shows
{
  const viewer = document.getElementById("viewer");
  const find = (selector) => viewer.querySelector(selector);
  const [stage, frame, svg, cut, said] = [".stage", ".frame", ".outline", ".cut", ".said"].map(find);
  const under = new Image(), over = new Image();
  over.className = "over";
  const range = cut.querySelector("input");
  const zooms = [1, 2, 4, 8];
  const state = { card: null, opener: null, kind: "output", mode: "one", zoom: 0, hole: false };

  frame.prepend(under, over);
  const thumbs = pictures.kinds.map((kind) => {
    const thumb = new Image();
    find(`.strip [data-kind="${kind}"]`).prepend(thumb);
    return [kind, thumb];
  });

  const cards = () => [...document.querySelectorAll(".picture")].filter((card) => card.querySelector("figure"));
  const press = (key, on) => find(`[data-key="${key}"]`).setAttribute("aria-pressed", on);
  const put = (image, kind) => {
    const from = pictures.panel(state.card, kind);
    image.hidden = !from;
    if (from) [image.src, image.alt] = [from.currentSrc || from.src, from.alt];
  };

  const resize = () => {
    const side = under.naturalWidth || under.width;
    frame.classList.toggle("fit", !state.zoom);
    frame.style.width = state.zoom ? `${side * state.zoom}px` : "";
    find(".zoom output").value = state.zoom ? `${state.zoom} ×` : "fit";
  };

  const draw = () => {
    const comparing = state.mode !== "one";
    put(under, comparing ? "original" : state.kind);
    put(over, "output");
    over.hidden ||= !comparing;
    for (const [kind, thumb] of thumbs) {
      put(thumb, kind);
      thumb.alt = "";
      thumb.parentElement.disabled = !pictures.panel(state.card, kind);
      thumb.parentElement.setAttribute("aria-pressed", !comparing && kind === state.kind);
    }
    frame.className = `frame ${state.mode}`;
    cut.hidden = state.mode !== "slider";
    const outline = state.card.dataset.outline;
    find('[data-key="m"]').disabled = !outline;
    svg.toggleAttribute("hidden", !(state.hole && outline));
    if (outline) {
      svg.firstElementChild.setAttribute("d", outline);
      svg.setAttribute("viewBox", `0 0 ${state.card.dataset.side} ${state.card.dataset.side}`);
    }
    press("s", state.mode === "slider");
    press("d", state.mode === "difference");
    press("m", state.hole);
    resize();
  };

  const say = (text) => { said.textContent = text; };

  const open = (card) => {
    const all = cards();
    state.card = card;
    find("#viewer-id").textContent = card.dataset.id;
    find(".of").textContent = card.dataset.about;
    find(".at").textContent = `${all.indexOf(card) + 1} of ${all.length}`;
    if (!pictures.panel(card, state.kind)) state.kind = pictures.kinds.find((kind) => pictures.panel(card, kind));
    draw();
    under.decode().then(resize, () => {});
    if (viewer.open) return;
    state.opener = card.querySelector(".id");
    viewer.showModal();
    stage.focus();
  };

  const show = (kind) => {
    if (!pictures.panel(state.card, kind)) return;
    [state.kind, state.mode] = [kind, "one"];
    draw();
    say(under.alt);
  };

  const compare = (mode, words) => {
    if (!pictures.panel(state.card, "output") || !pictures.panel(state.card, "original")) return;
    state.mode = state.mode === mode ? "one" : mode;
    draw();
    say(state.mode === "one" ? under.alt : words);
    if (state.mode === "slider") range.focus();
  };

  const walk = (step) => {
    const all = cards();
    const next = all[all.indexOf(state.card) + step];
    if (next) open(next);
    say(next ? under.alt : "No more images");
  };

  const zoom = (step) => {
    const now = frame.clientWidth / (under.naturalWidth || 1);
    const wanted = step > 0 ? zooms.find((z) => z > now + 0.01) : zooms.findLast((z) => z < now - 0.01);
    state.zoom = step ? wanted ?? (step > 0 ? 8 : 1) : 0;
    resize();
    say(state.zoom ? `${state.zoom} times` : "Fits the window");
  };

  const keys = () => {
    const list = document.getElementById("viewer-keys");
    list.hidden = !list.hidden;
    find('[data-key="?"]').setAttribute("aria-expanded", !list.hidden);
  };

  const actions = {
    1: () => show("input"),
    2: () => show("output"),
    3: () => show("original"),
    s: () => compare("slider", "Slider: output left, original right"),
    d: () => compare("difference", "Difference of output and original, four times"),
    m: () => {
      if (!state.card.dataset.outline) return say("This task has no hole");
      state.hole = !state.hole;
      draw();
      say(state.hole ? "Outline of the hole" : "No outline");
    },
    arrowleft: () => walk(-1),
    arrowright: () => walk(1),
    "+": () => zoom(1),
    "=": () => zoom(1),
    "-": () => zoom(-1),
    0: () => zoom(0),
    "?": keys,
    escape: () => viewer.close(),
  };

  viewer.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.key === "Escape") return; // the dialog's own
    if (event.target === range && /^(Arrow|Home|End|Page)/.test(event.key)) return;
    if (event.shiftKey && event.key.startsWith("Arrow")) {
      const way = { ArrowLeft: [-64, 0], ArrowRight: [64, 0], ArrowUp: [0, -64], ArrowDown: [0, 64] };
      stage.scrollBy(...way[event.key]);
    } else {
      const action = actions[event.key.toLowerCase()];
      if (!action) return;
      action();
    }
    event.preventDefault();
  });
  viewer.addEventListener("click", (event) => {
    const button = event.target.closest("[data-key]");
    if (button) actions[button.dataset.key.toLowerCase()]();
    else if (event.target === viewer) viewer.close(); // the backdrop
  });
  viewer.addEventListener("close", () => state.opener.focus());
  range.addEventListener("input", () => frame.style.setProperty("--cut", `${range.value}%`));

  // a card's id becomes the button that opens it; a click on an image does the same
  pictures.enable = (card) => {
    const id = card.querySelector(".id");
    if (!card.querySelector("figure") || id.localName === "button") return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "id";
    button.textContent = id.textContent;
    button.setAttribute("aria-haspopup", "dialog");
    id.replaceWith(button);
    card.addEventListener("click", (event) => {
      if (event.target === button || event.target.closest("figure > img")) open(card);
    });
  };
  document.querySelectorAll(".picture").forEach(pictures.enable);
}

// the reader's own copies: matched by file name, shown as blob: addresses, never sent anywhere
{
  const folders = { input: "input", inputs: "input", outputs: "output", output: "output" };
  const first = (names) => names.sort().slice(0, 8).join(", ") + (names.length > 8 ? ` and ${names.length - 8} more` : "");

  const figure = (card, kind, file) => {
    const image = new Image();
    image.src = URL.createObjectURL(file);
    image.loading = "lazy";
    image.alt = kind === "output" ? card.dataset.output : `${kind === "input" ? "Input" : "Original"} ${card.dataset.id}`;
    const caption = document.createElement("figcaption");
    caption.textContent = kind;
    const made = document.createElement("figure");
    made.dataset.kind = kind;
    made.append(image, caption);
    return made;
  };

  const place = (card, kind, file) => {
    let panels = card.querySelector(".panels");
    if (!panels) {
      panels = document.createElement("div");
      panels.className = "panels";
      card.prepend(panels);
      card.parentElement.classList.remove("bare");
    }
    panels.querySelector(`[data-kind="${kind}"]`)?.remove();
    const rank = pictures.kinds.indexOf(kind);
    const after = [...panels.children].find((other) => pictures.kinds.indexOf(other.dataset.kind) > rank);
    panels.insertBefore(figure(card, kind, file), after ?? null);
    pictures.enable(card);
  };

  const show = (files, told) => {
    const cards = Map.groupBy(document.querySelectorAll(".picture"), (card) => card.dataset.id);
    const strangers = [];
    for (const file of files.filter(({ name }) => /\.(png|jpe?g|webp)$/i.test(name))) {
      const folder = file.webkitRelativePath.split("/").at(-2) ?? "";
      if (folder === "mask") continue; // a hole is no image
      const own = cards.get(file.name.replace(/\.[^.]+$/, ""));
      if (own) own.forEach((card) => place(card, folders[folder] ?? "original", file));
      else strangers.push(file.name);
    }
    const without = [...cards].filter(([, [card]]) => !card.querySelector("figure")).map(([id]) => id);
    const parts = [`Images for ${cards.size - without.length} of ${cards.size} ids are shown.`];
    if (without.length) parts.push(`Without an image: ${first(without)}.`);
    if (strangers.length) parts.push(`${strangers.length} files belong to no id of this page: ${first(strangers)}.`);
    told.textContent = parts.join(" ");
  };

  for (const picker of document.querySelectorAll(".picker")) {
    picker.hidden = false;
    picker.querySelector("input").addEventListener("change", (event) => {
      show([...event.target.files], picker.querySelector(".picked"));
    });
  }
}
