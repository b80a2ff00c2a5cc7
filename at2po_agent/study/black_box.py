"""Trees beside chains at test time: exact match against generated tokens, of evaluations with ``--tree``.

Every way to answer is measured on the same questions of an evaluation, with the paths that it has sampled:

- ``n`` chains: the mean over all disjoint groups of ``n`` among the ``M`` chains that a question's tree began with, so
  that no group is chosen by what it cost. One chain is ``n = 1``.
- a tree after round ``r``: its first ``M + K·r`` leaves.
- chains at equal tokens: as many of all the question's chains as the tokens of its tree after round ``r`` pay for.
- any evaluation of the same model without ``--tree``, such as a greedy one: the mean over its samples.

Several paths answer by majority (``judge.tree.voting``). The unit is the question; differences are paired by question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from at2po_agent.intervals import Interval, paired_share_interval, share_interval
from at2po_agent.judge.episodes.records import EpisodeRecord
from at2po_agent.judge.results.manifest import changes
from at2po_agent.judge.results.metrics import by_question
from at2po_agent.judge.results.stored import Finished
from at2po_agent.judge.tree.search import sampled
from at2po_agent.judge.tree.voting import Candidate, Sampled, best, voted, within
from at2po_agent.method.expansion import EntropyGuided
from at2po_agent.settings import ConfigError
from at2po_agent.study.statistics import FAMILY


@dataclass(frozen=True)
class Way:
    """One way to answer, on every question of an evaluation."""

    name: str
    em: tuple[float, ...]  # [questions] of the majority's answer
    oracle: tuple[float, ...]  # [questions] of the best path: no vote can be better
    tokens: float  # generated, mean per question
    paths: float  # mean per question

    @classmethod
    def of(cls, name: str, groups: Sequence[Sequence[Sequence[Candidate]]]) -> Way:
        """Answer every question with each of its groups of paths, and take the mean.

        Args:
            name: of the way.
            groups: [questions][groups] of paths.
        """
        return cls(
            name,
            tuple(fmean(map(voted, of_question)) for of_question in groups),
            tuple(fmean(map(best, of_question)) for of_question in groups),
            fmean(fmean(sum(path.tokens for path in paths) for paths in of_question) for of_question in groups),
            fmean(fmean(map(len, of_question)) for of_question in groups),
        )


@dataclass(frozen=True)
class Ways:
    """Chains, votes and trees on the same questions."""

    chains: tuple[Way, ...]  # of 1, 2, 4, … and all chains that a tree begins with
    trees: tuple[Way, ...]  # after each round
    matched: tuple[Way, ...]  # chains at the tokens of each of the trees
    others: tuple[Way, ...] = ()  # of evaluations without trees

    @classmethod
    def of(cls, questions: Sequence[Sampled], shape: EntropyGuided, others: Sequence[Way] = ()) -> Ways:
        """Answer questions in every way that a tree of this shape and its chains allow."""
        first = shape.chains
        numbers = sorted({first, *(2**power for power in range(first.bit_length()))})
        chains = [
            Way.of("1 chain" if n == 1 else f"{n} chains", [_groups(one.chains[:first], n) for one in questions])
            for n in numbers
        ]
        sizes = [first + shape.per_round * number for number in range(1, shape.rounds + 1)]
        trees = [Way.of(f"tree of {size} leaves", [[one.leaves[:size]] for one in questions]) for size in sizes]
        matched = [
            Way.of(
                f"chains, tokens of {size} leaves",
                [[within(one.chains, _tokens(one.leaves[:size]))] for one in questions],
            )
            for size in sizes
        ]
        return cls(tuple(chains), tuple(trees), tuple(matched), tuple(others))


@dataclass(frozen=True)
class TreeEvaluation:
    """An evaluation with ``--tree``, and every way to answer its questions."""

    run: Finished
    shape: EntropyGuided
    ways: Ways
    questions: int  # with a whole tree
    errors: int  # questions that were begun and have no whole tree, never counted as 0

    @classmethod
    def of(cls, run: Finished, shape: EntropyGuided, others: Sequence[Finished] = ()) -> TreeEvaluation:
        """Answer the questions of an evaluation with trees, also in the ways of others of its model.

        Raises:
            ConfigError: no question has a whole tree, or another evaluation lacks a question that has one.
        """
        whole = sampled(run.episodes, shape)
        if not whole:
            raise ConfigError(
                f"{run.path} has no question with a complete tree; continue with: at2po-agent eval --resume {run.path}"
            )
        begun = {episode.question_id for episode in run.episodes}
        ways = Ways.of(list(whole.values()), shape, [_without_tree(other, list(whole)) for other in others])
        return cls(run, shape, ways, len(whole), len(begun - set(whole)))

    @property
    def asked(self) -> int:
        """Questions that the evaluation is of, recorded or not."""
        return max(len(self.run.manifest.get("questions", ())), self.questions + self.errors)


@dataclass(frozen=True)
class Difference:
    """A way less another on the same questions."""

    of: TreeEvaluation
    way: Way
    other: Way
    em: Interval
    oracle: Interval


def read_evaluations(paths: Sequence[Path]) -> list[TreeEvaluation]:
    """Read evaluations with trees, each with those without that asked the same of the same model.

    Raises:
        RunDirError: a directory is none of an evaluation, or something in it cannot be read.
        ConfigError: one without trees belongs to none that has them, or one cannot be compared (see ``of``).
    """
    runs = [Finished.read(path, texts=False) for path in paths]
    grown = [(run, run.tree) for run in runs if run.tree is not None]
    others = [run for run in runs if run.tree is None]
    for other in others:
        if not any(_asks_the_same(run, other) for run, _ in grown):
            raise ConfigError(
                f"{other.path} was made without --tree, and no evaluation with --tree here has its model, environment, "
                "data, dialect and limits"
            )
    return [TreeEvaluation.of(run, tree, [one for one in others if _asks_the_same(run, one)]) for run, tree in grown]


_FREE = ("tree", "questions", "samples", "sampling")  # of a manifest, beside circumstances


def _asks_the_same(run: Finished, other: Finished) -> bool:
    first, second = ({key: value for key, value in one.manifest.items() if key not in _FREE} for one in (run, other))
    return not changes(first, second)


def _without_tree(run: Finished, questions: Sequence[str]) -> Way:
    """An evaluation without trees, on these questions."""
    scored = by_question(run.episodes)
    if missing := [question for question in questions if question not in scored]:
        raise ConfigError(
            f"{run.path} has no score of {len(missing):,} of {len(questions):,} questions that have trees, such as "
            f"{missing[0]}; evaluate these too"
        )
    temperature = run.manifest.get("sampling", {}).get("temperature") or 0
    return Way.of(f"1 chain, temperature {temperature:g}", [[[_path(one)] for one in scored[id]] for id in questions])


def _path(episode: EpisodeRecord) -> Candidate:
    assert episode.score is not None
    return Candidate(episode.prediction, episode.score, logprob=0.0, tokens=episode.completion_tokens or 0)


def tree_differences(evaluations: Sequence[TreeEvaluation]) -> list[Difference]:
    """Every tree less chains at its tokens, and whole trees less evaluations without trees.

    The intervals hold together where there are ``FAMILY`` or more.
    """
    pairs = []
    for one in evaluations:
        pairs += [(one, *pair) for pair in zip(one.ways.trees, one.ways.matched, strict=True)]
        pairs += [(one, one.ways.trees[-1], other) for other in one.ways.others if one.ways.trees]
    level = family_level(len(pairs))
    return [
        Difference(
            one,
            tree,
            other,
            paired_share_interval(other.em, tree.em, level=level),
            paired_share_interval(other.oracle, tree.oracle, level=level),
        )
        for one, tree, other in pairs
    ]


def family_level(differences: int) -> float:
    """The level of each interval so that all hold together with 95 %, from ``FAMILY`` on (Bonferroni); else 0.95."""
    return 1 - 0.05 / differences if differences >= FAMILY else 0.95


def score(way: Way) -> Interval:
    """Mean exact match with its interval over questions."""
    return share_interval(way.em)


def _groups(chains: Sequence[Candidate], n: int) -> list[Sequence[Candidate]]:
    return [chains[start : start + n] for start in range(0, len(chains) - n + 1, n)]


def _tokens(paths: Sequence[Candidate]) -> int:
    return sum(path.tokens for path in paths)
