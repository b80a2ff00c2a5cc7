// An evaluation: its numbers, its questions, and every transcript turn by turn.

const VERDICTS = { correct: "correct", wrong: "wrong", malformed: "malformed", cut: "cut at the token limit", error: "error" };
const ENDS = { malformed: "a turn had no usable action", search_limit: "it went on searching after the last search", turn_limit: "no turns left",
               length_limit: "no room left to generate" };
const SHARES = { em: "Exact match", f1: "F1", contains: "Contains gold", recall: "Gold titles found", malformed: "Malformed", cut: "Cut at the token limit" };
const AMOUNTS = { searches: "Searches", turns: "Turns", prompt_tokens: "Prompt tokens", completion_tokens: "Completion tokens",
                  seconds: "Seconds", cost: "Cost" };

function evaluationHead(head) {
  const { means, seconds_each } = head.summary, { first } = head, score = means[first.name];
  const tiles = [
    ...head.own.filter(({ name }) => name !== first.name && means[name]).map(({ name, words, share }) => measure(words, means[name], share, head.task, name)),
    ...Object.entries(SHARES).filter(([name]) => name !== first.name && means[name] && (name !== "cut" || means.cut.mean)).map(([name, label]) => measure(label, means[name], true, head.task, name)),
    ...Object.entries(head.summary.pass_at).filter(([k]) => k !== "1").map(([k, value]) => measure(`pass@${k}`, value, true, head.task, "pass@k")),
    ...Object.entries(AMOUNTS).filter(([name]) => name !== first.name && means[name]).map(([name, label]) => measure(label, means[name], false, head.task, name)),
    seconds_each === null ? null : sharedSeconds(seconds_each),
  ];
  const label = head.chains ? `${first.words} of one chain, mean@${head.chains}` : head.samples > 1 ? `${first.words}, mean@${head.samples}` : first.words;
  const shown = (value) => (first.share ? (100 * value).toFixed(1) : number(value));
  const hero = score && h("div", { class: "hero" }, h("p", { class: "label", title: about(first.name) }, label),
    h("p", { class: "big" }, shown(score.mean), first.share ? h("small", {}, " %") : null), first.share ? whisker(score) : null,
    h("p", { class: "interval" }, `95 % interval ${shown(score.low)} – ${shown(score.high)}, ${count(score.n, head.task)}`),
    head.chains ? h("p", { class: "interval" }, "These numbers are of the chains that each tree began with.") : null,
    head.summary.errors ? h("p", { class: "warning" }, `${count(head.summary.errors, "episode")} ended by infrastructure, not scored`) : null);
  refill(byId("head"), heading(head), h("div", { class: "numbers" }, hero, h("dl", { class: "measures" }, tiles)),
    treeResult(head), facts(head.facts));
}

/** Episodes of a local model run in batches: one has a share of its batch's time, which has no interval. */
const sharedSeconds = (value) => h("div", { class: "measure" }, h("dt", {}, "Seconds, of batches"), h("dd", {}, h("b", {}, number(value))));

function episodeRow(item) {
  const unanswered = Object.keys(item.metrics).length ? ENDS[item.ended] ?? item.ended : `no answer (${item.ended})`; // not every task wants one
  const answer = item.verdict === "error" ? item.error : item.prediction ?? unanswered;
  return [icon(item.verdict, VERDICTS[item.verdict]), h("div", { class: "lines" }, h("p", { class: "question" }, said(item.question)),
    h("p", { class: "answer" }, said(answer, item.verdict),
      item.verdict === "correct" || item.verdict === "error" || !item.gold ? null : [h("i", {}, " gold "), said(item.gold)],
      item.which ? h("i", {}, ` ${item.which}`) : null))];
}

// Tags stay to be seen, quietly; what stands between them is set by what it is.
const TAGS = /(<\/?(?:think|search|answer|tool_call)>)/;
function action(text) {
  const parts = [h("div", {})];
  for (const piece of text.trim().split(TAGS).filter(Boolean)) {
    if (TAGS.test(piece) && !piece.startsWith("</")) {
      parts.push(h("div", { class: piece.slice(1, -1) }));
    }
    parts.at(-1).append(TAGS.test(piece) ? h("span", { class: "tag" }, piece) : said(piece));
    if (piece.startsWith("</") && TAGS.test(piece)) parts.push(h("div", {}));
  }
  return h("div", { class: "action" }, parts.filter((part) => part.textContent.trim()));
}

function passage(hit, rank) {
  const name = [h("span", { class: "rank" }, rank + 1), said(hit.title || "untitled"),
    hit.gold ? h("span", { class: "gold" }, icon("star"), "gold") : null,
    hit.score === null ? null : h("span", { class: "score" }, hit.score.toFixed(2))];
  const kind = `passage${hit.gold ? " is-gold" : ""}`;
  if (hit.body === null) return h("p", { class: kind }, name, h("span", { class: "score" }, "not shown: no room"));
  return h("details", { class: kind }, h("summary", {}, name), h("p", {}, said(hit.body.trim())));
}

function observation(turn) {
  if (!turn.observation && !turn.hits.length) return null;
  const whole = (label) => h("details", { class: "whole" }, h("summary", {}, label), h("p", {}, said(turn.observation)));
  if (!turn.hits.length) return h("div", { class: "results" }, h("p", { class: "notice" }, said(turn.observation.trim())));
  return h("div", { class: "results" }, turn.hits.map(passage), whole("as the model read it"));
}

const HEADLINES = { search: "searches", call: "calls a tool", answer: "answers", malformed: "has no usable action" };
function turnView(turn, at) {
  const spent = [turn.completion_tokens && count(turn.completion_tokens, "token"), turn.seconds && `${turn.seconds.toFixed(1)} s`,
                 turn.finish === "length" && "cut at the length limit"].filter(Boolean).join(" · ");
  return h("li", { class: `turn ${turn.kind}` }, h("h3", {}, `Turn ${at + 1} `, h("span", {}, HEADLINES[turn.kind] ?? turn.kind),
      h("small", {}, spent)),
    turn.reasoning ? h("details", { class: "reasoning" }, h("summary", {}, "reasoning"), h("p", {}, said(turn.reasoning.trim()))) : null,
    action(turn.text), turn.why ? h("p", { class: "why" }, said(turn.why)) : null, observation(turn));
}

function verdict(item, episode) {
  const own = Object.entries(item.metrics).map(([name, value]) => `${name} ${Number.isInteger(value) ? value : number(value)}`);
  const scores = item.verdict === "error" ? null
    : h("span", { class: "scores" }, own.length ? own.join("  ") : `EM ${item.em}  F1 ${item.f1.toFixed(2)}`,
        episode.recall === null ? null : `  recall ${episode.recall.toFixed(2)}`);
  return h("div", { class: `verdict ${item.verdict}` }, h("h3", {}, icon(item.verdict), VERDICTS[item.verdict], scores),
    h("dl", {}, item.verdict === "error" ? [h("dt", {}, "Error"), h("dd", {}, said(item.error))]
      : own.length && item.prediction === null ? [h("dt", {}, "Ended"), h("dd", {}, ENDS[item.ended] ?? item.ended)]
      : [h("dt", {}, "Answer"), h("dd", {}, item.prediction === null ? h("i", {}, `none: ${ENDS[item.ended] ?? item.ended}`) : said(item.prediction))],
      episode.answers.length ? [h("dt", {}, "Gold"), h("dd", {}, episode.answers.map((answer, at) => [at ? h("i", {}, " or ") : null, said(answer)]))] : null,
      episode.gold_titles.length ? [h("dt", {}, "Gold titles"), h("dd", {}, episode.gold_titles.map((title, at) => [at ? h("i", {}, ", ") : null, said(title)]))] : null));
}

let asked = 0; // a slow chunk must not replace what was opened after it
async function openEpisode(item) {
  const mine = ++asked;
  const episode = (await chunk(item.chunk))[item.at];
  if (mine !== asked) return;
  reader.show(h("p", { class: "eyebrow" }, said(item.id), item.which && ` ${item.which}`), h("h2", {}, said(item.question)),
    verdict(item, episode),
    h("details", { class: "prompt" }, h("summary", {}, "What the model read first"), h("p", {}, said(episode.prompt))),
    h("ol", { class: "turns" }, episode.turns.map(turnView)));
}

function evaluation(head) {
  evaluationHead(head);
  const items = head.episodes, low = (item) => (head.own.length ? item.score : item.f1) ?? Infinity;
  for (const item of items) item.which = head.samples > 1 ? `${head.chains ? "path" : "sample"} ${item.sample + 1}` : "";
  for (const item of items) item.text = `${item.question} ${item.gold} ${item.prediction ?? ""} ${item.id}`.toLowerCase();
  const tally = (name) => items.filter((item) => item.filters.includes(name)).length;
  bench({
    items, label: "Episodes", row: episodeRow, open: openEpisode, text: (item) => item.text,
    name: (item) => (item.sample ? `${item.id}/${item.sample + 1}` : item.id),
    filters: [["all", "All", items.length], ...head.filters.map((name) => [name, name[0].toUpperCase() + name.slice(1), tally(name)])],
    fits: (item, filter) => filter === "all" || item.filters.includes(filter),
    order: { "in order": null, [head.own.length ? `lowest ${head.first.title} first` : "lowest F1 first"]: (a, b) => low(a) - low(b), "most turns first": (a, b) => b.turns - a.turns,
             "most tokens first": (a, b) => b.tokens - a.tokens },
  });
}
