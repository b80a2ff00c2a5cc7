from __future__ import annotations

from typing import Any

import pytest

from at2po_env.tool_dialects import TOOL_DIALECTS
from at2po_env.tool_rules import ToolRules


def test_rules_are_made_of_plain_values_as_configurations_have_them() -> None:
    rules = ToolRules.of("native", ends=["stop"], max_turns=3)
    assert rules == ToolRules(TOOL_DIALECTS["native"], max_turns=3, ends=("stop",))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"dialect": "morse"}, "dialect: there is no 'morse'; known: tags"),
        ({"max_turns": 0}, "max_turns must be an integer >= 1"),
        ({"max_result_chars": True}, "max_result_chars must be"),
        ({"timeout": 0}, "timeout must be above 0"),
        ({"on_malformed": "cry"}, "on_malformed must be"),
    ],
)
def test_what_is_wrong_is_named(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ToolRules.of(**arguments)
