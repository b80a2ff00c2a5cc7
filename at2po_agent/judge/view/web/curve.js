// A tree evaluation: every way to answer at equal generated tokens, and the first metric against the tokens of a task.

const CURVES = ["#7f7f7f", "#1f77b4", "#d62728", "#9ecae1", "#fcae91"]; // in the order of the methods, as in curve.svg
const whole = (tokens) => Math.round(tokens).toLocaleString("en");

function treeMethods(tree, metric) {
  const points = (interval) => `[${signed(100 * interval.low, 1)}, ${signed(100 * interval.high, 1)}]`;
  const row = ([name, found], i) =>
    h("tr", {}, h("th", { scope: "row" }, s("svg", { class: "key", viewBox: "0 0 16 4", "aria-hidden": "true" },
                                             s("path", { d: "M0 2H16", stroke: CURVES[i] })), name),
      [percent(found.em.mean), `${(100 * found.em.low).toFixed(1)} – ${(100 * found.em.high).toFixed(1)}`,
       name === "majority of chains" ? "" : `${signed(100 * found.against_chains.mean, 1)} ${points(found.against_chains)}`,
       found.paths.toFixed(1), whole(found.tokens)].map((text) => h("td", {}, text)));
  const heads = ["at equal tokens", metric, "95 % interval", "to majority of chains", "paths", "tokens"];
  return h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, heads.map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, Object.entries(tree.methods).map(row))));
}

function treeCurve(tree, metric, task) {
  const low = tree.at[0], high = tree.at.at(-1), top = Math.max(...Object.values(tree.curve).flat()) || 1;
  const x = (tokens) => (54 + (510 * (tokens - low)) / Math.max(1, high - low)).toFixed(1);
  const y = (em) => (150 - (140 * em) / top).toFixed(1);
  const line = (values, i) =>
    s("polyline", { points: values.map((em, at) => `${x(tree.at[at])},${y(em)}`).join(" "), stroke: CURVES[i] });
  return s("svg", { class: "curve", viewBox: "0 0 580 190", role: "img", "aria-label": `${metric} against generated tokens of a ${task}` },
    [0, 0.5, 1].map((share) => [s("path", { class: "scale", d: `M54 ${y(share * top)}H564` }),
                                s("text", { x: 48, y: +y(share * top) + 4, "text-anchor": "end" }, percent(share * top))]),
    Object.values(tree.curve).map(line),
    s("text", { x: 54, y: 168 }, whole(low)), s("text", { x: 564, y: 168, "text-anchor": "end" }, whole(high)),
    s("text", { x: 304, y: 184, "text-anchor": "middle" }, `generated tokens of a ${task}`));
}

const treeResult = ({ tree, first, task }) =>
  tree && h("details", { class: "facts trees", open: true }, h("summary", {}, "Trees beside chains"),
    treeMethods(tree, first.words.toLowerCase()), treeCurve(tree, first.words, task));
