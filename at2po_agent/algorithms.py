"""The algorithms, each a composition of one expansion, one credit and one objective; any of the three can be swapped.

===========  ==============================  =========================================  ==============================
name         expansion                       credit                                     objective
===========  ==============================  =========================================  ==============================
at2po        10 chains, then 2 × 6 turns     turn values, child_softmax, node_value     turn ratio, 3e−3 / 4e−3
grpo         16 chains                       leaf z, unbiased std                       token clip 0.2 / 0.2, c = 3
gspo         16 chains                       leaf z, unbiased std                       trajectory ratio, 3e−4 / 4e−4
aepo         8 chains, branching up to 16    leaf z, unbiased std                       AEPO, 0.2 / 0.2, c = 3
tree_grpo    2 trees, random, up to 16       z in the tree + z of the question          token clip 0.2 / 0.2, KL 1e−3
===========  ==============================  =========================================  ==============================

The paper's ablations change one component of ``at2po``: −tree ``expansion: {name: chains, n: 22}``, −entropy
``expansion: {name: random}``, −credit ``credit: {name: leaf}``, −ATPO ``objective: {name: gspo}`` or
``{name: token_clip}``.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from at2po_agent.credit import Credit, LeafCredit, TreeGRPOCredit, TurnCredit
from at2po_agent.expansion import (
    Chains,
    EntropyBalanced,
    EntropyGuided,
    Expansion,
    RandomExpansion,
    TreeGRPOExpansion,
)
from at2po_agent.objective import AEPO, ATPO, GSPO, Objective, TokenClip
from at2po_agent.structured import ConfigError

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Algorithm:
    """Where to sample, what each turn is worth, and what loss follows from it."""

    name: str
    expansion: Expansion
    credit: Credit
    objective: Objective


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

_GROUP_Z = {"name": "leaf", "std": "unbiased"}

# DAPO is not here: without dynamic sampling it would be grpo with objective.eps_high=0.28 under a wrong name.
ALGORITHMS: Mapping[str, tuple[Settings, Settings, Settings]] = MappingProxyType(
    {
        "at2po": ({"name": "entropy"}, {"name": "turn"}, {"name": "atpo"}),
        "grpo": ({"name": "chains"}, _GROUP_Z, {"name": "token_clip"}),
        "gspo": ({"name": "chains"}, _GROUP_Z, {"name": "gspo"}),
        "aepo": ({"name": "entropy_balanced"}, _GROUP_Z, {"name": "aepo"}),
        "tree_grpo": (
            {"name": "tree_grpo"},
            {"name": "tree_grpo"},
            {"name": "token_clip", "dual_clip": None, "kl_coef": 1e-3},
        ),
    }
)


def build(
    name: str,
    expansion: Settings | None = None,
    credit: Settings | None = None,
    objective: Settings | None = None,
) -> Algorithm:
    """A named algorithm with the paper's defaults, and what is changed about its components.

    Args:
        name: one of ``ALGORITHMS``.
        expansion: settings that replace the algorithm's own; with another ``name`` that component's own defaults count.
        credit: likewise.
        objective: likewise.

    Raises:
        ConfigError: an unknown name or setting, or a value of the wrong type or out of range; the message names the
            key as it is written in a configuration file, and what would be right.
    """
    defaults = ALGORITHMS[_known(name, ALGORITHMS, "algorithm.name")]
    return Algorithm(
        name,
        _component("expansion", EXPANSIONS, defaults[0], expansion or {}),
        _component("credit", CREDITS, defaults[1], credit or {}),
        _component("objective", OBJECTIVES, defaults[2], objective or {}),
    )


def _component(section: str, registry: Mapping[str, type[Any]], defaults: Settings, changes: Settings) -> Any:
    """Build one component: the algorithm's defaults hold unless another component is named."""
    section = f"algorithm.{section}"
    name = _known(changes.get("name", defaults["name"]), registry, f"{section}.name")
    component = registry[name]
    settings = {**(defaults if name == defaults["name"] else {}), **changes}
    settings.pop("name", None)
    fields = {field.name: None for field in dataclasses.fields(component)}
    for key in settings:
        if key not in fields:
            raise ConfigError(f"{section}.{key}: {name} has no such setting; {_choices(key, fields)}")
    try:
        typed = OmegaConf.merge(OmegaConf.structured(component), settings)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{section}.{error.full_key}: {str(error).splitlines()[0]}") from error
    for key in sorted(OmegaConf.missing_keys(typed)):
        raise ConfigError(f"{section}.{key} is not set: {name} has no default for it")
    try:
        return component(**cast(dict[str, Any], OmegaConf.to_container(typed)))
    except ValueError as error:
        raise ConfigError(f"{section}: {error}") from error


def _known(name: Any, registry: Mapping[str, Any], key: str) -> str:
    if not isinstance(name, str) or name not in registry:
        raise ConfigError(f"{key}: there is no {name!r}; {_choices(str(name), registry)}")
    return name


def _choices(word: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return (f"did you mean {near[0]}? " if near else "") + f"known: {', '.join(known) or 'none'}"
