"""The algorithms, each a composition of one expansion, one credit and one objective; each component can be swapped.

===========  ==============================  =========================================  ==============================
name         expansion                       credit                                     objective
===========  ==============================  =========================================  ==============================
at2po        10 chains, then 2 × 6 turns     turn values, child_softmax, node_value     turn ratio, 3e−3 / 4e−3
grpo         16 chains                       leaf z, unbiased std                       token clip 0.2 / 0.2, c = 3
dapo         16 chains                       leaf z, unbiased std                       token clip 0.2 / 0.28, c = 3
gspo         16 chains                       leaf z, unbiased std                       trajectory ratio, 3e−4 / 4e−4
aepo         8 chains, branching up to 16    leaf z, unbiased std                       AEPO, 0.2 / 0.2, c = 3
tree_grpo    2 trees, random, up to 16       z in the tree + z of the question          token clip 0.2 / 0.2, KL 1e−3
===========  ==============================  =========================================  ==============================

``dapo`` also has what the others do without: ``groups`` (dynamic sampling) and ``shaping`` (a penalty for length).

The paper's ablations change one component of ``at2po``: −tree ``expansion: {name: chains, n: 22}``, −entropy
``expansion: {name: random}``, −credit ``credit: {name: leaf}``, −ATPO ``objective: {name: gspo}`` or
``{name: token_clip}``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from at2po_agent.method.credit import Credit, LeafCredit, TreeGRPOCredit, TurnCredit
from at2po_agent.method.expansion import Chains, EntropyGuided, Expansion, RandomExpansion
from at2po_agent.method.expansion_rivals import EntropyBalanced, TreeGRPOExpansion
from at2po_agent.method.groups import AllGroups, DynamicSampling, Groups
from at2po_agent.method.objective import AEPO, ATPO, GSPO, Objective, TokenClip
from at2po_agent.method.shaping import NoShaping, OverlongPenalty, Shaping
from at2po_agent.settings import ConfigError, choices, made_of

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class AlgorithmConfig:
    """A named composition, and what is changed about its components."""

    name: str = "at2po"
    expansion: dict[str, Any] = field(default_factory=dict)
    credit: dict[str, Any] = field(default_factory=dict)
    objective: dict[str, Any] = field(default_factory=dict)
    groups: dict[str, Any] = field(default_factory=dict)  # which groups of a step are trained on
    shaping: dict[str, Any] = field(default_factory=dict)  # of the rewards, before credit


@dataclass(frozen=True)
class Algorithm:
    """Where to sample, what each turn is worth, and what loss follows from it."""

    name: str
    expansion: Expansion
    credit: Credit
    objective: Objective
    groups: Groups = field(default_factory=AllGroups)
    shaping: Shaping = field(default_factory=NoShaping)

    def opened(self, **facts: int) -> Algorithm:
        """The same with what its components leave open (null) filled in from a run.

        Args:
            facts: ``vocab_size`` of the policy, ``max_response_tokens`` of the rollout.

        Raises:
            ConfigError: a component's setting does not go with them.
        """
        return dataclasses.replace(
            self, expansion=_filled("expansion", self.expansion, facts), shaping=_filled("shaping", self.shaping, facts)
        )


EXPANSIONS: Mapping[str, type[Any]] = MappingProxyType(
    {
        "entropy": EntropyGuided,
        "random": RandomExpansion,
        "chains": Chains,
        "tree_grpo": TreeGRPOExpansion,
        "entropy_balanced": EntropyBalanced,
    }
)
CREDITS: Mapping[str, type[Any]] = MappingProxyType(
    {"turn": TurnCredit, "leaf": LeafCredit, "tree_grpo": TreeGRPOCredit}
)
OBJECTIVES: Mapping[str, type[Any]] = MappingProxyType(
    {"atpo": ATPO, "gspo": GSPO, "token_clip": TokenClip, "aepo": AEPO}
)

GROUPS: Mapping[str, type[Any]] = MappingProxyType({"all": AllGroups, "dynamic": DynamicSampling})
SHAPINGS: Mapping[str, type[Any]] = MappingProxyType({"none": NoShaping, "overlong": OverlongPenalty})

_GROUP_Z = {"name": "leaf", "std": "unbiased"}
_PLAIN: Mapping[str, Settings] = {"groups": {"name": "all"}, "shaping": {"name": "none"}}

ALGORITHMS: Mapping[str, Mapping[str, Settings]] = MappingProxyType(
    {
        "at2po": {"expansion": {"name": "entropy"}, "credit": {"name": "turn"}, "objective": {"name": "atpo"}},
        "grpo": {"expansion": {"name": "chains"}, "credit": _GROUP_Z, "objective": {"name": "token_clip"}},
        "dapo": {
            "expansion": {"name": "chains"},
            "credit": _GROUP_Z,
            "objective": {"name": "token_clip", "eps_high": 0.28},
            "groups": {"name": "dynamic"},
            "shaping": {"name": "overlong"},
        },
        "gspo": {"expansion": {"name": "chains"}, "credit": _GROUP_Z, "objective": {"name": "gspo"}},
        "aepo": {"expansion": {"name": "entropy_balanced"}, "credit": _GROUP_Z, "objective": {"name": "aepo"}},
        "tree_grpo": {
            "expansion": {"name": "tree_grpo"},
            "credit": {"name": "tree_grpo"},
            "objective": {"name": "token_clip", "dual_clip": None, "kl_coef": 1e-3},
        },
    }
)


def build(
    name: str,
    expansion: Settings | None = None,
    credit: Settings | None = None,
    objective: Settings | None = None,
    groups: Settings | None = None,
    shaping: Settings | None = None,
) -> Algorithm:
    """A named algorithm with the paper's defaults, and what is changed about its components.

    Args:
        name: one of ``ALGORITHMS``.
        expansion: settings that replace the algorithm's own; with another ``name`` that component's own defaults count.
        credit: likewise.
        objective: likewise.
        groups: likewise.
        shaping: likewise.

    Raises:
        ConfigError: an unknown name or setting, or a value of the wrong type or out of range; the message names the
            key as it is written in a configuration file, and what would be right.
    """
    defaults = {**_PLAIN, **ALGORITHMS[_known(name, ALGORITHMS, "algorithm.name")]}
    return Algorithm(
        name,
        _component("expansion", EXPANSIONS, defaults, expansion),
        _component("credit", CREDITS, defaults, credit),
        _component("objective", OBJECTIVES, defaults, objective),
        _component("groups", GROUPS, defaults, groups),
        _component("shaping", SHAPINGS, defaults, shaping),
    )


def _component(
    section: str, registry: Mapping[str, type[Any]], defaults: Mapping[str, Settings], changes: Settings | None
) -> Any:
    """Build one component: the algorithm's defaults hold unless another component is named."""
    own, changes = defaults[section], changes or {}
    section = f"algorithm.{section}"
    name = _known(changes.get("name", own["name"]), registry, f"{section}.name")
    component = registry[name]
    settings = {**(own if name == own["name"] else {}), **changes}
    settings.pop("name", None)
    return made_of(component, settings, section, name)


def _filled(section: str, component: Any, facts: Mapping[str, int]) -> Any:
    open_fields = {f.name for f in dataclasses.fields(component) if getattr(component, f.name) is None}
    try:
        return dataclasses.replace(component, **{name: facts[name] for name in sorted(open_fields & facts.keys())})
    except ValueError as error:
        raise ConfigError(f"algorithm.{section}: {error}") from error


def _known(name: Any, registry: Mapping[str, Any], key: str) -> str:
    if not isinstance(name, str) or name not in registry:
        raise ConfigError(f"{key}: there is no {name!r}; {choices(str(name), registry)}")
    return name
