// Figures on the page: drawn when they come into view, read by mouse, finger and keys, saved as PNG and SVG.

const DRAWING = { responsive: true, displayModeBar: false, doubleClick: "reset", showTips: false };
const PAGE_COLOURS = ["ink", "soft", "faint", "line", "page", "raised"];

function pageColours() {
  const style = getComputedStyle(document.documentElement);
  const found = Object.fromEntries(PAGE_COLOURS.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  return { ...found, isDark: style.getPropertyValue("--mode").trim() === "dark" };
}

class Chart {
  constructor(figure, board) {
    this.figure = figure;
    this.board = board;
    this.plot = figure.querySelector(".plot");
    this.reading = figure.querySelector(".reading");
    this.isNear = false;
    this.isStale = true;
    this.cursor = null;
    this.addTools();
    this.plot.addEventListener("keydown", (event) => this.key(event));
    this.plot.addEventListener("blur", () => this.leave());
  }

  addTools() {
    const tools = this.figure.querySelector(".tools");
    const label = this.plot.getAttribute("aria-label");
    const add = (text, about, action) => {
      const button = html("button", { type: "button", "aria-label": `${label}: ${about}` }, text);
      button.addEventListener("click", action);
      tools.append(button);
    };
    add("PNG", "save as PNG", () => this.save("png"));
    add("SVG", "save as SVG", () => this.save("svg"));
    add("reset", "show the whole figure again", () => this.draw());
  }

  save(format) {
    const { width, height } = this.plot.getBoundingClientRect();
    const { kind, workload } = this.figure.dataset;
    const filename = [this.board.name, kind, workload].filter(Boolean).join(" ").replace(/[^\w.-]+/g, "_");
    const title = { text: plain(workload ?? this.board.name), font: { size: 14 }, x: 0.02 };
    const { data, layout } = this.made;
    const titled = { ...layout, title, height: undefined, margin: { ...layout.margin, t: layout.margin.t + 32 } };
    const size = { width: Math.round(width), height: Math.round(height) + 32, scale: format === "png" ? 2 : 1 };
    return Plotly.downloadImage({ data, layout: titled }, { format, filename, ...size });
  }

  draw() {
    if (typeof Plotly === "undefined") return; // it is on its way, and then everything is drawn
    const made = FIGURES[this.figure.dataset.kind](this.board, pageColours(), this.figure.dataset.workload);
    this.made = made;
    this.isStale = false;
    this.cursor = null;
    this.reading.textContent = "";
    this.figure.classList.toggle("empty", !made.data.length);
    Plotly.react(this.plot, made.data, made.layout, DRAWING).then(() => { this.plot.dataset.drawn = String(made.data.length); });
  }

  refresh() {
    this.isStale = true;
    delete this.plot.dataset.drawn;
    if (this.isNear) this.draw();
  }

  emphasise(name) {
    if (!this.isNear || this.isStale || !this.made.data.some((one) => one.meta)) return;
    const faded = this.made.data.map((one) => (name === null || one.meta === undefined || one.meta === name ? 1 : 0.12));
    Plotly.restyle(this.plot, { opacity: faded });
  }

  // Arrow keys go along a line and from line to line; what is there is shown, and said.
  key(event) {
    if (event.key === "Escape") this.leave();
    const moves = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    const move = moves[event.key];
    if (!move || this.isStale || !this.made.data.length) return;
    event.preventDefault();
    const isLine = (one) => one.hoverinfo !== "skip" && one.x.length;
    const lines = this.made.data.flatMap((one, index) => (isLine(one) ? [index] : []));
    if (!lines.length) return;
    const old = this.cursor ?? { line: 0, point: move[0] ? 0 : -1 };
    const line = (old.line + move[0] + lines.length) % lines.length;
    const trace = this.made.data[lines[line]];
    const isGap = (point) => trace.x[point] === null || trace.y[point] === null;
    let point = Math.min(trace.x.length - 1, Math.max(0, old.point + move[1] * (event.shiftKey ? 10 : 1)));
    while (isGap(point) && point + (move[1] || 1) in trace.x) point += move[1] || 1;
    while (isGap(point) && point > 0) point -= 1;
    this.cursor = { line, point };
    Plotly.Fx.hover(this.plot, [{ curveNumber: lines[line], pointNumber: point }]);
    this.reading.textContent = this.made.read(lines[line], point);
  }

  leave() {
    if (!this.cursor) return;
    this.cursor = null;
    this.reading.textContent = "";
    Plotly.Fx.unhover(this.plot);
  }
}

function setUpCharts(boards) {
  const charts = [...document.querySelectorAll("figure.chart")].map((one) => new Chart(one, boards[one.dataset.board]));
  const byFigure = new Map(charts.map((one) => [one.figure, one]));
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const chart = byFigure.get(entry.target);
      chart.isNear = entry.isIntersecting;
      // One per frame: the page stays alive while many come into view at once.
      if (chart.isNear && chart.isStale) requestAnimationFrame(() => { if (chart.isStale) chart.draw(); });
    }
  }, { rootMargin: "300px" });
  charts.forEach((one) => observer.observe(one.figure));
  const refresh = (kinds) => charts.filter((one) => !kinds || kinds.includes(one.figure.dataset.kind)).forEach((one) => one.refresh());
  view.whenChanged((name) => {
    if ([null, "theme", "hide"].includes(name)) refresh(null);
    if (["x", "range", "scale"].includes(name)) refresh(["curves"]);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => refresh(null));
  addEventListener("beforeprint", () => charts.filter((one) => one.isStale).forEach((one) => one.draw()));
  return charts;
}

// The legend: one for all figures of a board, whose entries show and hide.
function setUpKeys(charts) {
  const buttons = [...document.querySelectorAll(".key button[data-submission]")];
  for (const button of buttons) {
    const name = button.dataset.submission;
    button.addEventListener("click", () => {
      const hidden = view.list("hide");
      view.setList("hide", isShown(name) ? [...hidden, name] : hidden.filter((one) => one !== name));
    });
    for (const event of ["mouseenter", "focus"]) button.addEventListener(event, () => charts.forEach((one) => one.emphasise(name)));
    for (const event of ["mouseleave", "blur"]) button.addEventListener(event, () => charts.forEach((one) => one.emphasise(null)));
  }
  for (const button of document.querySelectorAll(".key button[data-all]")) {
    const own = () => [...button.parentElement.querySelectorAll("[data-submission]")].map((one) => one.dataset.submission);
    button.addEventListener("click", () => view.setList("hide", button.dataset.all === "true" ? [] : own()));
  }
  view.follow(["hide"], () => buttons.forEach((one) => one.setAttribute("aria-pressed", String(isShown(one.dataset.submission)))));
}
