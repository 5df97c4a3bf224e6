"use strict";
// Drawing: SVG elements, axes, the hovering note. Knows nothing about boards.

const SVG = "http://www.w3.org/2000/svg";

function node(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  for (const child of children) made.append(child);
  return made;
}

function html(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const note = {
  show(text, event) {
    const tip = document.getElementById("tip");
    tip.textContent = text;
    tip.style.opacity = 1;
    const left = Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8);
    const above = event.clientY + 18 + tip.offsetHeight > window.innerHeight;
    tip.style.left = `${left}px`;
    tip.style.top = `${above ? event.clientY - tip.offsetHeight - 12 : event.clientY + 18}px`;
  },
  hide() { document.getElementById("tip").style.opacity = 0; },
};

function hover(element, text) {
  element.addEventListener("mousemove", (event) => note.show(typeof text === "function" ? text(event) : text, event));
  element.addEventListener("mouseleave", () => note.hide());
}

function niceTicks(low, high, count) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((one) => one >= raw);
  const ticks = [];
  for (let index = Math.ceil(low / step - 1e-9); index * step <= high + step * 1e-9; index += 1) {
    ticks.push(Number((index * step).toPrecision(12)));
  }
  return ticks;
}

function shortNumber(value) {
  if (value === null || value === undefined) return "—";
  if (value !== 0 && Math.abs(value) < 0.001) return value.toExponential(1);
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString("en-US");
  return String(Number(value.toPrecision(4)));
}

// Seconds are shown in the unit that suits the longest of them.
function timeUnit(longest_s) {
  if (longest_s >= 7200) return { name: "h", seconds: 3600 };
  if (longest_s >= 300) return { name: "min", seconds: 60 };
  return { name: "s", seconds: 1 };
}

// A frame with axes; x and y map values to pixels.
class Frame {
  constructor({ width, height, xRange, yRange, xLabel, yLabel, title, margin }) {
    this.margin = { top: title ? 24 : 10, right: 12, bottom: 38, left: 52, ...margin };
    this.width = width;
    this.height = height;
    this.xRange = xRange;
    this.yRange = yRange;
    this.svg = node("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title || yLabel });
    this.clip = `clip${Frame.count += 1}`;
    const { top, right, bottom, left } = this.margin;
    const inside = { x: left, y: top, width: width - left - right, height: height - top - bottom };
    this.svg.append(node("clipPath", { id: this.clip }, node("rect", inside)));
    for (const tick of niceTicks(...xRange, Math.max(2, inside.width / 80))) this.tick(this.x(tick), null, tick);
    for (const tick of niceTicks(...yRange, Math.max(2, inside.height / 45))) this.tick(null, this.y(tick), tick);
    const floor = height - bottom;
    this.svg.append(
      node("line", { class: "axis", x1: left, x2: width - right, y1: floor, y2: floor }),
      node("line", { class: "axis", x1: left, x2: left, y1: top, y2: floor }),
      node("text", { class: "soft", x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, xLabel),
      node("text", { class: "soft", "text-anchor": "middle",
        transform: `translate(11 ${(top + floor) / 2}) rotate(-90)` }, yLabel),
    );
    if (title) this.svg.append(node("text", { x: left, y: 14, "font-weight": 600 }, title));
    this.body = node("g", { "clip-path": `url(#${this.clip})` });
    this.svg.append(this.body);
  }

  x(value) {
    const [low, high] = this.xRange;
    return this.margin.left + (value - low) / (high - low) * (this.width - this.margin.left - this.margin.right);
  }

  y(value) {
    const [low, high] = this.yRange;
    const floor = this.height - this.margin.bottom;
    return floor - (value - low) / (high - low) * (floor - this.margin.top);
  }

  xValue(event) {
    const box = this.svg.getBoundingClientRect();
    const pixel = (event.clientX - box.left) / box.width * this.width;
    const [low, high] = this.xRange;
    return low + (pixel - this.margin.left) / (this.width - this.margin.left - this.margin.right) * (high - low);
  }

  tick(x, y, value) {
    const { top, right, bottom, left } = this.margin;
    const vertical = x !== null;
    this.svg.append(
      node("line", vertical
        ? { class: "gridline", x1: x, x2: x, y1: top, y2: this.height - bottom }
        : { class: "gridline", x1: left, x2: this.width - right, y1: y, y2: y }),
      node("text", vertical
        ? { class: "tick", x, y: this.height - bottom + 14, "text-anchor": "middle" }
        : { class: "tick", x: left - 6, y: y + 4, "text-anchor": "end" }, shortNumber(value)),
    );
  }

  rule({ x = null, y = null, label }) {
    const { top, right, bottom, left } = this.margin;
    const line = x === null
      ? { x1: left, x2: this.width - right, y1: this.y(y), y2: this.y(y) }
      : { x1: this.x(x), x2: this.x(x), y1: top, y2: this.height - bottom };
    const place = x === null
      ? { x: left + 5, y: this.y(y) - 4 }
      : { x: this.x(x) - 4, y: top + 10, "text-anchor": "end" };
    this.svg.append(node("line", { class: "rule", ...line }), node("text", { class: "soft", ...place }, label));
  }
}
Frame.count = 0;
