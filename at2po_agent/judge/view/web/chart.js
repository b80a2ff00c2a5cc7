// Curves with axes: lines, bands of their intervals, and the values under the pointer or at the arrow keys.

const LINES = ["#2f6fdb", "#c8502a", "#1f8a5b", "#8a52c4", "#b08900", "#c2447e", "#3b8ea5", "#7a7f87", "#a0522d", "#4f7f1f"];
const BOX_OF = { width: 440, height: 250, left: 52, right: 10, top: 10, bottom: 40 };

/** Round numbers that span a range: 1, 2 or 5 times a power of ten apart. */
function ticks(low, high, most = 5) {
  const span = high - low || Math.abs(high) || 1, raw = span / most, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((by) => by * power).find((by) => by >= raw * 0.999);
  const first = Math.ceil(low / step - 1e-9), last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, at) => (first + at) * step);
}

const short = (value) => Math.abs(value) >= 1e6 ? `${+(value / 1e6).toFixed(2)} M` : Math.abs(value) >= 1e4 ? `${+(value / 1e3).toFixed(1)} k`
  : String(+value.toPrecision(4));

/** What the axes span, with some air above and below. */
function extent(series) {
  const points = series.flatMap((one) => one.points), xs = points.map(([x]) => x);
  const ys = points.flatMap(([, y, low, high]) => [y, low ?? y, high ?? y]);
  const low = Math.min(...ys), high = Math.max(...ys), air = (high - low) * 0.06 || Math.abs(high) * 0.1 || 0.5;
  return { left: Math.min(...xs), right: Math.max(...xs), low: low - (low < 0 || low - air >= 0 ? air : low), high: high + air };
}

/** A chart of `series`: [{name, points: [[x, y] or [x, mean, low, high]]}]; `x` names the axis, `meaning` is a tooltip. */
function plot({ label, x: axis, share, series, meaning }) {
  const box = BOX_OF, range = extent(series), shown = share ? percent : number;
  const x = (value) => box.left + ((value - range.left) / (range.right - range.left || 1)) * (box.width - box.left - box.right);
  const y = (value) => box.top + (1 - (value - range.low) / (range.high - range.low)) * (box.height - box.top - box.bottom);
  const at = (values) => values.map(([a, b]) => `${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("L");
  const base = box.height - box.bottom;
  const grid = ticks(range.low, range.high).map((value) => [s("path", { class: "scale", d: `M${box.left} ${y(value).toFixed(1)}H${box.width - box.right}` }),
    s("text", { x: box.left - 6, y: y(value) + 4, "text-anchor": "end" }, share ? `${+(100 * value).toFixed(2)} %` : short(value))]);
  const below = ticks(range.left, range.right).map((value) => [s("path", { class: "scale", d: `M${x(value).toFixed(1)} ${base}v4` }),
    s("text", { x: x(value), y: base + 16, "text-anchor": "middle" }, short(value))]);
  const line = ({ points }, i) => {
    const colour = LINES[i % LINES.length], banded = points.filter((point) => point.length > 2);
    const band = banded.length > 1 && s("path", { class: "band", fill: colour,
      d: `M${at(banded.map(([a, , low]) => [a, low]))}L${at(banded.map(([a, , , high]) => [a, high]).reverse())}Z` });
    return [band, points.length > 1 && s("path", { class: "line", stroke: colour, "stroke-dasharray": i < LINES.length ? null : "5 3", d: `M${at(points)}` }),
      ...(points.length < 30 ? points : []).map(([a, b]) => s("circle", { cx: x(a).toFixed(1), cy: y(b).toFixed(1), r: 2.2, fill: colour }))];
  };
  const mark = s("path", { class: "mark", d: "" }), values = h("p", { class: "values-at", "aria-live": "polite" });
  const places = [...new Set(series.flatMap((one) => one.points.map(([a]) => a)))].sort((a, b) => a - b);
  const last = ({ points }) => points.at(-1);
  const nearest = (points, place) => points.reduce((best, point) => (Math.abs(point[0] - place) < Math.abs(best[0] - place) ? point : best));
  let chosen = -1;
  const show = (index) => {
    chosen = index;
    const place = places[index];
    mark.setAttribute("d", index < 0 ? "" : `M${x(place).toFixed(1)} ${box.top}V${base}`);
    const entry = (one, i) => {
      const [, mean, low, high] = index < 0 ? last(one) : nearest(one.points, place);
      const interval = low === undefined ? "" : ` (${shown(low)} – ${shown(high)})`;
      return h("span", {}, swatch(i), series.length > 1 ? [said(one.name), " "] : null, h("b", {}, shown(mean)), interval);
    };
    refill(values, h("span", { class: "where" }, `${axis} ${short(index < 0 ? range.right : place)}`), series.map(entry));
  };
  const pick = (event) => {
    const frame = svg.getBoundingClientRect(), place = ((event.clientX - frame.left) / frame.width) * box.width;
    show(places.reduce((best, value, i) => (Math.abs(x(value) - place) < Math.abs(x(places[best]) - place) ? i : best), 0));
  };
  const key = (event) => {
    const to = { ArrowLeft: chosen < 0 ? places.length - 1 : chosen - 1, ArrowRight: chosen + 1, Escape: -1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    show(event.key === "Escape" ? -1 : Math.max(0, Math.min(places.length - 1, to)));
  };
  const svg = s("svg", { class: "plot", viewBox: `0 0 ${box.width} ${box.height}`, role: "img", tabindex: "0",
                         "aria-label": `${label} against ${axis}; arrow keys read its values`, onpointermove: pick, onpointerdown: pick,
                         onpointerleave: () => show(-1), onkeydown: key },
    grid, below, s("path", { class: "scale", d: `M${box.left} ${base}H${box.width - box.right}` }),
    s("text", { x: (box.left + box.width - box.right) / 2, y: box.height - 6, "text-anchor": "middle" }, axis), series.map(line), mark);
  show(-1);
  return h("figure", { class: "chart" }, h("figcaption", { title: meaning }, label), svg, values);
}

const swatch = (i) => {
  const dot = h("i", { class: "swatch", "aria-hidden": "true" });
  dot.style.background = LINES[i % LINES.length];
  return dot;
};
