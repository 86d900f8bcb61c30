// One trial after another.

let lost = false; // the rater looked away: another window or tab, too small a window, the dialog
const lose = () => { lost = true; };
addEventListener("blur", lose);
document.addEventListener("visibilitychange", lose);
addEventListener("resize", () => { if (!spacious()) lose(); });

const roomy = async () => {
  while (!spacious()) {
    $("width").textContent = innerWidth;
    show("narrow");
    await new Promise((done) => addEventListener("resize", done, { once: true }));
  }
};

const cache = new Map(); // token -> promise of a decoded image, or of null

const picture = (token) => {
  if (!cache.has(token)) cache.set(token, decoded(token));
  return cache.get(token);
};

const decoded = async (token) => {
  for (let wait = 500; wait <= 4000; wait *= 2) {
    const image = new Image(study.size, study.size);
    image.alt = "";
    image.src = `s/${token}.png`;
    try { await image.decode(); return image; } catch { await source.reached(); }
    await sleep(wait); // it may have been asked for too soon after others
  }
  return null;
};

const tokens = (pair) => [pair.left, pair.right, ...(pair.input ? [pair.input] : [])];

const lay = async (pair) => {
  const images = await Promise.all(tokens(pair).map(picture));
  const places = ["left", "right", "input"].map($);
  images.forEach((image, at) => image && places[at].replaceChildren(image));
  return images.every(Boolean);
};

const turn = (ids, shown) => ids.forEach((id) => $(id).classList.toggle("shown", shown));

// Shown in one frame and hidden in another; the time between their timestamps is what was seen.
const expose = async (ids) => {
  const onset = await frame();
  turn(ids, true);
  let now = onset;
  while (now - onset < study.display_ms - HALF_FRAME_MS) now = await frame();
  turn(ids, false);
  return now - onset;
};

const display = async () => {
  const given = study.show_input ? ["input"] : [];
  if (study.layout === "side-by-side") return expose(["left", "right", ...given]);
  const first = await expose(["left", ...given]);
  await sleep(CROSS_MS);
  const second = await expose(["right", ...given]);
  return Math.abs(first - study.display_ms) > Math.abs(second - study.display_ms) ? first : second;
};

const KEYS = { KeyF: "L", KeyJ: "R" }; // by place on the keyboard, whatever its layout
const BUTTONS = { "choose-left": "L", "choose-right": "R" };

const allow = (allowed) => {
  for (const id of Object.keys(BUTTONS)) $(id).setAttribute("aria-disabled", String(!allowed));
};

const chosen = () => new Promise((done) => {
  const opened = performance.now();
  const listening = new AbortController();
  const decide = (choice, device) => {
    listening.abort();
    allow(false);
    done({ choice, device, rt_ms: Math.round(performance.now() - opened) });
  };
  const onKey = (event) => {
    const plain = !event.repeat && !event.ctrlKey && !event.altKey && !event.metaKey;
    if (plain && event.code in KEYS && !$("leaving").open) decide(KEYS[event.code], "keyboard");
  };
  addEventListener("keydown", onKey, { signal: listening.signal });
  for (const [id, choice] of Object.entries(BUTTONS))
    $(id).addEventListener("click", (event) => decide(choice, device(event)), { signal: listening.signal });
  allow(true);
});

const device = (event) => {
  if (event.detail === 0) return "keyboard"; // Enter or Space on a button
  return event.pointerType === "touch" ? "touch" : "pointer";
};

const told = (text, bold = false) => {
  $("hint").textContent = text;
  $("hint").classList.toggle("told", bold);
};

const progress = (pair) => {
  const of = pair.practice ? study.practice : study.test;
  $("part").textContent = `${pair.practice ? "Practice" : "Pair"} ${pair.at} of ${of}`;
  $("bar").value = (pair.at - 1) / of;
};

const seenBefore = (pair) => {
  const before = memory.get("seen") === pair.left; // in this tab or another, or before the window was closed
  memory.set("seen", pair.left);
  return before;
};

const perform = async (pair) => {
  progress(pair);
  told("Look at the cross.");
  show("stage");
  $("cross").classList.add("shown");
  const [ready] = await Promise.all([lay(pair), sleep(CROSS_MS)]);
  $("cross").classList.remove("shown");
  lost = seenBefore(pair) || document.hidden; // a reload would give a second look
  told("");
  const shown_ms = ready ? Math.round(await display()) : null;
  source.ahead().flatMap(tokens).forEach(picture);
  told(ready ? "Your choice: F or J." : "The images could not be loaded. Choose either to go on: this pair does not count.");
  const { choice, device, rt_ms } = await chosen();
  return {
    ...{ trial: pair.trial, left: pair.left, choice: ready ? choice : "", rt_ms: ready ? rt_ms : null, shown_ms },
    ...{ decoded: Number(ready), focus_lost: Number(lost), device },
    ...{ viewport_w: innerWidth, viewport_h: innerHeight, dpr: devicePixelRatio },
  };
};

const feedback = async (camera, choice) => {
  for (const [side, id] of [["L", "left"], ["R", "right"]]) {
    const tag = document.createElement("span");
    tag.className = "tag";
    tag.textContent = side === camera ? "camera" : "made by a computer";
    $(id).append(tag);
    $(id).classList.add("told");
  }
  $("input")?.classList.add("told");
  const name = study.names[camera === "L" ? 0 : 1];
  told(`${choice === camera ? "Right" : "Not this time"}: the ${name} is from a camera.`, true);
  $("next").hidden = false;
  $("next").focus();
  await pressed("next");
  $("next").hidden = true;
};

const trial = async (pair) => {
  await roomy();
  const answer = await perform(pair);
  if (ended) return never;
  const reply = await source.vote(answer);
  if (reply.feedback && answer.choice) await feedback(reply.feedback, answer.choice);
  for (const id of ["left", "right", "input"]) {
    $(id)?.replaceChildren();
    $(id)?.classList.remove("told");
  }
  tokens(pair).forEach((token) => cache.delete(token));
  return reply.next;
};

const intermission = async (pair) => {
  if (pair.done || pair.practice) return;
  const done = pair.at - 1;
  if (done === 0 && study.practice)
    await pause("Practice is over", `Now ${study.test} pairs count, and you are not told which image was which. There is a break after every ${BREAK_EVERY}.`, "Start");
  else if (done > 0 && done % BREAK_EVERY === 0)
    await pause("Take a breath", `${done} of ${study.test} pairs are done. Look out of the window for a moment, and go on when you like.`);
};

// The session, from top to bottom.

$("leave").addEventListener("click", () => { lose(); $("leaving").showModal(); });
$("leaving").addEventListener("close", async () => {
  if ($("leaving").returnValue !== "leave") return;
  await source.withdraw();
  end("You have left the study", "All your answers are deleted. Thank you for the time you gave. If a platform sent you, please return the task there.");
});
$("copy").addEventListener("click", async () => {
  getSelection().selectAllChildren($("code")); // for readers without clipboard rights
  try { await navigator.clipboard.writeText($("code").textContent); $("copy").textContent = "Copied"; } catch { $("copy").textContent = "Selected"; }
});

const begin = async () => {
  await agreed();
  await checkWindow();
  await checkColours();
  return source.join();
};

const session = async () => {
  const earlier = await source.resume();
  let next = earlier ?? await begin();
  $("leave").hidden = false;
  if (next.trial === 0) await instructed();
  else if (!next.done) await pause("Welcome back", "Every answer you gave is kept. The study goes on where it stopped.");
  while (!next.done) {
    await intermission(next);
    next = await trial(next);
  }
  await source.finish();
  show("done");
};

session();
