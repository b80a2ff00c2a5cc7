// A training run: how it went, and its trees drawn as trees. A node is a turn; a path from the left is an episode.

const BOX = { width: 158, height: 26, column: 196, line: 34, pad: 14 };

/** What nodes can be coloured by: [name, label, value of a node, what the ends of the scale mean, diverging]. */
const PAINTS = [
  ["advantage", "Advantage", (node) => node.advantage?.mean ?? null, ["worse", "better"], true],
  ["entropy", "Entropy", (node) => node.entropy, ["sure", "unsure, nats per token"], false],
  ["reward", "Reward", (node) => node.reward, ["", "mean reward of the leaves under it"], true],
];

function paint(nodes, [, , value, , diverging]) {
  const most = Math.max(0, ...nodes.slice(1).map((node) => Math.abs(value(node) ?? 0)));
  return {
    most,
    of(node) {
      const share = most ? (value(node) ?? 0) / most : 0;
      const end = diverging ? (share < 0 ? "--minus" : "--plus") : "--level";
      return { fill: `color-mix(in oklab, var(${end}) ${(100 * Math.abs(share)).toFixed(0)}%, var(--node))`, strong: Math.abs(share) > 0.75 };
    },
  };
}

function legend(scale, [, , , [low, high], diverging]) {
  const stops = diverging ? "var(--minus), var(--node), var(--plus)" : "var(--node), var(--level)";
  const bar = h("span", { class: "bar" });
  bar.style.background = `linear-gradient(to right in oklab, ${stops})`;
  if (!scale.most) return h("p", { class: "legend" }, "no signal in this tree: all are equal");
  return h("p", { class: "legend" }, h("span", {}, diverging ? signed(-scale.most, 2) : "0", low && ` ${low}`), bar,
    h("span", {}, diverging ? signed(scale.most, 2) : scale.most.toFixed(2), high && ` ${high}`));
}

/** Rows for leaves from the top, an inner turn in the middle of its children, columns by depth. */
function layout(nodes) {
  let row = 0;
  const place = (node, depth) => {
    node.x = BOX.pad + (depth - 1) * BOX.column + 26;
    const rows = node.children.map((child) => place(nodes[child], depth + 1));
    node.row = rows.length ? (rows[0] + rows.at(-1)) / 2 : row++;
    node.y = BOX.pad + node.row * BOX.line + BOX.height / 2;
    return node.row;
  };
  place(nodes[0], 0);
  nodes[0].x = BOX.pad;
  return { width: Math.max(...nodes.map((node) => node.x)) + BOX.width + BOX.pad, height: 2 * BOX.pad + row * BOX.line };
}

const shorten = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
const pathTo = (nodes, at) => (at > 0 ? [...pathTo(nodes, nodes[at].parent), at] : []);
const outcome = (node) => (node.ended === null ? "" : node.reward > 0 ? "correct" : ["answer", "done"].includes(node.ended) ? "wrong" : "malformed");
const describe = (node, at) => `Turn ${at}: ${node.kind} ${node.label}` + (node.advantage ? `, advantage ${signed(node.advantage.mean)}` : "")
  + `, entropy ${node.entropy.toFixed(3)}` + (node.ended ? `, reward ${signed(node.reward, 2)}, ended by ${node.ended}` : "");

function drawTree(tree, select) {
  const { nodes } = tree, size = layout(nodes);
  const link = (node) => {
    const from = nodes[node.parent], x = from.x + (node.parent ? BOX.width : 6), half = (node.x - x) / 2;
    return s("path", { class: "link", d: `M${x} ${from.y}C${x + half} ${from.y} ${node.x - half} ${node.y} ${node.x} ${node.y}` });
  };
  const box = (node, at) => {
    const end = outcome(node), text = shorten(plain(node.label), end ? 18 : 21);
    return s("g", { class: "node", transform: `translate(${node.x} ${node.y - BOX.height / 2})`, role: "treeitem", tabindex: "-1", "data-at": at,
                    "aria-label": plain(describe(node, at)), "aria-level": pathTo(nodes, at).length, onclick: () => select(at) },
      s("rect", { width: BOX.width, height: BOX.height, rx: node.ended ? 13 : 5 }),
      s("text", { x: 10, y: 17 }, text),
      end && s("path", { class: `end ${end}`, transform: `translate(${BOX.width - 22} 5)`, d: ICONS[end] }));
  };
  return s("svg", { class: "tree", width: size.width, height: size.height, viewBox: `0 0 ${size.width} ${size.height}`, role: "tree",
                    "aria-label": "Turns of this tree" },
    s("g", { class: "links" }, nodes.slice(1).map(link)), s("circle", { class: "root", cx: nodes[0].x, cy: nodes[0].y, r: 6 }),
    nodes.slice(1).map((node, at) => box(node, at + 1)));
}

function treeView(tree) {
  const { nodes } = tree;
  for (const node of nodes) node.children = [];
  nodes.forEach((node, at) => at && nodes[node.parent].children.push(at));
  const detail = h("section", { class: "detail", "aria-live": "polite" });
  const select = (at) => {
    const path = new Set(pathTo(nodes, at));
    svg.querySelectorAll(".node").forEach((group) => {
      group.classList.toggle("on-path", path.has(Number(group.dataset.at)));
      group.setAttribute("aria-selected", String(Number(group.dataset.at) === at));
      group.setAttribute("tabindex", Number(group.dataset.at) === at ? "0" : "-1");
    });
    svg.querySelectorAll(".link").forEach((line, i) => line.classList.toggle("on-path", path.has(i + 1)));
    refill(detail, nodeView(nodes, at, go));
  };
  const go = (at) => { select(at); svg.querySelector(`[data-at="${at}"]`).focus(); };
  const svg = drawTree(tree, select);
  svg.addEventListener("keydown", (event) => {
    const at = Number(event.target.dataset?.at);
    const beside = (by) => nodes.findIndex((node, i) => i && node.x === nodes[at].x && node.row === nearest(nodes, at, by));
    const moves = { ArrowLeft: () => nodes[at].parent, ArrowRight: () => nodes[at].children[0], ArrowUp: () => beside(-1), ArrowDown: () => beside(1) };
    if (!at || !(event.key in moves)) return;
    event.preventDefault();
    const to = moves[event.key]();
    if (to > 0) go(to);
  });
  const shade = (name) => {
    const chosen = PAINTS.find((known) => known[0] === name), scale = paint(nodes, chosen);
    svg.querySelectorAll(".node").forEach((group) => {
      const { fill, strong } = scale.of(nodes[group.dataset.at]);
      group.firstChild.style.fill = fill;
      group.classList.toggle("strong", strong);
    });
    refill(key, legend(scale, chosen));
  };
  const key = h("div", {}), known = PAINTS.filter(([, , value]) => nodes.slice(1).some((node) => value(node) !== null));
  const colours = chips(known.map(([name, label]) => [name, label, ""]), known[0][0], shade);
  colours.setAttribute("aria-label", "Colour by");
  shade(known[0][0]);
  select(1);
  return [h("div", { class: "colours" }, h("span", {}, "Colour by"), colours, key),
    h("div", { class: "canvas", tabindex: "-1" }, svg), detail];
}

const nearest = (nodes, at, by) => {
  const rows = nodes.filter((node, i) => i && node.x === nodes[at].x).map((node) => node.row);
  const beyond = rows.filter((row) => Math.sign(row - nodes[at].row) === by);
  return by < 0 ? Math.max(...beyond) : Math.min(...beyond);
};

function nodeView(nodes, at, go) {
  const node = nodes[at], steps = pathTo(nodes, at);
  const names = { entropy: "H", value: "V", advantage: "A" }; // in the glossary
  const values = [["tokens", node.tokens], ["entropy", node.entropy.toFixed(3)], ["value", node.value === null ? null : signed(node.value)],
    ["advantage", node.advantage && (node.advantage.low === node.advantage.high ? signed(node.advantage.mean)
      : `${signed(node.advantage.low)} to ${signed(node.advantage.high)} by leaf`)],
    [node.ended ? "reward" : "mean reward below", signed(node.reward, 2)], ["ended by", node.ended?.replace("_", " ")], ["chain", node.group]];
  return [h("nav", { class: "path", "aria-label": "Path from the prompt" }, "prompt", steps.map((step) => [" › ",
      step === at ? h("b", {}, `turn ${step}`) : h("button", { type: "button", onclick: () => go(step) }, `turn ${step}`)])),
    h("dl", { class: "values" }, values.filter(([, value]) => value !== null && value !== undefined).map(([name, value]) => h("div", {}, h("dt", { title: about(names[name]) }, name), h("dd", {}, value)))),
    h("div", { class: `turn ${node.kind}` }, action(node.text)),
    node.observation.trim() ? h("details", { class: "whole", open: true }, h("summary", {}, "what came back"), h("p", {}, said(node.observation.trim()))) : null,
  ];
}

function trainingHead(head) {
  const { before, after, gain, label, share, task } = head.result ?? {};
  const change = (value) => share ? signed(100 * value, 1) : signed(value);
  const hero = gain && h("div", { class: "hero" }, h("p", { class: "label" }, label),
    h("p", { class: "big" }, share ? [(100 * after).toFixed(1), h("small", {}, " %")] : number(after)),
    h("p", { class: "interval" }, `from ${share ? percent(before) : number(before)}: ${change(gain.mean)}${share ? " points" : ""}, 95 % paired interval ${change(gain.low)} to ${change(gain.high)}, ${count(gain.n, task)}`));
  refill(byId("head"), heading(head), h("div", { class: "numbers" }, hero), h("div", { class: "charts" }, head.charts.map(plot)), facts(head.facts));
}

function treeRow(item) {
  return [icon(item.verdict, item.verdict), h("div", { class: "lines" }, h("p", { class: "question" }, said(item.question)),
    h("p", { class: "answer" }, `step ${item.step} · ${count(item.leaves, "leaf", "leaves")}, ${item.right} rewarded`, item.gold ? [" · gold ", said(item.gold)] : null))];
}

async function openTree(item) {
  const mine = ++asked;
  const tree = (await chunk(item.chunk))[item.at];
  if (mine !== asked) return;
  reader.show(h("p", { class: "eyebrow" }, `step ${item.step}, tree ${item.index} · `, said(item.id)), h("h2", {}, said(item.question)),
    tree.answers.length ? h("p", { class: "golds" }, h("i", {}, "gold "), tree.answers.map((answer, at) => [at ? h("i", {}, " or ") : null, said(answer)])) : null,
    h("details", { class: "prompt" }, h("summary", {}, "What the model read first"), h("p", {}, said(tree.prompt))), treeView(tree));
}

function training(head) {
  trainingHead(head);
  const items = head.trees;
  for (const item of items) item.text = `${item.question} ${item.gold} ${item.id} step ${item.step}`.toLowerCase();
  const tally = (name) => items.filter((item) => item.verdict === name).length;
  bench({
    items, label: "Trees", row: treeRow, open: openTree, text: (item) => item.text, name: (item) => `${item.step}/${item.index}`,
    filters: [["all", "All", items.length], ["mixed", "With signal", tally("mixed")], ["correct", "All right", tally("correct")], ["wrong", "All wrong", tally("wrong")]],
    fits: (item, filter) => filter === "all" || item.verdict === filter,
    order: { "last steps first": null, "first steps first": (a, b) => a.step - b.step || a.index - b.index, "most leaves first": (a, b) => b.leaves - a.leaves },
  });
}
