// Tables: sorted by any column, filtered by words, copied as CSV, Markdown and LaTeX.

const FORMATS = { CSV: asCsv, Markdown: asMarkdown, LaTeX: asLatex };
const FEW_ROWS = 8; // of which none needs to be searched for
const MANY_ROWS = 100; // more are drawn only when asked for

// A cell's words: pictures in it say nothing.
function textOf(cell) {
  return [...cell.childNodes].filter((one) => one.nodeName !== "svg").map((one) => one.textContent).join("").trim();
}

// Numbers by value and before words; nothing, and what stands for nothing, last.
function sortKey(text) {
  if (typeof text === "number") return [0, text];
  if (text === null || text === "" || text === "—") return [2, ""];
  const number = Number.parseFloat(String(text).replace(/,/g, ""));
  return /^[-+]?[\d.]/.test(text) && Number.isFinite(number) ? [0, number] : [1, String(text).toLowerCase()];
}

function compare(one, other, direction) {
  if (one[0] !== other[0]) return one[0] === 2 || other[0] === 2 ? one[0] - other[0] : direction * (one[0] - other[0]);
  if (one[0] === 0) return direction * (one[1] - other[1]);
  return direction * one[1].localeCompare(other[1], "en", { numeric: true });
}

class SortedTable {
  // Rows: { cells: what is in them, or null where the element says so; element: () => tr }.
  constructor(block, id, rows) {
    this.block = block;
    this.id = id;
    this.rows = rows;
    this.table = block.querySelector("table");
    this.heads = [...this.table.querySelectorAll("thead th")];
    this.names = this.heads.map((one) => one.textContent);
    this.limit = MANY_ROWS;
    this.addTools();
    this.alignNumbers();
    this.heads.forEach((head, column) => this.addSorting(head, column));
    this.show();
    view.whenChanged((name) => { if (name === null) this.restore(); });
  }

  restore() {
    const input = this.block.querySelector("input");
    if (input) input.value = view.get(`filter.${this.id}`);
    this.show();
  }

  cells(row) { return row.cells ?? [...row.element().cells].map(textOf); }

  addTools() {
    const tools = this.block.querySelector(".tools");
    const title = this.block.dataset.title;
    if (this.rows.length > FEW_ROWS) {
      const input = html("input", { type: "search", placeholder: "filter by words", "aria-label": `Filter ${title} by words` });
      input.value = view.get(`filter.${this.id}`);
      input.addEventListener("input", () => { view.set(`filter.${this.id}`, input.value); this.show(); });
      tools.append(input);
    }
    this.said = html("span", { class: "soft", role: "status" });
    tools.append(this.said, html("span", { class: "soft" }, "copy as"));
    for (const [name, write] of Object.entries(FORMATS)) {
      const button = html("button", { type: "button", "aria-label": `Copy ${title} as ${name}` }, name);
      button.addEventListener("click", async () => {
        await copy(write(title, this.names, this.chosen().map((row) => this.cells(row).map(shownText))));
        this.said.textContent = `copied as ${name}`;
      });
      tools.append(button);
    }
  }

  alignNumbers() {
    const sample = this.rows.slice(0, 50).map((row) => this.cells(row).map(sortKey));
    this.isNumber = this.names.map((_, column) => {
      const kinds = sample.map((row) => row[column][0]);
      return kinds.includes(0) && !kinds.includes(1);
    });
    this.isNumber.forEach((is, column) => this.heads[column].classList.toggle("number", is));
  }

  addSorting(head, column) {
    const button = html("button", { type: "button" }, ...head.childNodes);
    button.addEventListener("click", () => {
      const [old, direction] = this.order();
      view.set(`sort.${this.id}`, `${column},${old === column ? -direction : 1}`);
      this.show();
    });
    head.replaceChildren(button);
  }

  order() {
    const [column, direction] = view.get(`sort.${this.id}`).split(",").map(Number);
    return column in this.names && direction ? [column, direction] : [null, 1];
  }

  chosen() {
    const words = view.get(`filter.${this.id}`).toLowerCase().split(/\s+/).filter(Boolean);
    const isWanted = (row) => { const text = this.cells(row).join(" ").toLowerCase(); return words.every((one) => text.includes(one)); };
    const rows = words.length ? this.rows.filter(isWanted) : [...this.rows];
    const [column, direction] = this.order();
    if (column === null) return rows;
    const keyed = rows.map((row) => [sortKey(this.cells(row)[column]), row]);
    return keyed.sort(([one], [other]) => compare(one, other, direction)).map(([, row]) => row);
  }

  show() {
    const rows = this.chosen();
    const [column, direction] = this.order();
    this.heads.forEach((head, index) => {
      if (index === column) head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    });
    const drawn = rows.slice(0, this.limit).map((row) => row.element());
    for (const row of drawn) this.isNumber.forEach((is, index) => row.cells[index]?.classList.toggle("number", is));
    this.table.tBodies[0].replaceChildren(...drawn);
    this.said.textContent = rows.length === this.rows.length ? "" : `${rows.length} of ${this.rows.length} rows`;
    this.block.querySelector(".more")?.remove();
    if (rows.length <= this.limit) return;
    const more = html("button", { type: "button", class: "more" }, `show all ${rows.length.toLocaleString("en-US")} rows`);
    more.addEventListener("click", () => { this.limit = Infinity; this.show(); });
    this.block.append(more);
  }
}

function shownText(cell) {
  return cell === null ? "" : typeof cell === "number" ? String(cell) : cell;
}

function setUpTables() {
  for (const block of document.querySelectorAll(".block")) {
    const section = block.closest("section")?.id ?? "";
    const id = `${section.replace("board-", "")}.${block.dataset.title.split(":")[0].toLowerCase().replace(/\W+/g, "-")}`;
    const rows = [...block.querySelectorAll("tbody tr")].map((element) => ({ cells: null, element: () => element }));
    new SortedTable(block, id, rows);
  }
}

// Every trial, from the page's data: made when it is unfolded, since there are thousands.
function setUpTrials(boards) {
  for (const place of document.querySelectorAll("details.trials")) {
    const { columns, rows } = boards[place.dataset.board].trials;
    const make = () => {
      if (!place.open || place.querySelector("table")) return;
      const head = html("tr", {}, ...columns.map((name) => html("th", { scope: "col" }, name)));
      const table = html("table", { class: "trials" }, html("thead", {}, head), html("tbody"));
      const region = html("div", { class: "scroll tall", role: "region", "aria-label": "Trials", tabindex: "0" }, table);
      const block = html("div", { class: "block", "data-title": "Trials" }, html("div", { class: "tools" }), region);
      place.append(block);
      new SortedTable(block, `${place.dataset.board}.trials`, rows.map((cells) => {
        let made = null;
        return { cells, element: () => { made ??= trialRow(columns, cells); return made; } };
      }));
    };
    place.addEventListener("toggle", make);
    make();
  }
}

function trialRow(columns, cells) {
  return html("tr", {}, ...cells.map((cell, column) => {
    if (columns[column] === "folder") return html("td", {}, html("a", { href: cell }, "folder"));
    const shown = typeof cell === "number" && !Number.isInteger(cell) ? shortNumber(cell) : shownText(cell);
    const text = typeof cell === "number" && Number.isInteger(cell) && columns[column] !== "study" ? cell.toLocaleString("en-US") : shown;
    return html("td", columns[column] === "state" ? { class: `status-${cell}` } : {}, String(text));
  }));
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // where a page has no clipboard, a selection can still be copied
    const area = html("textarea", { "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

function asCsv(_title, names, rows) {
  const cell = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  return `${[names, ...rows].map((row) => row.map(cell).join(",")).join("\n")}\n`;
}

function asMarkdown(title, names, rows) {
  const cell = (text) => text.replace(/[\\|`*]/g, "\\$&").replace(/[<>&]/g, (one) => ({ "<": "&lt;", ">": "&gt;", "&": "&amp;" })[one]).replaceAll("](", "]\\(");
  const line = (row) => `| ${row.map(cell).join(" | ")} |`;
  return `## ${cell(title)}\n\n${[line(names), `|${" --- |".repeat(names.length)}`, ...rows.map(line)].join("\n")}\n`;
}

function asLatex(title, names, rows) {
  const words = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "—": "---",
    "†": "\\textdagger{}", "‡": "\\textdaggerdbl{}", "∞": "$\\infty$" };
  const cell = (text) => text.replace(/[\\~^_&%#${}—†‡∞]/g, (one) => words[one] ?? `\\${one}`);
  const line = (row) => `${row.map(cell).join(" & ")} \\\\`;
  return ["\\begin{table}", "\\centering", `\\begin{tabular}{l${"r".repeat(names.length - 1)}}`, "\\toprule", line(names),
    "\\midrule", ...rows.map(line), "\\bottomrule", "\\end{tabular}", `\\caption{${cell(title)}}`, "\\end{table}", ""].join("\n");
}
