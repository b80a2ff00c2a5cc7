"""The counterfactual check of credit: values of stored turns, compared with fresh rollouts from the same states.

Trees of step ``s`` were sampled by the policy after ``s − 1`` steps: where its checkpoint exists (or ``s`` is 1, whose
policy is the one that the run began with), every inner turn's state is reached again by replaying its stored actions,
and ``n`` new episodes are sampled from there with that policy. Their mean reward estimates what the turn is worth:

    R(n) = mean reward of fresh episodes from the state after turn n,      Z(n) = (R(n) − mean r) / (std r + 1e−6)

with mean and std of the rewards of the stored tree's leaves, as ``credit`` scales them. So ``V(n)`` is compared with
``Z(n)``, and the advantage ``V(n) − V(parent)`` with ``Z(n) − Z(parent)``, and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any, NamedTuple, get_args, get_type_hints

import numpy as np

from at2po_agent import signals
from at2po_agent.errors import ConfigError
from at2po_agent.method import algorithms
from at2po_agent.method.credit import EPSILON, TurnCredit
from at2po_agent.method.shaping import NoShaping, Shaping
from at2po_agent.method.tree import ROOT, TurnTree
from at2po_agent.policy.engine import EngineConfig
from at2po_agent.policy.lora import LoraConfig
from at2po_agent.rollouts.grow import grow
from at2po_agent.rollouts.lockstep import Lockstep
from at2po_agent.rollouts.replay import Refork, replay
from at2po_agent.tasks import run_all
from at2po_agent.training import checkpoints
from at2po_agent.training.config import TrainConfig, load_config
from at2po_agent.training.run_dir import RunDirError, read_trees, step_of, tree_files
from at2po_agent.training.stored_files import fitting, read_value
from search_backend.outside import Unusable

if TYPE_CHECKING:
    from at2po_agent.training.session import Session

VALUES: tuple[str, ...] = get_args(get_type_hints(TurnCredit)["value"])
ADVANTAGES: tuple[str, ...] = get_args(get_type_hints(TurnCredit)["advantage"])
_TOGETHER = 8  # trees that are sampled together


@dataclass(frozen=True)
class AuditedTurn:
    """An inner turn of a stored tree beside its fresh rollouts; rewards in the task's unit."""

    tree: int  # its number in the audit
    node: int  # its index in the stored tree
    depth: int
    leaves: int  # stored ones under it
    entropy: float  # H(n), nats a token
    stored: float  # unshaped reward of the chain that it was taken on
    fresh: float  # mean shaped reward of the fresh rollouts from the state after it
    error: float  # standard error of ``fresh``
    changed: float  # share of fresh rollouts from the state before it whose unshaped reward is not ``stored``
    values: Mapping[str, float]  # V(n) by value form, in units of the tree's std
    roots: Mapping[str, float]  # V(root), likewise
    parents: Mapping[str, float]  # V(parent), likewise
    true: float  # Z(n)
    true_parent: float
    true_root: float
    signal: bool  # the stored tree has rewards that differ: without them every value is 0

    def advantage(self, value: str, form: str) -> float:
        """``A(n)`` as ``credit`` has it."""
        return _advantage(form, self.values[value], self.parents[value], self.roots[value])

    def true_advantage(self, form: str) -> float:
        """``A(n)`` with fresh rollouts in the place of values."""
        return _advantage(form, self.true, self.true_parent, self.true_root)


def _advantage(form: str, own: float, parent: float, root: float) -> float:
    forms = {"node_value": own, "diff_parent": own - parent, "diff_global": own - root}
    return forms["diff_parent"] + forms["diff_global"] if form == "diff_local_global" else forms[form]


@dataclass(frozen=True)
class Audit:
    """The results of an audit of one step."""

    run: str
    step: int
    forks: int  # fresh rollouts of every turn
    per_round: int  # turns that the run's expansion picks at once; 5 where it picks none
    trees: int
    turns: tuple[AuditedTurn, ...]


def auditable(run: Path) -> dict[int, str]:
    """Steps whose trees are stored and whose policy exists, with the path of that policy.

    Raises:
        RunDirError: it is no training run.
        ConfigError: its configuration cannot be read.
    """
    if not (run / "config.yaml").is_file():
        raise RunDirError(f"{run} is not a run directory: it has no config.yaml")
    policies = {0: load_config(run / "config.yaml").policy.path}
    for folder in checkpoints.folders(run / "checkpoints"):
        if (folder / "model").is_dir():
            policies[checkpoints.step_of(folder)] = str(folder / "model")
    return {step: policies[step - 1] for step in map(step_of, tree_files(run)) if step - 1 in policies}


def audit(run: Path, step: int, trees: int, forks: int, note: Callable[[str], None]) -> Audit:
    """Audit one step of a run.

    Args:
        run: its directory.
        step: one of ``auditable``.
        trees: how many of its stored trees, evenly spread; all where there are fewer.
        forks: fresh rollouts from the state after every inner turn, and from the prompt.
        note: told how far it is.

    Raises:
        RunDirError: the step cannot be audited; the message lists those that can.
        CheckpointError: its checkpoint is damaged.
        ReplayError: the environment now answers otherwise than it did.
        SearchUnavailable: the search did not come back while stored turns were taken again.
        Interrupted: by Ctrl-C or SIGTERM.
    """
    from at2po_agent.training.session import open_session

    known = auditable(run)
    if step not in known:
        more = "checkpoint.every=1 checkpoint.keep=N log.trees_every=1 keep more"
        if not known:
            raise RunDirError(f"{run} stores the trees and the policy that sampled them of no step; {more}")
        raise RunDirError(
            f"{run} does not store the trees of step {step} and the policy that sampled them; steps that it can audit: "
            f"{', '.join(map(str, known))} ({more})"
        )
    if step > 1:
        checkpoints.load(Path(known[step]).parent)
    config = _opened_with(load_config(run / "config.yaml"), known[step])
    files = {step_of(file): file for file in tree_files(run)}
    records = read_trees(files[step])
    chosen = records[:: max(1, len(records) // max(1, trees))][:trees]
    stored = [TurnTree.from_json(record["tree"]) for record in chosen]
    turns: list[AuditedTurn] = []
    with closing(open_session(config, run / "audit" / "engine", note)) as session:
        for start in range(0, len(stored), _TOGETHER):
            part = stored[start : start + _TOGETHER]
            fresh = signals.run(sample(session, config, step, list(enumerate(part, start)), forks))
            shaping = session.algorithm.shaping
            for number, (tree, found) in enumerate(zip(part, fresh, strict=True), start):
                turns += compare(number, tree, found, shaping)
            note(f"{min(start + _TOGETHER, len(stored))} of {len(stored)} trees")
    expansion = algorithms.build(**vars(config.algorithm)).expansion
    return Audit(run.name, step, forks, int(getattr(expansion, "per_round", 5)), len(stored), tuple(turns))


def _opened_with(config: TrainConfig, policy: str) -> TrainConfig:
    """The configuration with the policy of a step, which samples in this process; adapters come with their files."""
    return replace(config, policy=replace(config.policy, path=policy), lora=LoraConfig(), engine=EngineConfig())


class Ending(NamedTuple):
    """The rewards of a fresh rollout."""

    reward: float  # of the episode
    shaped: float  # as credit sees it


Fresh = Mapping[int, Sequence[Ending]]  # fresh rollouts from the state after a node, by its stored index


async def sample(
    session: Session, config: TrainConfig, step: int, trees: Sequence[tuple[int, TurnTree]], forks: int
) -> list[Fresh]:
    """Fresh rollouts from the state after every inner turn of some stored trees, each with its number in the audit."""
    sampler = session.sampler(config.rollout)
    gate = Lockstep(sampler.policy, len(trees)) if sampler.deterministic else None
    actor = replace(sampler, policy=gate) if gate else sampler

    async def one(number: int, stored: TurnTree) -> Fresh:
        env = session.env.clone()
        try:
            env.reset(options={"task_id": stored.question_id})
            planted, new = await replay(env, actor, stored)
            olds = list(new)
            expansion = Refork([new[old] for old in olds], forks)
            # Other noise than the run's own: these are new samples.
            key = (config.seed, step, number, 1)
            grown = await grow(env, actor, expansion, key=key, question_id=stored.question_id, planted=planted)
        finally:
            if gate:
                gate.leave()
        # Inner turns of the stored tree lead to leaves by new paths only; what infrastructure ended is left out.
        grown.prune()
        rewards, shaped = NoShaping()(grown), session.algorithm.shaping(grown)
        found: dict[int, list[Ending]] = {old: [] for old in olds}
        for leaf, reward in rewards.items():
            found[olds[grown[leaf].group]].append(Ending(reward, shaped[leaf]))
        return found

    return await run_all(one(number, stored) for number, stored in trees)


def compare(number: int, tree: TurnTree, fresh: Fresh, shaping: Shaping) -> Iterator[AuditedTurn]:
    """Every inner turn of a stored tree that has fresh rollouts, and whose parent has."""
    rewards, unshaped = shaping(tree), NoShaping()(tree)
    middle, spread = fmean(rewards.values()), pstdev(rewards.values())
    values = {form: TurnCredit(value=form).values(tree, rewards) for form in VALUES}  # type: ignore[arg-type]
    under = _leaves_under(tree)

    def true(n: int) -> float:
        return (fmean(end.shaped for end in fresh[n]) - middle) / (spread + EPSILON)

    for n in tree.inner_turns():
        parent = tree[n].parent
        if not (fresh[n] and fresh[parent] and fresh[ROOT]):
            continue
        stored, shaped = unshaped[_end_of_chain(tree, n)], [end.shaped for end in fresh[n]]
        yield AuditedTurn(
            tree=number,
            node=n,
            depth=tree[n].depth,
            leaves=len(under[n]),
            entropy=tree[n].entropy,
            stored=stored,
            fresh=fmean(shaped),
            error=float(np.std(shaped, ddof=1) / len(shaped) ** 0.5) if len(shaped) > 1 else 0.0,
            changed=fmean(abs(end.reward - stored) > 1e-9 for end in fresh[parent]),
            values={form: float(of[n]) for form, of in values.items()},
            roots={form: float(of[ROOT]) for form, of in values.items()},
            parents={form: float(of[parent]) for form, of in values.items()},
            true=true(n),
            true_parent=true(parent),
            true_root=true(ROOT),
            signal=spread > 0,
        )


def _end_of_chain(tree: TurnTree, n: int) -> int:
    """The leaf of the chain that took turn ``n``: where a path goes on, its turn comes before those of branches."""
    while not tree[n].leaf:
        n = tree[n].children[0]
    return n


def _leaves_under(tree: TurnTree) -> Mapping[int, list[int]]:
    under: dict[int, list[int]] = {}
    for leaf, path in tree.trajectories():
        for n in path:
            under.setdefault(n, []).append(leaf)
    return under


def joined(audits: Sequence[Audit]) -> Audit:
    """Audits of the same step of several runs, such as the seeds of one variant, as one; trees are numbered through.

    Raises:
        ConfigError: they are of different steps, numbers of fresh rollouts or numbers of turns picked at once.
    """
    first, turns, trees = audits[0], list[AuditedTurn](), 0
    for one in audits:
        for name in ("step", "forks", "per_round"):
            if getattr(one, name) != getattr(first, name):
                raise ConfigError(
                    f"the audits of {first.run} and {one.run} differ in {name}: {getattr(first, name)} and "
                    f"{getattr(one, name)}; only equal ones can be joined"
                )
        turns += [replace(turn, tree=trees + turn.tree) for turn in one.turns]
        trees += one.trees
    return replace(first, run=", ".join(one.run for one in audits), trees=trees, turns=tuple(turns))


def read_audit(folder: Path) -> Audit:
    """The audit that ``write_audit`` left in a folder.

    Raises:
        RunDirError: there is none, or its ``audit.json`` cannot be read.
    """
    try:
        return read_value(folder / "audit.json", _check_audit)
    except FileNotFoundError:
        raise RunDirError(f"{folder} has no audit.json: give the directory of a finished audit") from None
    except Unusable as error:
        raise RunDirError(f"{error}; make the audit again") from error


def _check_audit(value: object) -> Audit:
    found = fitting(value, Audit)
    for turn in found.turns:
        for name in ("values", "roots", "parents"):
            if missing := [form for form in VALUES if form not in getattr(turn, name)]:
                raise Unusable(f"turn {turn.node} of tree {turn.tree} has no {missing[0]} in its {name}")
    return found


def to_json(found: Audit) -> dict[str, Any]:
    """Everything that an audit measured, as JSON values."""
    turns = [
        {**vars(turn), **{name: dict(getattr(turn, name)) for name in ("values", "roots", "parents")}}
        for turn in found.turns
    ]
    return {**{name: value for name, value in vars(found).items() if name != "turns"}, "turns": turns}
