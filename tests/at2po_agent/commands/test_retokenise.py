"""``at2po-agent retokenise``: its table, and the command as it is called."""

from __future__ import annotations

import json
from pathlib import Path

import gymnasium
import pytest

from at2po_agent.commands.main import main
from at2po_agent.commands.retokenise import plot
from at2po_agent.planning.retokenise import TurnDrift


def test_the_plot_says_what_share_of_turns_a_clip_would_cut_before_anything_was_learned() -> None:
    drifts = [TurnDrift(1, 10, 0, False, False, ratio, 1e-7) for ratio in (0.0, 0.0035, 0.0045, -0.0035)]
    drifts.append(TurnDrift(2, 10, 5, True, False, 30.0, 1e-7))
    rows = list(zip(*(column.cells for column in plot(drifts, "").columns), strict=True))
    by_name = {row[0]: row for row in rows}
    assert by_name["turn 1"][1:3] == ("4", "0.0%") and by_name["turn 1"][-1] == "50.0%"  # e^0.0045 and e^−0.0035
    assert by_name["turn 2"][1:4] == ("1", "█" * 24 + " 100.0%", "50.0%")
    assert by_name["all"][2:4] == ("█" * 5 + " 20.0%", "10.0%") and by_name["all"][-1] == "60.0%"
    assert by_name["ids kept, as sampled"][2] == "0.0%" and by_name["ids kept, as sampled"][-1] == "0.0%"


@pytest.mark.fault("item 19: retokenise prints an empty column")
def test_no_column_and_no_cell_is_empty_where_nothing_differs() -> None:
    table = plot([TurnDrift(1, 10, 0, False, False, 0.0, 1e-7)], "")
    assert all(column.header and all(column.cells) for column in table.columns)


def test_the_command_measures_a_policy_on_an_environment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    svg, numbers = tmp_path / "drift.svg", tmp_path / "drift.jsonl"
    hot = ["--questions", "4", "--chains", "2", "--temperature", "3", "--max-turn-tokens", "24"]
    files = ["--svg", str(svg), "--json", str(numbers)]
    world = ["world=tiny", "dialect=bare", "k=1", "max_searches=2"]
    assert main(["retokenise", "builtin:microwiki", "AT2PO-MicroWiki-v0", *hot, *files, *world]) == 0
    turns = [json.loads(line) for line in numbers.read_text().splitlines()]
    assert len([turn for turn in turns if turn["turn"] == 1]) == 8
    assert any(turn["drifted"] and turn["log_ratio"] != 0 for turn in turns)  # so hot that words are spelled oddly
    assert max(abs(turn["engine_log_ratio"]) for turn in turns) < 1e-4  # what was sampled is what is trained on
    assert "own ids differ" in capsys.readouterr().out and svg.read_text().startswith("<svg")
    assert main(["retokenise", "builtin:microwiki", "AT2PO-MicroWiki-v0", "--temperature", "0"]) == 2
    assert "--temperature is 0.0" in capsys.readouterr().err


def test_a_game_without_a_limit_of_turns_needs_one(capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--questions", "1", "--chains", "1", "--max-turn-tokens", "4"]
    for game in ("OpenEnd-v0", "Limited-v0"):
        steps = 3 if game == "Limited-v0" else None
        gymnasium.register(game, entry_point="tests.helpers.foreign_games:Dice", max_episode_steps=steps)
    try:
        measure = ["retokenise", "builtin:microwiki", "OpenEnd-v0", *few]
        assert main([*measure, "fork=replay"]) == 2
        (said,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
        assert "OpenEnd-v0 has no limit of turns" in said and "fork={how: replay, max_turns: 20}" in said
        assert main([*measure, "fork={how: replay, max_turns: 2}"]) == 0
        out = capsys.readouterr().out
        assert "turn 2" in out and "turn 3" not in out
        assert main(["retokenise", "builtin:microwiki", "Limited-v0", *few, "fork=replay"]) == 0
        out = capsys.readouterr().out
        assert "turn 3" in out and "turn 4" not in out
    finally:
        del gymnasium.registry["OpenEnd-v0"], gymnasium.registry["Limited-v0"]
