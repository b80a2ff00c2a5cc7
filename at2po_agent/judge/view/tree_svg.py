"""A tree as an SVG drawing: every turn with its action, entropy, value, advantage and reward.

Time runs from the left: a column holds the turns of one depth, a row one leaf. The texts fit into their boxes in the
usual sans-serif fonts, and long ones are cut.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from at2po_agent.judge.view.page_trees import tree_view
from at2po_agent.method.tree import ROOT, TurnTree
from at2po_agent.terminal import harmless
from at2po_agent.training.stored_trees import tree_record
from at2po_env.tasks import Task

_WIDTH, _INNER, _LEAF = 200, 84, 68  # width of a box, and its height
_COLUMN, _ROW = 232, 96  # from one box to the next
_LEFT, _TOP, _MARGIN = 40, 62, 16
_LEGEND, _LEGEND_COLUMN = 76, 224  # height below the boxes, and from one entry to the next
_EM = 0.56  # mean width of a character of a sans-serif font, in font sizes
_TAG = re.compile(r"</?[\w.-]+>")
_KEY = "H entropy, nats a token (the bar) · V value, of the normalised rewards below it · A advantage"


@dataclass(frozen=True)
class _Colours:
    """The colours of one scheme: those of ``web/page.css``, on the white or the black of code hosts."""

    page: str
    ink: str
    quiet: str
    node: str
    line: str
    minus: str
    plus: str
    level: str
    good: str
    bad: str


_LIGHT = _Colours(
    "#ffffff", "#1a1c1f", "#5b5f66", "#f4f4f0", "#b9b9b0", "#c25a13", "#1667a8", "#7a3fb0", "#12713f", "#b3261e"
)
_DARK = _Colours(
    "#0d1117", "#e9e9e6", "#a5a9b0", "#22262c", "#555b63", "#e0812f", "#4a9be0", "#b48ae0", "#5cc98d", "#ff8a80"
)


def draw_tree(
    tree: TurnTree,
    task: Task,
    advantages: Sequence[Sequence[float]],
    decode: Callable[[Sequence[int]], str],
    *,
    values: Sequence[float] | None = None,
    dark: bool = False,
) -> str:
    """Draw a grown tree as SVG; ``IPython.display.SVG`` shows it in a notebook.

    Args:
        tree: grown, pruned and scored.
        task: that it is of.
        advantages: [leaf][turn], from the credit.
        decode: token ids to text.
        values: [node] ``V(n)``, where the credit has values.
        dark: light text on a dark page.
    """
    record = tree_record(
        tree, question=task.text, answers=task.answers, advantages=advantages, values=values, decode=decode
    )
    return tree_svg(record, dark=dark)


def tree_svg(record: Mapping[str, Any], *, dark: bool = False) -> str:
    """Draw a stored tree, a record of ``find_tree``, as SVG."""
    colours = _DARK if dark else _LIGHT
    nodes: list[dict[str, Any]] = tree_view(record)["nodes"]
    tree = TurnTree.from_json(record["tree"])
    again, places = _sampled_again(tree), _places(tree)
    columns, rows = max(column for column, _ in places), sum(node["ended"] is not None for node in nodes)
    # The legend needs three boxes, however small the tree.
    width = _LEFT + max(columns, 3) * _COLUMN - (_COLUMN - _WIDTH) + _MARGIN
    height = _TOP + rows * _ROW + _LEGEND
    inside, scales = width - 2 * _MARGIN, _scales(nodes)
    gold = f"gold answer: {' | '.join(record['answers'])}" if record["answers"] else ""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:g}" width="{width}" height="{height:g}" '
        f'role="img" font-family="system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif" '
        f'font-size="12" fill="{colours.ink}">',
        f"<title>{escape(_plain(record['question']))}</title>",
        f'<rect width="{width}" height="{height:g}" rx="8" fill="{colours.page}"/>',
        _text(_MARGIN, 26, record["question"], 'font-size="16" font-weight="600"', _room(inside, 16, bold=True)),
        _text(_MARGIN, 45, gold, f'fill="{colours.quiet}"', _room(inside)),
    ]
    for n, node in enumerate(nodes[1:], start=1):
        parts.append(_link(places[node["parent"]], places[n], node["parent"] == ROOT, n in again, colours))
    x, y = _LEFT - 18, _middle(places[ROOT])
    parts.append(f'<circle cx="{x}" cy="{y:g}" r="6" fill="{colours.ink}"/>')
    parts += (_box(node, place, scales, colours) for node, place in zip(nodes[1:], places[1:], strict=True))
    return "\n".join([*parts, _legend(height - _LEGEND, width, bool(again), colours), "</svg>\n"])


def _sampled_again(tree: TurnTree) -> set[int]:
    """The turns with which a later path begins, after those that the first proposal started at the root."""
    chains = len(tree.proposals[0]) if tree.proposals else len(tree[ROOT].children)
    later = [node.children[chains if n == ROOT else 1 :] for n, node in enumerate(tree.nodes)]
    return {n for children in later for n in children}


def _places(tree: TurnTree) -> list[tuple[int, float]]:
    """Column and row of every node: leaves from the top, an inner turn in the middle of its children."""
    places: list[tuple[int, float]] = [(0, 0.0)] * len(tree)
    free = 0

    def place(n: int, column: int) -> float:
        nonlocal free
        rows = [place(child, column + 1) for child in tree[n].children]
        row = (rows[0] + rows[-1]) / 2 if rows else float(free)
        free += not rows
        places[n] = (column, row)
        return row

    place(ROOT, 0)
    return places


def _left(place: tuple[int, float]) -> float:
    return _LEFT + (place[0] - 1) * _COLUMN


def _middle(place: tuple[int, float]) -> float:
    return _TOP + (place[1] + 0.5) * _ROW


def _link(parent: tuple[int, float], child: tuple[int, float], first: bool, again: bool, colours: _Colours) -> str:
    x, y, to_x, to_y = _left(parent) + _WIDTH, _middle(parent), _left(child), _middle(child)
    if first:
        x = _LEFT - 12
    half = (x + to_x) / 2
    look = f'stroke="{colours.level}" stroke-dasharray="5 3"' if again else f'stroke="{colours.line}"'
    curve = f"M{x:g} {y:g}C{half:g} {y:g} {half:g} {to_y:g} {to_x:g} {to_y:g}"
    return f'<path d="{curve}" fill="none" stroke-width="1.8" {look}/>'


def _scales(nodes: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """The largest absolute advantage and the largest entropy of a tree's turns; 1 where all are 0."""
    advantages = (abs(node["advantage"]["mean"]) for node in nodes if node["advantage"])
    return max(advantages, default=0.0) or 1.0, max(node["entropy"] for node in nodes) or 1.0


def _box(node: Mapping[str, Any], place: tuple[int, float], scales: tuple[float, float], colours: _Colours) -> str:
    leaf = node["ended"] is not None
    height, inside = _LEAF if leaf else _INNER, _WIDTH - 24
    x, y, small = _left(place), _middle(place) - height / 2, _room(inside, 11)
    advantage = node["advantage"]["mean"] if node["advantage"] else 0.0
    strength, sign = abs(advantage) / scales[0], colours.minus if advantage < 0 else colours.plus
    parts = [
        f'<rect x="{x:g}" y="{y:g}" width="{_WIDTH}" height="{height}" rx="6" '
        f'fill="{_mixed(colours.node, sign, 0.3 * strength)}" stroke="{_mixed(colours.line, sign, strength)}"/>',
        _text(x + 12, y + 19, f"{node['kind']} {node['label']}", 'font-weight="600"', _room(inside, bold=True)),
    ]
    if leaf:
        colour = colours.good if node["reward"] > 0 else colours.bad
        look = f'fill="{colour}" font-size="11" font-weight="600"'
        parts.append(_text(x + 12, y + 36, _reward(node), look, small))
    else:
        lines = _two_lines(_plain(_TAG.sub(" ", node["observation"])), small)
        look = f'fill="{colours.quiet}" font-size="11"'
        parts += (_text(x + 12, y + 35 + 14 * at, line, look, small) for at, line in enumerate(lines))
    parts.append(_text(x + 12, y + height - 15, _numbers(node), 'font-size="11"', small))
    bar = inside * node["entropy"] / scales[1]
    # A shorter one would be a speck.
    if bar >= 2:
        look = f'width="{bar:.1f}" height="3" rx="1.5" fill="{colours.level}"'
        parts.append(f'<rect x="{x + 12:g}" y="{y + height - 8:g}" {look}/>')
    return "\n".join(parts)


def _reward(node: Mapping[str, Any]) -> str:
    why = "" if node["ended"] in ("answer", "done") else f", {node['ended'].replace('_', ' ')}"
    return f"{'✓' if node['reward'] > 0 else '✗'} reward {node['reward']:g}{why}".replace("-", "−")


def _numbers(node: Mapping[str, Any]) -> str:
    numbers = [f"H {node['entropy']:.2f}"]
    if node["value"] is not None:
        numbers.append(f"V {_signed(node['value'])}")
    if node["advantage"]:
        numbers.append(f"A {_advantage(node['advantage'])}")
    return " · ".join(numbers)


def _advantage(advantage: Mapping[str, float]) -> str:
    low, high = _signed(advantage["low"]), _signed(advantage["high"])
    return low if low == high else f"{low} to {high}"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _legend(top: float, width: float, again: bool, colours: _Colours) -> str:
    lines = [(colours.line, "", "first chains"), *([(colours.level, "5 3", "a turn sampled again")] if again else [])]
    shown, x = [], float(_MARGIN)
    for colour, dashes, text in lines:
        shown.append(
            f'<path d="M{x:g} {top + 22:g}h24" stroke="{colour}" stroke-width="1.8" stroke-dasharray="{dashes}"/>'
        )
        shown.append(_text(x + 32, top + 26, text, "", _room(_LEGEND_COLUMN)))
        x += _LEGEND_COLUMN
    x = float(_MARGIN)
    for colour, text in ((colours.plus, "A above 0: made likelier"), (colours.minus, "A below 0: made rarer")):
        fill = _mixed(colours.node, colour, 0.3)
        shown.append(
            f'<rect x="{x:g}" y="{top + 35:g}" width="24" height="12" rx="3" fill="{fill}" stroke="{colour}"/>'
        )
        shown.append(_text(x + 32, top + 45, text, "", _room(_LEGEND_COLUMN)))
        x += _LEGEND_COLUMN
    shown.append(_text(_MARGIN, top + 65, _KEY, 'font-size="11"', _room(width - 2 * _MARGIN, 11)))
    return f'<g fill="{colours.quiet}">' + "\n".join(shown) + "</g>"


def _mixed(start: str, end: str, share: float) -> str:
    """The colour a ``share`` of the way from ``start`` to ``end``, all as ``#rrggbb``."""
    pairs = zip(bytes.fromhex(start[1:]), bytes.fromhex(end[1:]), strict=True)
    return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in pairs)


def _text(x: float, y: float, text: str, look: str, room: float) -> str:
    return f'<text x="{x:g}" y="{y:g}" {look}>{escape(_fitting(_plain(text), room))}</text>'


def _room(width: float, size: float = 12, bold: bool = False) -> float:
    """How many characters of usual width fit into ``width``."""
    return width / (size * _EM * (1.12 if bold else 1))


def _plain(text: str) -> str:
    """``text`` on one line, without characters that XML forbids."""
    return harmless(" ".join(text.split())).translate({0xFFFE: "�", 0xFFFF: "�"})


def _two_lines(text: str, room: float) -> tuple[str, str]:
    """``text`` broken before a word where it fills a line; the rest stands on the second."""
    first = _fitting(text, room)
    if first == text:
        return text, ""
    at = first.rfind(" ")
    at = at if at > 0 else len(first) - 1
    return text[:at], text[at:].lstrip()


def _fitting(text: str, room: float) -> str:
    """``text``, cut to ``room`` characters of usual width; East Asian ones are nearly twice as wide."""
    used = 0.0
    for at, character in enumerate(text):
        used += 1.8 if unicodedata.east_asian_width(character) in "WF" else 1.0
        if used > room:
            return f"{text[: max(0, at - 1)].rstrip()}…"
    return text
