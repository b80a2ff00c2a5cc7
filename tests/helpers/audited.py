"""Turns of an audit with numbers of a test's choice."""

from __future__ import annotations

from at2po_agent.study.audit import VALUES, AuditedTurn


def audited_turn(tree: int, value: float = 1.0, true: float = 0.5, **changes) -> AuditedTurn:
    """A turn whose value forms all give ``value``, where fresh rollouts give ``true``."""
    given = {
        **{"tree": tree, "node": 1, "depth": 1, "leaves": 2, "entropy": 0.5, "stored": 1.0, "fresh": 0.5, "error": 0.1},
        **{"changed": 0.5, "values": dict.fromkeys(VALUES, value), "roots": dict.fromkeys(VALUES, 0.25)},
        **{"parents": dict.fromkeys(VALUES, 0.5), "true": true, "true_parent": 0.25, "true_root": 0.0, "signal": True},
    }
    return AuditedTurn(**{**given, **changes})
