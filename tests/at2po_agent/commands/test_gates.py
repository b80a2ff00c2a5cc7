"""``at2po-agent gates`` as it is called."""

from __future__ import annotations

import pytest

from at2po_agent.commands.main import main

WORLD = ["world=small", "dialect=bare", "k=1", "max_searches=4", "questions=20"]


def test_the_gates_of_a_world_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["gates", "AT2PO-MicroWiki-v0", *WORLD, "split=dev"])
    out, err = capsys.readouterr()
    assert "AT2PO-MicroWiki-v0, dev: exact match in % on 20 questions" in out and not err
    rows = {line.split("│")[1].strip(): line for line in out.splitlines() if line.startswith("│")}
    assert list(rows) == ["no search", "oracle"]
    assert status == (1 if any("NO" in row for row in rows.values()) else 0)


def test_a_policy_is_measured_too(capsys: pytest.CaptureFixture[str]) -> None:
    main(["gates", "AT2PO-MicroWiki-v0", "--policy", "builtin:microwiki", *WORLD])
    out, err = capsys.readouterr()
    assert "│ policy" in out and "policy: 20 questions scored" in out
    assert err == "loading builtin:microwiki …\n"
