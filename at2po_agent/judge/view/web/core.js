"use strict";
// Everything on the page is built from nodes and text. Nothing that was read from a run is ever parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";

function put(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...present(children));
  return node;
}
/** What a browser would write out as "null", "undefined" or "false" is nothing. */
const present = (children) => children.flat(2).filter((child) => child !== null && child !== undefined && child !== false);
const refill = (node, ...children) => node.replaceChildren(...present(children));
const h = (tag, attributes = {}, ...children) => put(document.createElement(tag), attributes, children);
const s = (tag, attributes = {}, ...children) => put(document.createElementNS(SVG, tag), attributes, children);
const byId = (id) => document.getElementById(id);

// Control and direction characters would change what stands around them: they are shown by their code.
const INVISIBLE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g;
const code = (character) => `⟨U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`;
const plain = (text) => String(text).replace(INVISIBLE, code);

/** Text of a model, a question or a passage: isolated in its direction. */
const said = (text, kind = "") => h("span", { class: `said ${kind}`, dir: "auto" }, plain(text));

const percent = (value) => `${(100 * value).toFixed(1)} %`;
const number = (value) =>
  Math.abs(value) >= 100 ? Math.round(value).toLocaleString("en")
    : Math.abs(value) >= 0.1 || value === 0 ? value.toFixed(Math.abs(value) < 10 ? 2 : 1) : value.toPrecision(2);
const signed = (value, digits = 3) => (value > 0 ? "+" : value < 0 ? "−" : "") + Math.abs(value).toFixed(digits);
const count = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

/** A block of the page: base64 of gzip of JSON, so that nothing in it can be markup. */
async function unpack(id) {
  const bytes = Uint8Array.from(atob(byId(id).textContent), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

const opened = new Map(); // the chunks used last
function chunk(index) {
  const found = opened.get(index) ?? unpack(`chunk-${index}`);
  opened.delete(index);
  opened.set(index, found);
  if (opened.size > 6) opened.delete(opened.keys().next().value);
  return found;
}

const ICONS = {
  correct: "M3 8.5l3.2 3.2L13 5",
  wrong: "M4 4l8 8M12 4l-8 8",
  malformed: "M8 3.5v5.5M8 12.2v.3",
  cut: "M3 8h6M12 3v10",
  error: "M9 2L5 8.5h6L7 14",
  mixed: "M3.5 6h9M8 2v8M3.5 13.5h9",
  search: "M7 3a4 4 0 1 0 0 8a4 4 0 1 0 0-8M10 10l3.5 3.5",
  star: "M8 2.2l1.8 3.7 4 .6-2.9 2.8.7 4L8 11.4l-3.6 1.9.7-4L2.2 6.5l4-.6z",
  back: "M10 3L5 8l5 5",
};
const icon = (name, label = "") =>
  s("svg", { class: `icon i-${name}`, viewBox: "0 0 16 16", role: label ? "img" : null, "aria-label": label || null,
             "aria-hidden": label ? null : "true" }, s("path", { d: ICONS[name] }));

/** A mean with its interval on a scale from 0 to 1. */
function whisker(value) {
  const x = (share) => (100 * Math.min(1, Math.max(0, share))).toFixed(2);
  return s("svg", { class: "whisker", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
    s("path", { class: "scale", d: "M0 4H100" }),
    s("path", { class: "range", d: `M${x(value.low)} 4H${x(value.high)}` }),
    s("path", { class: "mean", d: `M${x(value.mean)} 0V8` }));
}

/** The glossary's sentences by name, for tooltips; a metric that only an environment has is not in it. */
let meanings = {};
const about = (name) => meanings[name] ?? null;

function measure(label, value, share, task = "question", name = null) {
  const shown = share ? percent : number;
  const range = share ? `${(100 * value.low).toFixed(1)} – ${(100 * value.high).toFixed(1)}`
                      : `${shown(value.low)} – ${shown(value.high)}`;
  return h("div", { class: "measure" }, h("dt", { title: about(name) }, label), h("dd", {}, h("b", {}, shown(value.mean)),
    h("span", { class: "interval", title: `95 % interval over ${count(value.n, task)}` }, range),
    share ? whisker(value) : null));
}

/** What a run was made with, as it is in its manifest. */
function facts(pairs) {
  if (!pairs.length) return null;
  return h("details", { class: "facts" }, h("summary", {}, "How this was run"),
    h("dl", {}, pairs.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, said(value))))));
}

function heading(head) {
  return h("div", { class: "heading" }, h("p", { class: "eyebrow" }, h("b", {}, "AT²PO"), ` ${head.kind}`),
    h("h1", {}, said(head.title), head.demo ? h("span", { class: "badge" }, "demo") : null),
    h("p", { class: "subtitle" }, said(head.subtitle)));
}

/** Chips that choose one of several filters; `filters` are [name, label, count]. */
function chips(filters, chosen, choose) {
  const button = ([name, label, n]) =>
    h("button", { type: "button", class: `chip ${name}`, "aria-pressed": String(name === chosen),
                  "data-filter": name, disabled: n === 0 && name !== "all",
                  onclick: (event) => {
                    for (const other of event.currentTarget.parentNode.children)
                      other.setAttribute("aria-pressed", String(other === event.currentTarget));
                    choose(name);
                  } }, label, h("span", { class: "n" }, n.toLocaleString("en")));
  return h("div", { class: "chips", role: "group", "aria-label": "Filter" }, filters.map(button));
}
