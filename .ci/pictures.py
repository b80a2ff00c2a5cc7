"""Make the pictures of the README and the documentation from real runs, light and dark: ``make pictures``.

All are of seed 0 on MicroWiki with the settings of ``--cfg quickstart``. Two trainings and an
evaluation are written into RUNS (default: ``runs/pictures``), and used again where they are there already:

``quickstart``   36 steps with an evaluation every fourth: the learning curve, and the page of a training run
``small-trees``  4 steps with trees of two chains and two branches: the drawn tree, see ``small_tree``
``evaluation``   the last checkpoint of ``quickstart`` on 200 test questions: the page of an evaluation

Chromium, which must be installed, photographs the pages.
"""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib
from matplotlib.figure import Figure
from PIL import Image
from playwright.sync_api import Browser, ViewportSize, sync_playwright

from at2po_agent.commands.main import main as at2po_agent
from at2po_agent.judge.results.stored import Finished
from at2po_agent.method.tree import ROOT, TurnTree
from at2po_agent.training.metrics import Scores
from at2po_agent.training.run_dir import evaluation_files, read_metrics, read_trees, step_of, tree_files
from at2po_agent.training.stored_files import read_value
from at2po_agent.training.stored_types import check_scores

ROOT_DIR = Path(__file__).parents[1]
PICTURES = ROOT_DIR / "docs" / "pictures"
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
LONG = ("train.steps=36", "eval.questions=300", "eval.every=4", "log.trees_every=9")
SMALL = (
    "train.steps=4",
    "eval.questions=0",
    "log.trees_every=4",
    "algorithm.expansion={chains: 2, per_round: 2, rounds: 1}",
)
# Page, ink, quiet ink, grid, line: those of the drawn trees and of the pages.
COLOURS = {
    "light": ("#ffffff", "#1a1c1f", "#5b5f66", "#e3e3dc", "#1667a8"),
    "dark": ("#0d1117", "#e9e9e6", "#a5a9b0", "#2d3034", "#4a9be0"),
}


def command(*words: str | Path) -> None:
    """Run ``at2po-agent`` with ``words``, and stop where it fails."""
    if status := at2po_agent([str(word) for word in words]):
        sys.exit(status)


def trained(run: Path, settings: Sequence[str]) -> Path:
    """The directory of a finished training run."""
    if not run.is_dir():
        command("train", "--cfg", "quickstart", f"run_dir={run}", "processes=1", "train.max_seconds=null", *settings)
    return run


def evaluated(run: Path, out: Path) -> Path:
    """The directory of an evaluation of a run's last checkpoint."""
    if not out.is_dir():
        command("eval", "-m", run, "-n", "200", f"out={out}")
    return next(out.glob("*/episodes.jsonl")).parent


def small_tree(records: Sequence[Mapping[str, Any]]) -> int:
    """The index of the tree to draw: the first with three turns at most, mixed rewards, and no branch at its root."""
    for index, record in enumerate(records):
        tree = TurnTree.from_json(record["tree"])
        leaves = [tree[leaf] for leaf in tree.leaves]
        mixed = len({leaf.reward for leaf in leaves}) > 1
        if mixed and max(leaf.depth for leaf in leaves) == 3 and len(tree[ROOT].children) == len(tree.proposals[0]):
            return index
    sys.exit("no tree of this step is fit to be drawn")


def draw_tree(run: Path) -> None:
    """``tree-SCHEME.svg``, by ``show-tree --svg``."""
    index = small_tree(read_trees(tree_files(run)[-1]))
    for scheme in SCHEMES:
        dark = ["--dark"] if scheme == "dark" else []
        command("show-tree", run, "--index", str(index), "--svg", PICTURES / f"tree-{scheme}.svg", *dark)


def draw_curve(run: Path) -> None:
    """``curve-SCHEME.svg``: exact match on test questions with its interval, and of the trees that were trained on."""
    evaluations: list[Scores] = [read_value(file, check_scores) for file in evaluation_files(run)]
    intervals = [scores.interval() for scores in evaluations]
    steps = [scores.step for scores in evaluations]
    training = [(line["step"], 100 * line["em"]) for line in read_metrics(run) if line.get("em") is not None]
    for scheme, (page, ink, quiet, grid, accent) in COLOURS.items():
        with matplotlib.rc_context(
            {"svg.fonttype": "none", "svg.hashsalt": "at2po", "text.color": ink, "axes.labelcolor": quiet}
        ):
            figure = Figure(figsize=(7.2, 3.6), facecolor=page, layout="constrained")
            axes = figure.add_subplot(facecolor=page)
            axes.plot(
                *zip(*training, strict=True),
                ".",
                color=quiet,
                markersize=5,
                label="leaves of the training trees, sampled",
            )
            low, high = [100 * one.low for one in intervals], [100 * one.high for one in intervals]
            axes.fill_between(steps, low, high, color=accent, alpha=0.2, linewidth=0)
            held_out = f"{intervals[-1].n} test questions, greedy, with 95 % interval"
            axes.plot(steps, [100 * one.mean for one in intervals], "o-", color=accent, markersize=4, label=held_out)
            axes.set(xlabel="training step", ylabel="exact match, %", ylim=(0, 100), xticks=steps)
            axes.set_title(
                "AT²PO on MicroWiki: a policy of 880,000 parameters, seed 0", color=ink, loc="left", fontsize=12
            )
            axes.grid(color=grid)
            axes.tick_params(colors=quiet)
            axes.spines[:].set_visible(False)
            axes.legend(frameon=False, loc="upper left")
            figure.savefig(PICTURES / f"curve-{scheme}.svg", metadata={"Date": None, "Creator": None})


def branching_tree(records: Sequence[Mapping[str, Any]]) -> int:
    """The index of the tree to show on its page: with mixed rewards, and most branches below its root."""

    def branches(record: Mapping[str, Any]) -> int:
        tree = TurnTree.from_json(record["tree"])
        mixed = len({tree[leaf].reward for leaf in tree.leaves}) > 1
        return mixed * sum(len(tree[n].children) - 1 for n in tree.inner_turns())

    return max(range(len(records)), key=lambda index: branches(records[index]))


def photograph(browser: Browser, page: Path, name: str, link: str = "", top: str = "#head") -> None:
    """``NAME-SCHEME.png`` of a page, opened at ``link``, from the element ``top`` down."""
    for scheme in SCHEMES:
        screen = ViewportSize(width=1280, height=1080)
        context = browser.new_context(viewport=screen, color_scheme=scheme, device_scale_factor=1.5)
        tab = context.new_page()
        tab.goto(page.as_uri() + link)
        tab.wait_for_selector("#reader h2")
        tab.locator(top).evaluate("place => scrollTo(0, place.getBoundingClientRect().top + scrollY)")
        shot = Image.open(io.BytesIO(tab.screenshot())).convert("RGB")
        context.close()
        # Pages have few colours: a palette is a third of the size, and looks the same.
        few = shot.quantize(128, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        few.save(PICTURES / f"{name}-{scheme}.png", optimize=True)


def photograph_pages(browser: Browser, runs: Path, run: Path, evaluation: Path) -> None:
    """``tree-page`` and ``evaluation-page``, of what ``view --html`` writes."""
    trees, episodes = runs / "trees.html", runs / "evaluation.html"
    command("view", run, "--html", trees)
    command("view", evaluation, "--html", episodes)
    last = tree_files(run)[-1]
    photograph(browser, trees, "tree-page", f"#{step_of(last)}%2F{branching_tree(read_trees(last))}", "#bench")
    two_searches = next(one for one in Finished.read(evaluation).episodes if one.em == 1 and one.searches == 2)
    photograph(browser, episodes, "evaluation-page", f"#{two_searches.question_id}")


def main(runs: Path) -> None:
    """Make every picture."""
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("chromium is not installed")
    PICTURES.mkdir(exist_ok=True)
    small, run = trained(runs / "small-trees", SMALL), trained(runs / "quickstart", LONG)
    draw_tree(small)
    draw_curve(run)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        photograph_pages(browser, runs, run, evaluated(run, runs / "evaluation"))
        browser.close()
    for file in sorted(PICTURES.iterdir()):
        print(f"{file.stat().st_size / 1000:6.1f} kB  {file.relative_to(ROOT_DIR)}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT_DIR / "runs" / "pictures").resolve())
