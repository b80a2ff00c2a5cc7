// Training runs side by side: every table, and the overlaid curves. Long tables are closed at first.

const SHOWN_ROWS = 14;
const SHORT = 44; // characters of a cell that is not broken into lines

const cell = (text) => said(text, text.length < SHORT ? "short" : "");

function sheet({ title, header, rows }) {
  const table = h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, header.map((text) => h("th", { scope: "col" }, cell(text))))),
    h("tbody", {}, rows.map(([first, ...cells]) => h("tr", {}, h("th", { scope: "row" }, cell(first)), cells.map((text) => h("td", {}, cell(text))))))));
  return h("details", { class: "facts trees sheet", open: rows.length <= SHOWN_ROWS }, h("summary", {}, title), table);
}

function comparison(head) {
  refill(byId("head"), heading(head), h("ul", { class: "notes" }, head.notes.map((text) => h("li", {}, said(text)))),
    head.sheets.slice(0, 2).map(sheet), h("div", { class: "charts" }, head.charts.map(plot)), head.sheets.slice(2).map(sheet), facts(head.facts));
}
