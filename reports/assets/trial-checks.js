// Before the first pair: consent, window, colours, instructions.

const agreed = async () => {
  show("consent");
  $("decline").onclick = () => end("No trouble at all", "Nothing was stored. You may close this page.");
  await pressed("agree");
};

const spacious = () => innerWidth >= study.least_width;

const checkWindow = async () => {
  const look = () => {
    const fine = spacious();
    $("room").className = fine ? "fine" : "";
    $("room").textContent = fine ? "The window is wide enough." : `Please make the window wider: it has ${innerWidth} of ${study.least_width} pixels. Turn a phone on its side, or come back on a computer.`;
    $("ready").disabled = !fine;
  };
  look();
  addEventListener("resize", look);
  show("window");
  await pressed("ready");
  removeEventListener("resize", look);
};

// Three discs whose number and ground differ on the red-green axis of Oklab alone: equal in lightness, but
// for a common jitter, and on the blue-yellow axis. Two right answers are enough; nothing is stored.
// Four digits that no eye takes for one another, even in dots.
const DIGITS = { 2: "111001111100111", 4: "101101111001001", 5: "111100111001111", 7: "111001001001001" };
const CELL = 19;

const inNumber = (number, x, y) => [...number].some((digit, place) => {
  const column = Math.floor((x + 3 * CELL + 9 - place * (3 * CELL + 18)) / CELL);
  const row = Math.floor((y + 2.5 * CELL) / CELL);
  return column >= 0 && column < 3 && row >= 0 && row < 5 && DIGITS[digit][3 * row + column] === "1";
});

const dots = () => {
  const placed = [];
  for (let tries = 0; tries < 12000; tries++) {
    const [x, y, r] = [200 * Math.random() - 100, 200 * Math.random() - 100, (tries < 700 ? 3.4 : 1.7) + 1.6 * Math.random()];
    const free = placed.every((dot) => Math.hypot(dot.x - x, dot.y - y) > dot.r + r + 0.6);
    if (Math.hypot(x, y) < 98 - r && free) placed.push({ x, y, r });
  }
  return placed;
};

const drawPlate = (number) => {
  const circles = dots().map(({ x, y, r }) => {
    const circle = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    const redness = inNumber(number, x, y) ? 0.09 : -0.06;
    const fill = `oklab(${0.58 + 0.2 * Math.random()} ${redness} 0.09)`;
    for (const [name, value] of Object.entries({ cx: x, cy: y, r, fill })) circle.setAttribute(name, value);
    return circle;
  });
  $("plate").replaceChildren(...circles);
};

const checkColours = async () => {
  if (!study.colour) return;
  let right = 0;
  for (const turn of [1, 2, 3]) {
    const number = [0, 0].map(() => Object.keys(DIGITS)[Math.floor(4 * Math.random())]).join("");
    drawPlate(number);
    $("plate-count").textContent = `Disc ${turn} of 3.`;
    $("plate-answer").value = "";
    show("colours");
    $("plate-answer").focus();
    await new Promise((done) => $("plate-form").onsubmit = (event) => { event.preventDefault(); done(); });
    right += $("plate-answer").value.trim() === number;
  }
  if (right < 2) await end("Thank you for trying", "This study needs eyes that tell reds from greens, and about one man in twelve and one woman in two hundred has others. Nothing was stored. If a platform sent you, please return the task there.");
};

const instructed = async () => {
  show("instructions");
  await pressed("start");
};
