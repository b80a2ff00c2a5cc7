// A list that scrolls with the page and holds only the rows that are seen, so that 5,000 cost what 20 cost.

class List {
  constructor(root, { row, open, label }) {
    Object.assign(this, { root, row, open, items: [], active: -1, drawn: new Map() });
    root.setAttribute("aria-label", label);
    this.rows = h("div", { class: "rows", role: "presentation" });
    root.append(this.rows);
    root.addEventListener("keydown", (event) => this.key(event));
    root.addEventListener("focus", () => this.active < 0 && this.items.length && this.activate(0));
    root.addEventListener("click", (event) => {
      const at = event.target.closest(".row");
      if (at) { this.activate(Number(at.dataset.at)); this.open(this.items[this.active]); }
    });
    for (const what of ["scroll", "resize"]) addEventListener(what, () => this.draw(), { passive: true });
  }

  get height() { // of a row in pixels; the style sheet says it in rem, so that it grows with the reader's font
    const root = getComputedStyle(document.documentElement);
    return parseFloat(root.getPropertyValue("--row")) * parseFloat(root.fontSize);
  }

  show(items) {
    const kept = this.items[this.active];
    this.items = items;
    this.active = items.indexOf(kept);
    for (const node of this.drawn.values()) node.remove();
    this.drawn.clear();
    this.rows.style.height = `${items.length * this.height}px`;
    refill(this.rows, items.length ? null : h("p", { class: "empty" }, "Nothing here fits this filter."));
    this.draw();
  }

  draw() {
    const height = this.height, top = this.rows.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(-top / height) - 8);
    const last = Math.min(this.items.length, Math.ceil((innerHeight - top) / height) + 8);
    for (const [at, node] of this.drawn) if (at < first || at >= last) { node.remove(); this.drawn.delete(at); }
    for (let at = first; at < last; at++) if (!this.drawn.has(at)) this.drawn.set(at, this.add(at, height));
  }

  add(at, height) {
    const node = h("div", { class: "row", role: "option", id: `row-${at}`, "data-at": at, "aria-posinset": at + 1,
                            "aria-setsize": this.items.length, "aria-selected": String(at === this.active) },
                   this.row(this.items[at]));
    node.style.top = `${at * height}px`;
    this.rows.append(node);
    return node;
  }

  activate(at) {
    this.active = at;
    for (const [other, node] of this.drawn) node.setAttribute("aria-selected", String(other === at));
    if (at < 0) return;
    const height = this.height, cover = byId("tools").getBoundingClientRect().bottom;
    const top = this.rows.getBoundingClientRect().top + at * height;
    if (top < cover) scrollBy(0, top - cover);
    else if (top + height > innerHeight) scrollBy(0, top + height - innerHeight);
    this.draw();
    this.root.setAttribute("aria-activedescendant", `row-${at}`);
  }

  step(by) {
    if (!this.items.length) return;
    this.activate(Math.min(this.items.length - 1, Math.max(0, this.active + by)));
    this.open(this.items[this.active]);
  }

  key(event) {
    const page = Math.max(1, Math.floor(innerHeight / this.height) - 2);
    const moves = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: page, PageUp: -page, Home: -1e9, End: 1e9 };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in moves) { event.preventDefault(); this.step(moves[event.key]); }
    if (event.key === "Enter" && this.active >= 0) { this.open(this.items[this.active]); byId("reader").focus(); }
  }
}

const wide = () => matchMedia("(min-width: 60rem)").matches;

/** The right half of the page; on a phone it lies over the list until it is closed, there also with the back button. */
const reader = {
  show(...children) {
    const back = h("button", { type: "button", class: "back", onclick: () => reader.close() }, icon("back"), "Back");
    refill(byId("reader"), back, children);
    byId("reader").scrollTop = 0;
    document.body.classList.add("reading");
  },
  /** What is read stands in the address, so that a link can be sent. */
  remember(name) {
    const address = `#${encodeURIComponent(name)}`, covers = !wide() && !document.body.classList.contains("reading");
    if (location.hash === address) return;
    if (covers) history.pushState("reader", "", address);
    else history.replaceState(history.state, "", address);
  },
  close() {
    if (history.state === "reader") history.back();
    else reader.leave();
  },
  leave() {
    document.body.classList.remove("reading");
    byId("list").focus();
  },
};
addEventListener("popstate", () => location.hash || reader.leave());
addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select");
  if (event.key === "Escape") typing ? typing.blur() : reader.close();
  if (event.key === "/" && !typing) { event.preventDefault(); byId("find").focus(); }
});

/** Filter chips, a search box and an order above the list; `items` are shown where all agree. */
function bench({ items, filters, fits, order, text, row, open, name, label }) {
  const state = { filter: "all", words: [], order: Object.keys(order)[0] };
  const enter = (item) => { reader.remember(name(item)); return open(item); };
  const list = new List(byId("list"), { row, open: enter, label });
  const refresh = () => {
    const found = items.filter((item) => fits(item, state.filter) && state.words.every((word) => text(item).includes(word)));
    list.show(order[state.order] ? found.sort(order[state.order]) : found);
    status.textContent = found.length === items.length ? "" : `${found.length.toLocaleString("en")} shown`;
  };
  const find = h("input", { id: "find", type: "search", placeholder: "Find", spellcheck: "false",
                            "aria-label": "Find in tasks and answers", oninput: (event) => {
                              state.words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
                              refresh();
                            } });
  const sort = h("select", { id: "order", "aria-label": "Order", onchange: (event) => {
    state.order = event.target.value;
    refresh();
  } }, Object.keys(order).map((name) => h("option", { value: name }, name)));
  const status = h("span", { class: "status", role: "status" });
  const choose = (filter) => { state.filter = filter; refresh(); };
  refill(byId("tools"), chips(filters, "all", choose), find, sort, status);
  byId("bench").hidden = false;
  refresh();
  const linked = items.findIndex((item) => location.hash === `#${encodeURIComponent(name(item))}`);
  if (linked >= 0) { list.activate(linked); open(items[linked]); }
  else if (wide() && items.length) { list.activate(0); open(items[0]); scrollTo(0, 0); }
}
