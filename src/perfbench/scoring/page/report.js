"use strict";
// The figures of one board each. Data: report_data.py; everything is decided there, here it is only drawn.

const shown = new Map(); // submission -> whether its lines are drawn

function draw(board, place) {
  const styles = new Map(board.submissions.map((one) => [one.name, one]));
  board.submissions.forEach((one) => { if (!shown.has(one.name)) shown.set(one.name, true); });
  place(".key-of-submissions", keyOf(board));
  place(".profile", profileOf(board));
  place(".heat", heatOf(board));
  place(".curves", curvesOf(board, styles));
  place(".pairs", pairsOf(board));
  place(".accounting", accountingOf(board));
}

function keyOf(board) {
  const key = html("div", { class: "key", role: "group", "aria-label": "Show or hide submissions" });
  for (const one of board.submissions) {
    const line = node("line", { x1: 0, x2: 26, y1: 6, y2: 6, ...strokeOf(one, 3) });
    const sample = node("svg", { viewBox: "0 0 26 12", width: 26, height: 12, style: "width:26px" }, line);
    const button = html("button", { type: "button", "aria-pressed": "true", "data-submission": one.name }, sample, one.name);
    button.addEventListener("click", () => toggle(one.name));
    button.addEventListener("mouseenter", () => emphasise(one.name));
    button.addEventListener("mouseleave", () => emphasise(null));
    key.append(button);
  }
  const all = html("button", { type: "button" }, "all");
  all.addEventListener("click", () => setAll(true));
  const none = html("button", { type: "button" }, "none");
  none.addEventListener("click", () => setAll(false));
  key.append(all, none);
  return key;
}

function toggle(name) {
  shown.set(name, !shown.get(name));
  applyShown();
}

function setAll(value) {
  for (const name of shown.keys()) shown.set(name, value);
  applyShown();
}

function applyShown() {
  for (const element of document.querySelectorAll("svg [data-submission]")) {
    element.style.display = shown.get(element.dataset.submission) ? "" : "none";
  }
  for (const button of document.querySelectorAll("button[data-submission]")) {
    button.setAttribute("aria-pressed", String(shown.get(button.dataset.submission)));
  }
}

function emphasise(name) {
  for (const element of document.querySelectorAll("svg .curve[data-submission]")) {
    element.classList.toggle("faint", name !== null && element.dataset.submission !== name);
    element.classList.toggle("strong", name !== null && element.dataset.submission === name);
  }
}

function strokeOf(style, width) {
  return { stroke: style.colour, "stroke-width": width, "stroke-dasharray": style.dashes.map((one) => one * width).join(" ") };
}

// A line to see and a broad, invisible one to point at.
function lineWithHit(style, path, width, text) {
  const line = node("path", { class: "curve", d: path, "data-submission": style.name, ...strokeOf(style, width) });
  const hit = node("path", { class: "hit", d: path, "data-submission": style.name });
  hover(hit, text);
  hit.addEventListener("mouseenter", () => emphasise(style.name));
  hit.addEventListener("mouseleave", () => emphasise(null));
  return [line, hit];
}

function profileOf(board) {
  const frame = new Frame({
    width: 1000, height: 420, xRange: [1, board.tau_max], yRange: [0, 1.02],
    xLabel: "factor of the fastest submission's time", yLabel: "share of workloads",
  });
  const lines = [];
  const hits = [];
  for (const one of board.submissions) {
    let path = "";
    one.profile.forEach(([factor, share], index) => {
      path += index ? `H${frame.x(factor)}V${frame.y(share)}` : `M${frame.x(factor)} ${frame.y(share)}`;
    });
    const [line, hit] = lineWithHit(one, path, 2, (event) => {
      const factor = Math.min(board.tau_max, Math.max(1, frame.xValue(event)));
      const share = one.profile.filter(([corner]) => corner <= factor).at(-1)[1];
      return `${one.name}\nwithin ${factor.toFixed(2)} x: ${(100 * share).toFixed(1)} % of workloads\nscore ${one.score.toFixed(4)}`;
    });
    lines.unshift(line); // the best is drawn last, on top
    hits.unshift(hit);
  }
  frame.body.append(...lines, ...hits);
  return frame.svg;
}

// Cividis, seven of its colours: light is slow, dark is fast, with any colour vision and in grey.
const SCALE = ["#00224e", "#223b6c", "#4b5670", "#707173", "#969078", "#c2b26a", "#fee838"];

function shade(share) {
  const place = Math.min(1, Math.max(0, share)) * (SCALE.length - 1);
  const index = Math.min(SCALE.length - 2, Math.floor(place));
  const mixed = [1, 3, 5].map((start) => {
    const [low, high] = [SCALE[index], SCALE[index + 1]].map((one) => parseInt(one.slice(start, start + 2), 16));
    return Math.round(low + (high - low) * (place - index));
  });
  return { fill: `rgb(${mixed.join(",")})`, isDark: mixed[0] * 0.3 + mixed[1] * 0.59 + mixed[2] * 0.11 < 115 };
}

const LETTER = 6.4; // width of a letter of a label, in pixels

function gridOf({ rows, columns, cell, cellHeight }, cellOf) {
  const longest = (names) => Math.max(...names.map((name) => name.length));
  const left = 16 + LETTER * longest(rows);
  const top = 20 + LETTER * longest(columns) * Math.sin(32 * Math.PI / 180);
  const width = left + columns.length * cell + 90; // the last heading leans out
  const height = top + rows.length * cellHeight + 8;
  const svg = node("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", style: `max-width:${width}px` });
  columns.forEach((name, j) => svg.append(node("text", {
    transform: `translate(${left + (j + 0.5) * cell} ${top - 7}) rotate(-32)`, "text-anchor": "start",
  }, name)));
  rows.forEach((name, i) => {
    const y = top + i * cellHeight;
    svg.append(node("text", { x: left - 8, y: y + cellHeight / 2 + 4, "text-anchor": "end" }, name));
    columns.forEach((column, j) => {
      const { fill, text, colour, tip } = cellOf(name, column);
      const x = left + j * cell;
      const box = node("rect", { class: "box", x: x + 1, y: y + 1, width: cell - 2, height: cellHeight - 2, rx: 2, fill });
      const label = node("text", {
        x: x + cell / 2, y: y + cellHeight / 2 + 4, "text-anchor": "middle", style: `fill:${colour}`, "pointer-events": "none",
      }, text);
      if (tip) hover(box, tip);
      svg.append(box, label);
    });
  });
  return svg;
}

function heatOf(board) {
  const cells = new Map(board.cells.map((one) => [`${one.workload} ${one.submission}`, one]));
  const rows = board.workloads.map((one) => one.name);
  const columns = board.submissions.map((one) => one.name);
  const cell = Math.max(46, Math.min(84, 860 / columns.length));
  return gridOf({ rows, columns, cell, cellHeight: 27 }, (workload, submission) => {
    const one = cells.get(`${workload} ${submission}`);
    const [low, high] = (one.interval || []).map((end) => (end === null ? "∞" : shortNumber(end)));
    const range = one.interval ? `\n95 % interval ${low} to ${high} s` : "";
    const studies = one.studies.map(shortNumber).join(", ");
    const ratio = one.ratio === null ? "" : `\n${one.ratio.toFixed(3)} x the fastest`;
    const tip = `${submission} on ${workload}\n${one.verdict}\nmedian ${shortNumber(one.time_s)} s${range}${ratio}\nstudies: ${studies || "none"}`;
    if (one.fraction === null) return { fill: "#f0f1f3", text: one.mark, colour: "#5b6570", tip };
    const { fill, isDark } = shade(one.fraction);
    return { fill, text: one.fraction.toFixed(2) + one.mark, colour: isDark ? "#fff" : "#111", tip };
  });
}

// The split is left out where the whole name is longer than the axis.
function shortMetric(metric) {
  return metric.length > 26 ? metric.split("/").at(-1) : metric;
}

function curvesOf(board, styles) {
  const panels = html("div", { class: "panels" });
  for (const workload of board.workloads) {
    const curves = board.curves.filter((one) => one.workload === workload.name);
    if (!curves.length) continue;
    const longest = Math.max(...curves.map((one) => one.times_s.at(-1)));
    const unit = timeUnit(Math.max(longest, workload.budget_s));
    const end = Math.min(workload.budget_s * 1.04, Math.max(longest * 1.25, workload.budget_s * 0.1)) / unit.seconds;
    const frame = new Frame({
      width: 380, height: 250, title: workload.name, xRange: [0, end], yRange: workload.limits,
      xLabel: `submission time (${unit.name})`, yLabel: shortMetric(workload.metric),
    });
    const lines = [];
    const hits = [];
    for (const one of curves) {
      let path = "";
      one.times_s.forEach((time_s, index) => {
        if (one.values[index] === null) return;
        path += `${path ? "L" : "M"}${frame.x(time_s / unit.seconds).toFixed(1)} ${frame.y(one.values[index]).toFixed(1)}`;
      });
      if (!path) continue;
      const end_s = one.reached_s === null ? "target not reached" : `target after ${shortNumber(one.reached_s)} s`;
      const [line, hit] = lineWithHit(styles.get(one.submission), path, 1.2, (event) => {
        const at = frame.xValue(event) * unit.seconds;
        const index = nearest(one.times_s, at);
        return `${one.submission}, study ${one.study}, trial ${one.trial}\n${shortNumber(one.times_s[index])} s: ${workload.metric} ${shortNumber(one.values[index])}\n${end_s}`;
      });
      lines.push(line);
      hits.push(hit);
      if (one.reached_s !== null) {
        lines.push(node("circle", {
          cx: frame.x(one.reached_s / unit.seconds), cy: frame.y(workload.target), r: 2.6,
          fill: styles.get(one.submission).colour, "data-submission": one.submission,
        }));
      }
    }
    frame.body.append(...lines, ...hits);
    frame.rule({ y: workload.target, label: `target ${shortNumber(workload.target)}` });
    if (workload.budget_s / unit.seconds <= end) frame.rule({ x: workload.budget_s / unit.seconds, label: "budget" });
    panels.append(html("figure", {}, frame.svg));
  }
  return panels;
}

function nearest(values, wanted) {
  let best = 0;
  values.forEach((value, index) => { if (Math.abs(value - wanted) < Math.abs(values[best] - wanted)) best = index; });
  return best;
}

function pairsOf(board) {
  const names = board.submissions.map((one) => one.name);
  const styles = new Map(board.submissions.map((one) => [one.name, one]));
  const cell = Math.max(40, Math.min(72, 760 / names.length));
  return gridOf({ rows: names, columns: names, cell, cellHeight: 25 }, (row, column) => {
    if (row === column) return { fill: "#fff", text: "", colour: "#111" };
    const share = styles.get(row).higher[column];
    if (share === null || share === undefined) {
      const tip = `${row} and ${column}: nothing can be said,\nfor one of them was not repeated on a workload that both ran`;
      return { fill: "#f6f7f8", text: "", colour: "#111", tip };
    }
    const { fill, isDark } = shade(1 - share);
    const tip = `${row} scores higher than ${column}\nin ${(100 * share).toFixed(1)} % of bootstrap samples`;
    return { fill, text: share.toFixed(2), colour: isDark ? "#fff" : "#111", tip };
  });
}

const PHASES = { scored: "#0072B2", "data wait": "#D55E00", eval: "#E69F00", compile: "#CC79A7", checkpoint: "#009E73", logging: "#56B4E9", idle: "#BBBBBB" };

function accountingOf(board) {
  if (!board.accounting.length) return html("p", { class: "soft" }, "No finished trial of these has a record of its phases.");
  const left = 250;
  const bar = 21;
  const height = board.accounting.length * bar + 34;
  const svg = node("svg", { viewBox: `0 0 1000 ${height}`, role: "img", "aria-label": "time accounting" });
  Object.entries(PHASES).forEach(([phase, colour], index) => svg.append(
    node("rect", { x: left + index * 95, y: 4, width: 11, height: 11, fill: colour }),
    node("text", { x: left + index * 95 + 16, y: 14 }, phase),
  ));
  board.accounting.forEach((one, row) => {
    const total = Object.values(one.seconds).reduce((sum, value) => sum + value, 0) || 1;
    let x = left;
    const y = 26 + row * bar;
    svg.append(node("text", { x: left - 8, y: y + 14, "text-anchor": "end" }, `${one.submission} · ${one.workload}`));
    for (const [phase, colour] of Object.entries(PHASES)) {
      const width = one.seconds[phase] / total * (990 - left);
      const box = node("rect", { class: "box", x, y: y + 2, width, height: bar - 4, fill: colour });
      hover(box, `${one.submission} on ${one.workload}\n${phase}: ${shortNumber(one.seconds[phase])} s, ${(100 * one.seconds[phase] / total).toFixed(1)} %\nmean of ${one.trials} trials`);
      svg.append(box);
      x += width;
    }
  });
  return svg;
}

function filterTables() {
  for (const input of document.querySelectorAll("input[type=search]")) {
    const rows = [...document.querySelectorAll(`#${input.dataset.table} tbody tr`)];
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      }
    });
  }
}

JSON.parse(document.getElementById("data").textContent).forEach((board, index) => {
  const section = document.getElementById(`board-${index}`);
  draw(board, (selector, drawn) => section.querySelector(selector).replaceChildren(drawn));
});
filterTables();
