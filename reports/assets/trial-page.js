// A rater's session, first of four parts joined into one script, for a served study and for static exports:
// page (what is on screen), sources (where pairs come from and answers go), checks, session (the trials).
"use strict";

const study = JSON.parse(document.getElementById("study").textContent);
const $ = (id) => document.getElementById(id);
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const frame = () => new Promise(requestAnimationFrame);
const pressed = (id) => new Promise((done) => $(id).addEventListener("click", done, { once: true }));
const asked = new URLSearchParams(location.search);
const never = new Promise(() => {});

const CROSS_MS = 600; // at least; longer while images load
const HALF_FRAME_MS = 8; // hide on the frame nearest to the planned time
const BREAK_EVERY = 40; // test trials

let ended = false; // nothing follows: withdrawn, refused or finished

const show = (id) => {
  if (ended) return;
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== id;
  if (id !== "stage") ($(id).querySelector("[data-focus]") ?? $(id).querySelector("h1")).focus();
  scrollTo(0, 0);
};

const end = (title, text, leaves = false) => {
  $("over-title").textContent = title;
  $("over-text").textContent = text;
  $("leave").hidden = !leaves; // where answers are kept, they can still be taken back
  show("over");
  ended = true;
  return never;
};

const pause = async (title, text, button = "Continue") => {
  $("pause-title").textContent = title;
  $("pause-text").textContent = text;
  $("go-on").textContent = button;
  show("pause");
  await pressed("go-on");
};

const trouble = (text) => {
  $("trouble").textContent = text;
  $("trouble").hidden = !text;
};

// Browsers may refuse storage to files and in private windows; then a reload begins anew. Two stores, because
// one may be refused or emptied alone. One task of a platform keeps its answers apart from the next one done in
// the same browser.
const place = (key) => `${study.id} ${study.page} ${asked.get("assignmentId") ?? ""} ${key}`;
const inStores = (use) => ["localStorage", "sessionStorage"].map((store) => {
  try { return use(window[store]); } catch { return null; }
});
const memory = {
  get: (key) => { const [lasting, ofTab] = inStores((store) => store.getItem(place(key))); return lasting ?? ofTab; },
  set: (key, value) => inStores((store) => store.setItem(place(key), value)),
  clear: () => inStores((store) => store.removeItem(place("state"))),
};
