// Where pairs come from and answers go: a server.

const call = async (path, body) => {
  const options = body && { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  for (let wait = 500; ; wait = Math.min(2 * wait, 8000)) {
    try {
      const reply = await fetch(path, options);
      if (reply.status !== 429 && reply.status < 500) {
        const data = await reply.json();
        trouble("");
        return { status: reply.status, data };
      }
    } catch { /* no connection: told below, and tried again */ }
    trouble("The connection is interrupted. Your answers so far are safe; trying again …");
    await sleep(wait);
  }
};

const served = {
  async resume() {
    const { status, data } = await call("trial");
    if (status === 410) return end("Your place was given on", data.message, true);
    return status === 200 ? data : null;
  },
  async join() {
    const { status, data } = await call("consent", {
      join: asked.get("join") ?? "",
      participant: asked.get("PROLIFIC_PID") ?? "",
    });
    if (status !== 200) return end("This session cannot begin", data.message);
    history.replaceState(null, "", location.pathname);
    return data;
  },
  async vote(answer) {
    const { status, data } = await call("vote", answer);
    if (status === 200) return data;
    const next = await this.resume(); // an earlier answer arrived and its reply was lost, or another tab went on
    return next ? { next } : end("This session has ended", "It was ended in another tab or by the people who run the study.");
  },
  withdraw: () => call("withdraw", {}),
  reached: () => call("trial"), // returns when the server answers, however long that takes
  ahead: () => [], // a server sends a pair only after the vote before it is stored
  async finish() {
    const { data } = await call("done");
    $("code").textContent = data.code;
    $("code-box").hidden = false;
  },
};

// Where pairs come from and answers go: the page itself.

const COLUMNS = [
  "study_id", "participant", "session", "trial", "left", "choice", "rt_ms", "shown_ms", "decoded",
  "focus_lost", "viewport_w", "viewport_h", "dpr", "device", "day",
];

const random = () => [...crypto.getRandomValues(new Uint8Array(8))].map((b) => b.toString(16).padStart(2, "0")).join("");

const stored = {
  state: null,
  begin() {
    return { participant: random(), session: asked.get("assignmentId") ?? random(), answers: [] };
  },
  tab: random(),
  take() {
    memory.set("tab", this.tab); // the tab that began last is the one that goes on
  },
  keep() {
    memory.set("state", JSON.stringify(this.state));
  },
  async mine() {
    const last = memory.get("tab");
    if (last === null || last === this.tab) return;
    await end("Open in another tab", "You began again in another tab or window: go on there. Your answers so far are in it.");
  },
  next() {
    const at = this.state.answers.length;
    if (at === study.trials.length) return { done: true };
    const { camera, ...pair } = study.trials[at];
    return { ...pair, at: pair.practice ? at + 1 : at - study.practice + 1 };
  },
  async resume() {
    if (asked.get("assignmentId") === "ASSIGNMENT_ID_NOT_AVAILABLE") return end("Preview", "Accept the task to begin.");
    const text = memory.get("state");
    this.state = text ? JSON.parse(text) : null;
    this.take();
    return this.state && this.next();
  },
  async join() {
    await this.mine();
    this.state = this.begin();
    this.keep();
    return this.next();
  },
  async vote(answer) {
    await this.mine();
    const { camera, left } = study.trials[this.state.answers.length];
    this.state.answers.push({ ...answer, day: new Date().toISOString().slice(0, 10) });
    this.keep();
    return { next: this.next(), feedback: camera && (camera === left ? "L" : "R") };
  },
  async withdraw() {
    memory.clear();
  },
  reached: () => sleep(1000),
  ahead() {
    const pair = study.trials[this.state.answers.length + 1];
    return pair ? [pair] : [];
  },
  table() {
    const { participant, session, answers } = this.state;
    const rows = answers.map((answer) => ({ ...answer, study_id: study.id, participant, session }));
    const lines = rows.map((row) => COLUMNS.map((column) => row[column] ?? "").join(","));
    return [COLUMNS.join(","), ...lines, ""].join("\n");
  },
  async finish() {
    if (study.mode === "amt") return this.submit();
    $("done-text").textContent = "That was the last pair. Save the file with your answers and send it to the people who asked you.";
    $("file").href = URL.createObjectURL(new Blob([this.table()], { type: "text/csv" }));
    $("file").download = `answers-${study.page}-${this.state.session}.csv`;
    $("file-box").hidden = false;
  },
  submit() {
    const form = $("platform-form");
    const platform = study.platforms.find((origin) => origin === asked.get("turkSubmitTo")) ?? study.platforms[0];
    $("done-text").textContent = "That was the last pair. Send the answers to finish the task.";
    form.action = `${platform}/mturk/externalSubmit`;
    form.elements.assignmentId.value = asked.get("assignmentId") ?? "";
    form.elements.answers.value = this.table();
    form.hidden = false;
  },
};

const source = study.mode === "serve" ? served : stored;
