// Boards as figures of plotly.js: data and layout, and a sentence for each point. Draws nothing.

// Names come from strangers' files; plotly.js reads a part of HTML in texts, and %{} in templates.
function plain(text) {
  return String(text).replace(/[&<>%]/g, (one) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", "%": "&#37;" })[one]);
}

function shortNumber(value) {
  if (value === null || value === undefined) return "—";
  if (value !== 0 && Math.abs(value) < 0.001) return value.toExponential(2);
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString("en-US");
  return String(Number(value.toPrecision(4)));
}

// Seconds are shown in the unit that suits the longest of them.
function timeUnit(longest_s) {
  if (longest_s >= 7200) return { name: "h", seconds: 3600 };
  if (longest_s >= 300) return { name: "min", seconds: 60 };
  return { name: "s", seconds: 1 };
}

// The split is left out where the whole name is longer than the axis.
function shortMetric(metric) {
  return metric.length > 26 ? metric.split("/").at(-1) : metric;
}

function axis(colours, title, more = {}) {
  return {
    title: { text: plain(title), font: { size: 12, color: colours.soft }, standoff: 6 }, automargin: true, zeroline: false,
    gridcolor: colours.line, linecolor: colours.soft, tickcolor: colours.line, tickfont: { color: colours.soft, size: 11 },
    ...more,
  };
}

function layoutOf(colours, { x, y, ...more }) {
  return {
    xaxis: x, yaxis: y, showlegend: false, paper_bgcolor: colours.page, plot_bgcolor: colours.page,
    font: { family: "system-ui, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif", color: colours.ink, size: 12 },
    margin: { l: 44, r: 14, t: 8, b: 40 },
    hoverlabel: { bgcolor: colours.raised, bordercolor: colours.soft, font: { color: colours.ink, size: 12 }, align: "left" },
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    ...more,
  };
}

function lineOf(style, colours, width) {
  return { color: colours.isDark ? style.dark : style.light, dash: style.dash, width };
}

function markersOf(style, colours, size) {
  return { symbol: style.marker, size, color: colours.isDark ? style.dark : style.light, line: { color: colours.page, width: 1 } };
}

function isShown(name) { return !view.list("hide").includes(name); }

// The last corner at or before each tau.
function sharesAt(corners, taus) {
  let index = 0;
  return taus.map((tau) => {
    while (index + 1 < corners.length && corners[index + 1][0] <= tau) index += 1;
    return corners[index][1];
  });
}

function bandAt(style, board, tau, end) {
  const points = style.band[0].length - 1;
  return style.band[end][Math.min(points, Math.max(0, Math.floor((tau - 1) / (board.tau_max - 1) * points + 1e-9)))];
}

function profileFigure(board, colours) {
  const shown = board.submissions.filter((one) => isShown(one.name));
  const even = Array.from({ length: 121 }, (_, index) => 1 + index / 120 * (board.tau_max - 1));
  const taus = [...new Set([...even, ...shown.flatMap((one) => one.profile.map(([tau]) => tau))])].sort((a, b) => a - b);
  const level = Math.round(100 * board.level);
  const bands = shown.length > 3 ? [] : shown.filter((one) => one.band).flatMap((one) => [0, 1].map((end) => ({
    x: taus, y: taus.map((tau) => bandAt(one, board, tau, end)), mode: "lines", meta: one.name, hoverinfo: "skip",
    line: { width: 0, shape: "hv" }, fill: end ? "tonexty" : "none",
    fillcolor: `${colours.isDark ? one.dark : one.light}2b`,
  })));
  const lines = shown.map((one) => ({
    x: taus, y: sharesAt(one.profile, taus), mode: "lines", name: plain(one.name), meta: one.name,
    line: { ...lineOf(one, colours, 2.2), shape: "hv" },
    customdata: taus.map((tau) => (one.band ? ` [${bandAt(one, board, tau, 0).toFixed(2)}, ${bandAt(one, board, tau, 1).toFixed(2)}]` : "")),
    hovertemplate: `${plain(one.name)}  <b>%{y:.3f}</b>%{customdata}<extra></extra>`,
  }));
  const corners = shown.map((one) => ({
    x: one.profile.slice(0, -1).map(([tau]) => tau), y: one.profile.slice(0, -1).map(([, share]) => share),
    mode: "markers", meta: one.name, hoverinfo: "skip", marker: markersOf(one, colours, 8),
  }));
  const isNarrow = innerWidth < 700;
  return {
    data: [...bands, ...lines, ...corners],
    layout: layoutOf(colours, {
      x: axis(colours, "times the fastest submission's time (τ)", { range: [1, board.tau_max],
        unifiedhovertitle: { text: `within %{x:.2f} times the fastest: share of workloads [${level} % interval]` } }),
      y: axis(colours, "share of workloads", { range: [-0.02, 1.03] }),
      height: 440, hovermode: isNarrow ? "closest" : "x unified", hoverdistance: 40,
    }),
    first: bands.length,
    read: (trace, index) => `${shown[trace - bands.length].name}: within ${taus[index].toFixed(2)} times the fastest, `
      + `${lines[trace - bands.length].y[index].toFixed(3)} of the workloads${lines[trace - bands.length].customdata[index]}`,
  };
}

function curveTraces(board, curves, { isOverSteps, unit, colours }) {
  const lines = [];
  const reached = [];
  for (const one of board.submissions.filter((style) => isShown(style.name))) {
    const own = curves.filter((curve) => curve.submission === one.name);
    if (!own.length) continue;
    const at = (curve, index) => (isOverSteps ? curve.steps[index] : curve.times_s[index] / unit.seconds);
    const points = own.flatMap((curve) => [...curve.values.map((value, index) => [at(curve, index), value,
      [curve.study, curve.trial, curve.times_s[index], curve.steps[index]]]), [null, null, null]]);
    lines.push({
      x: points.map(([x]) => x), y: points.map(([, y]) => y), customdata: points.map(([, , about]) => about),
      mode: "lines", meta: one.name, name: plain(one.name), line: lineOf(one, colours, 1.4),
    });
    const ends = own.filter((curve) => curve.reached !== null);
    reached.push({
      x: ends.map((curve) => at(curve, curve.reached)), y: ends.map((curve) => curve.values[curve.reached]),
      mode: "markers", meta: one.name, hoverinfo: "skip", marker: markersOf(one, colours, 9),
    });
  }
  return { lines, reached };
}

function curvesFigure(board, colours, name) {
  const workload = board.workloads.find((one) => one.name === name);
  const curves = board.curves.filter((one) => one.workload === name);
  const isOverSteps = view.get("x") === "steps";
  const isNear = view.get("range") === "near";
  const longest_s = Math.max(...curves.map((one) => one.times_s.at(-1)));
  const unit = timeUnit(Math.max(longest_s, workload.budget_s));
  const { lines, reached } = curveTraces(board, curves, { isOverSteps, unit, colours });
  for (const line of lines) {
    line.hovertemplate = `<b>${line.name}</b>, study %{customdata[0]}, trial %{customdata[1]}<br>%{customdata[2]:,.4~g} s, `
      + `step %{customdata[3]:,}<br>${plain(workload.metric)} <b>%{y:.5~g}</b><extra></extra>`;
  }
  const end = isOverSteps ? Math.max(...curves.map((one) => one.steps.at(-1))) * 1.04
    : Math.min(workload.budget_s * 1.04, Math.max(longest_s * 1.25, workload.budget_s * 0.1)) / unit.seconds;
  const budget = workload.budget_s / unit.seconds;
  const rule = { type: "line", line: { color: colours.ink, width: 1, dash: "dot" } };
  const shapes = [{ ...rule, xref: "paper", x0: 0, x1: 1, y0: workload.target, y1: workload.target }];
  const note = { showarrow: false, font: { size: 11, color: colours.soft }, bgcolor: `${colours.page}b0`, xanchor: "right" };
  const annotations = [{ ...note, text: `target ${shortNumber(workload.target)}`, xref: "paper", x: 1, y: workload.target, yanchor: "bottom" }];
  if (!isOverSteps && (budget <= end || !isNear)) {
    shapes.push({ ...rule, yref: "paper", y0: 0, y1: 1, x0: budget, x1: budget });
    annotations.push({ ...note, text: "budget", x: budget, yref: "paper", y: 0.02, yanchor: "bottom" });
  }
  const layout = layoutOf(colours, {
    height: 260, hovermode: "closest", shapes,
    x: axis(colours, isOverSteps ? "steps" : `submission time (${unit.name})`, { nticks: 6 }),
    y: axis(colours, shortMetric(workload.metric), { nticks: 6 }),
    annotations,
  });
  scaleCurves(layout, { end: isNear ? end : null, limits: isNear ? workload.limits : null, lines });
  return { data: [...lines, ...reached], layout, first: 0, read: (trace, index) => {
    const [study, trial, time_s, step] = lines[trace].customdata[index];
    return `${lines[trace].meta}, study ${study}, trial ${trial}: ${shortNumber(time_s)} s, step ${step}, `
      + `${workload.metric} ${shortNumber(lines[trace].y[index])}`;
  } };
}

// Ranges, on linear and logarithmic axes; what is not positive has no place on the latter.
function scaleCurves(layout, { end, limits, lines }) {
  const scale = view.get("scale");
  const least = (values) => values.reduce((low, one) => (one > 0 && one < low ? one : low), Infinity);
  if (scale === "logx" || scale === "log") {
    const isIn = (value) => !limits || (value !== null && value >= limits[0] && value <= limits[1]);
    const low = 0.8 * Math.min(...lines.map((line) => least(line.x.filter((_, index) => isIn(line.y[index])))));
    layout.xaxis.type = "log";
    if (layout.annotations[1]) layout.annotations[1].x = Math.log10(layout.annotations[1].x);
    if (end && low < end) layout.xaxis.range = [Math.log10(low), Math.log10(end)];
  } else if (end) layout.xaxis.range = [0, end];
  else layout.xaxis.rangemode = "tozero";
  if (scale === "logy" || scale === "log") {
    layout.yaxis.type = "log";
    const low = limits && limits[0] > 0 ? limits[0] : Math.min(...lines.map((line) => least(line.y)));
    if (limits && limits[1] > low) layout.yaxis.range = [Math.log10(low), Math.log10(limits[1])];
    layout.annotations[0].y = Math.log10(layout.annotations[0].y);
  } else if (limits) layout.yaxis.range = limits;
}

function accountingFigure(board, colours) {
  const rows = board.accounting.filter((one) => isShown(one.submission)).reverse();
  const total = (one) => Object.values(one.seconds).reduce((sum, value) => sum + value, 0) || 1;
  const names = rows.map((one) => plain(`${one.submission} · ${one.workload}`));
  const data = Object.entries(board.phases).map(([phase, colour]) => ({
    type: "bar", orientation: "h", y: names, x: rows.map((one) => one.seconds[phase] / total(one)), name: phase,
    marker: { color: colour }, customdata: rows.map((one) => [one.seconds[phase], one.trials]),
    hovertemplate: "%{y}<br>" + phase + ": <b>%{customdata[0]:,.4~g} s</b>, %{x:.1%}<br>mean of %{customdata[1]} trials<extra></extra>",
  }));
  return {
    data, first: 0,
    layout: { ...layoutOf(colours, {
      x: axis(colours, "share of wall time", { range: [0, 1], tickformat: ".0%" }), y: axis(colours, ""),
      height: 110 + 24 * Math.max(1, rows.length), barmode: "stack", hovermode: "closest", bargap: 0.25,
      legend: { orientation: "h", y: 1, yanchor: "bottom", traceorder: "normal" },
    }), showlegend: true },
    read: (trace, index) => `${rows[index].submission} on ${rows[index].workload}: ${data[trace].name} `
      + `${shortNumber(rows[index].seconds[data[trace].name])} s`,
  };
}

function frontFigure(board, colours) {
  const { cost, in_sample, rows, repeated } = board.front;
  const at = rows.map((one) => one.cost);
  const [blue, orange] = colours.isDark ? ["#6cb6f5", "#f28445"] : ["#0b62a8", "#b23c00"];
  const named = rows.map((one) => plain(one.names));
  const data = [
    { x: cost, y: in_sample, mode: "markers", name: "every subset, in sample", marker: { size: 4, color: colours.faint }, hoverinfo: "skip" },
    { x: at, y: rows.map((one) => one.in_sample), mode: "lines", name: "best choice, in sample", line: { shape: "hv", color: blue, width: 2 } },
    { x: at, y: rows.map((one) => one.validated), mode: "lines+markers", name: "best choice, validated", marker: { symbol: "square", size: 7 },
      line: { color: orange, width: 1.5 }, error_y: { type: "data", symmetric: false, width: 2, thickness: 1,
        array: rows.map((one) => one.high - one.validated), arrayminus: rows.map((one) => one.validated - one.low) } },
    { x: at, y: rows.map((one) => one.chance), mode: "lines", name: "by chance, validated", line: { color: colours.ink, dash: "dot", width: 1.4 } },
  ];
  for (const one of data.slice(1)) {
    one.customdata = named;
    one.hovertemplate = "%{customdata}<br>cost %{x:.1f} &#37;, tau <b>%{y:.3f}</b><extra>%{fullData.name}</extra>";
  }
  return {
    data, first: 1,
    layout: { ...layoutOf(colours, {
      x: axis(colours, "share of the whole benchmark's budget (%)", { type: "log", tickvals: [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100] }),
      y: axis(colours, "Kendall's tau with the whole board"), height: 420, hovermode: "closest",
      shapes: [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: repeated, y1: repeated, line: { color: colours.faint, width: 1 } }],
      annotations: [{ text: "whole board, repeated", xref: "paper", x: 1, xanchor: "right", y: repeated, yanchor: "bottom",
        showarrow: false, font: { size: 11, color: colours.soft } }],
      legend: { orientation: "h", y: 1, yanchor: "bottom" },
    }), showlegend: true },
    read: (trace, index) => `${rows[index].names}: cost ${rows[index].cost.toFixed(1)} %, ${data[trace].name} ${shortNumber(data[trace].y[index])}`,
  };
}

const FIGURES = { profile: profileFigure, curves: curvesFigure, accounting: accountingFigure, front: frontFigure };
