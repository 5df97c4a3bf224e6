// What is shown. It stands in the address, so that a link shows the same: #x=steps&hide=lion.

const DEFAULTS = { theme: "auto", x: "time", range: "near", scale: "linear", unit: "seconds", hide: "", open: "", at: "" };

const view = {
  values: new Map(),
  listeners: [],

  read() {
    const hash = location.hash.slice(1);
    const pairs = hash.includes("=") ? new URLSearchParams(hash) : [["at", decodeURIComponent(hash)]];
    this.values = new Map([...pairs].filter(([, value]) => value));
  },

  get(name) { return this.values.get(name) ?? DEFAULTS[name] ?? ""; },

  list(name) { return this.get(name).split(",").filter(Boolean).map(decodeURIComponent); },

  set(name, value) {
    if (value === (DEFAULTS[name] ?? "")) this.values.delete(name);
    else this.values.set(name, value);
    history.replaceState(null, "", `#${new URLSearchParams([...this.values])}`);
    for (const listener of this.listeners) listener(name);
  },

  setList(name, values) { this.set(name, values.map(encodeURIComponent).join(",")); },

  // Calls now and whenever something that is named changes; another address in the same window changes everything.
  follow(names, action) {
    this.whenChanged((name) => { if (name === null || names.includes(name)) action(); });
    action();
  },

  // Calls with the name of what has changed, or null for everything.
  whenChanged(listener) { this.listeners.push(listener); },

  followAddress() {
    addEventListener("hashchange", () => {
      this.read();
      for (const listener of this.listeners) listener(null);
    });
  },
};

function html(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Buttons of which one is chosen.
function setUpChoices() {
  for (const button of document.querySelectorAll("button[data-set]")) {
    const { set: name, value } = button.dataset;
    button.addEventListener("click", () => view.set(name, value));
    view.follow([name], () => button.setAttribute("aria-pressed", String(view.get(name) === value)));
  }
}

function setUpTheme() {
  view.follow(["theme"], () => { document.documentElement.dataset.theme = view.get("theme"); });
}

// Folded parts that are open, and the place where the reader is.
function setUpPlaces() {
  const folded = [...document.querySelectorAll("details")];
  const unfold = () => {
    const open = new Set(view.list("open"));
    folded.forEach((one, index) => { one.open = open.has(String(index)); });
    if (view.get("at")) goTo(view.get("at"));
  };
  const remember = () => view.setList("open", folded.flatMap((one, index) => (one.open ? [String(index)] : [])));
  folded.forEach((one) => one.addEventListener("toggle", remember));
  view.whenChanged((name) => { if (name === null) unfold(); });
  for (const link of document.querySelectorAll("a[href^='#']")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      view.set("at", link.hash.slice(1));
      goTo(link.hash.slice(1));
    });
  }
  unfold();
}

function goTo(name) {
  const place = document.getElementById(name);
  if (!place) return;
  for (const one of place.querySelectorAll(":scope > details")) one.open = true;
  place.setAttribute("tabindex", "-1");
  place.focus({ preventScroll: true });
  place.scrollIntoView();
}
