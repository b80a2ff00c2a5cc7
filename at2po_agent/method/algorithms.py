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

A component of your own is a frozen dataclass: ``expansion: {name: "my_module:MyExpansion", …its fields}``, or a plain
name where an installed package brings it (``search_backend.components``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from at2po_agent.method.credit import Credit, LeafCredit, TreeGRPOCredit, TurnCredit
from at2po_agent.method.expansion import Chains, EntropyGuided, Expansion, RandomExpansion
from at2po_agent.method.expansion_rivals import EntropyBalanced, TreeGRPOExpansion
from at2po_agent.method.groups import AllGroups, DynamicSampling, Groups
from at2po_agent.method.objective import AEPO, ATPO, GSPO, Objective, TokenClip
from at2po_agent.method.shaping import NoShaping, OverlongPenalty, Shaping
from at2po_agent.settings import CHOICE, ConfigError
from search_backend.components import ComponentError, Kind, Origin, choices

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class AlgorithmConfig:
    """A named composition, and what is changed about its components."""

    name: str = field(default="at2po", metadata=CHOICE)  # of the composition
    expansion: dict[str, Any] = field(default_factory=dict)  # where trees grow
    credit: dict[str, Any] = field(default_factory=dict)  # what each turn is worth
    objective: dict[str, Any] = field(default_factory=dict)  # the loss
    groups: dict[str, Any] = field(default_factory=dict)  # which groups of a step are trained on
    shaping: dict[str, Any] = field(default_factory=dict)  # of the rewards, before credit

    @classmethod
    def of(cls, algorithm: Algorithm) -> AlgorithmConfig:
        """The configuration that ``build`` makes an equal algorithm of, if its components can be imported.

        Raises:
            ConfigError: a component holds something that no configuration can.
        """
        return cls(algorithm.name, **{kind.name: _settings(kind, getattr(algorithm, kind.name)) for kind in KINDS})


@dataclass(frozen=True)
class Algorithm:
    """An expansion, a credit and an objective, with groups and shaping. ``train`` takes one as it is.

    Every component is a dataclass whose fields are plain settings, so that a run can record it.

    Raises:
        ConfigError: a component is no dataclass, or lacks what its protocol has.
    """

    name: str
    expansion: Expansion
    credit: Credit
    objective: Objective
    groups: Groups = field(default_factory=AllGroups)
    shaping: Shaping = field(default_factory=NoShaping)

    def __post_init__(self) -> None:
        for kind in KINDS:
            component = getattr(self, kind.name)
            if not dataclasses.is_dataclass(component) or isinstance(component, type):
                raise ConfigError(f"algorithm.{kind.name}: {component!r} is not a dataclass")
            try:
                kind.check(component, f"algorithm.{kind.name}: {type(component).__qualname__}")
            except ComponentError as error:
                raise ConfigError(str(error)) from error

    def origins(self) -> dict[str, Origin]:
        """The origins of components that are not built in."""
        types = {kind.name: type(getattr(self, kind.name)) for kind in KINDS}
        return {kind.name: Origin.of_type(types[kind.name]) for kind in KINDS if not _name_of(kind, types[kind.name])}

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


EXPANSIONS = Kind(
    "expansion",
    Expansion,
    MappingProxyType(
        {
            "entropy": EntropyGuided,
            "random": RandomExpansion,
            "chains": Chains,
            "tree_grpo": TreeGRPOExpansion,
            "entropy_balanced": EntropyBalanced,
        }
    ),
)
CREDITS = Kind(
    "credit", Credit, MappingProxyType({"turn": TurnCredit, "leaf": LeafCredit, "tree_grpo": TreeGRPOCredit})
)
OBJECTIVES = Kind(
    "objective", Objective, MappingProxyType({"atpo": ATPO, "gspo": GSPO, "token_clip": TokenClip, "aepo": AEPO})
)
GROUPS = Kind("groups", Groups, MappingProxyType({"all": AllGroups, "dynamic": DynamicSampling}))
SHAPINGS = Kind("shaping", Shaping, MappingProxyType({"none": NoShaping, "overlong": OverlongPenalty}))
KINDS = (EXPANSIONS, CREDITS, OBJECTIVES, GROUPS, SHAPINGS)

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
        name: one of ``ALGORITHMS``; or any other where expansion, credit and objective are all named.
        expansion: settings that replace the algorithm's own; with another ``name`` that component's own defaults count.
        credit: likewise.
        objective: likewise.
        groups: likewise.
        shaping: likewise.

    Raises:
        ConfigError: an unknown name or setting, or a value of the wrong type or out of range; the message names the
            key as it is written in a configuration file, and what would be right.
    """
    changes = dict(zip((kind.name for kind in KINDS), (expansion, credit, objective, groups, shaping), strict=True))
    try:
        defaults = {**_PLAIN, **_composition(name, changes)}
        return Algorithm(name, **{kind.name: _component(kind, defaults, changes[kind.name] or {}) for kind in KINDS})
    except ComponentError as error:
        raise ConfigError(str(error)) from error


def _composition(name: str, changes: Mapping[str, Settings | None]) -> Mapping[str, Settings]:
    """The components of a named algorithm; of a name that is not known, those that it names itself."""
    if name in ALGORITHMS:
        return ALGORITHMS[name]
    own = {section: settings for section, settings in changes.items() if settings and "name" in settings}
    if own.keys() >= {"expansion", "credit", "objective"}:
        return own
    raise ConfigError(f"algorithm.name: there is no {name!r}; {choices(name, ALGORITHMS)}")


def _component(kind: Kind, defaults: Mapping[str, Settings], changes: Settings) -> Any:
    """Make one component: the algorithm's defaults hold unless another component is named."""
    own = defaults[kind.name]
    kept = own if changes.get("name", own["name"]) == own["name"] else {}
    return kind.make({**kept, **changes}, f"algorithm.{kind.name}")


def _settings(kind: Kind, component: Any) -> dict[str, Any]:
    """A component as a configuration names it, with every field."""
    own = type(component)
    name = _name_of(kind, own) or f"{own.__module__}:{own.__qualname__}"
    fields = [entry.name for entry in dataclasses.fields(component) if entry.init]
    values = {key: getattr(component, key) for key in fields}
    try:
        OmegaConf.structured(component)
    except (NameError, OmegaConfBaseException) as error:
        why = f"{name} has a field that no configuration can hold: {str(error).splitlines()[0]}"
        raise ConfigError(f"algorithm.{kind.name}: {why}") from error
    return {"name": name, **values}


def _name_of(kind: Kind, component: type) -> str | None:
    return next((name for name, known in kind.builtin.items() if known is component), None)


def _filled(section: str, component: Any, facts: Mapping[str, int]) -> Any:
    open_fields = {f.name for f in dataclasses.fields(component) if f.init and getattr(component, f.name) is None}
    try:
        return dataclasses.replace(component, **{name: facts[name] for name in sorted(open_fields & facts.keys())})
    except ValueError as error:
        raise ConfigError(f"algorithm.{section}: {error}") from error
