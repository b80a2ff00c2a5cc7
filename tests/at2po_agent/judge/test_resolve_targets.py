import pytest

from at2po_agent.judge.resolve import default_split, env_ids
from at2po_agent.settings import ConfigError

MULTI = ["AT2PO-HotpotQA-v0", "AT2PO-2WikiMultiHopQA-v0", "AT2PO-MuSiQue-v0", "AT2PO-Bamboogle-v0"]
SINGLE = ["AT2PO-NQ-v0", "AT2PO-TriviaQA-v0", "AT2PO-PopQA-v0"]


def test_groups_are_the_papers_benchmarks_and_nothing_generated():
    assert env_ids(["multi-hop"]) == MULTI
    assert env_ids(["single-hop"]) == SINGLE
    assert env_ids(["all"]) == MULTI + SINGLE


def test_ids_names_and_groups_can_be_mixed_and_count_once():
    assert env_ids(["nq", "AT2PO-NQ-v0", "single-hop", "My-Own-v3"]) == [*SINGLE, "My-Own-v3"]
    assert env_ids(["microwiki"]) == ["AT2PO-MicroWiki-v0"]


@pytest.mark.parametrize(("named", "message"), [([], "name an environment"), (["hotpot"], "multi-hop.*all")])
def test_what_is_not_there_is_told_with_what_is(named, message):
    with pytest.raises(ConfigError, match=message):
        env_ids(named)


def test_the_split_is_test_else_dev_of_what_is_installed(monkeypatch, data_dir, tmp_path):
    monkeypatch.setenv("AT2PO_DATA", str(data_dir))
    expected = ["dev", "dev", "dev", "test", "test", "test", "test"]
    assert [default_split(id_) for id_ in MULTI + SINGLE] == expected
    assert default_split("AT2PO-MicroWiki-v0") == "test"
    monkeypatch.setenv("AT2PO_DATA", str(tmp_path))
    (tmp_path / "nq").mkdir()
    (tmp_path / "nq" / "dev.jsonl").write_text("{}")
    assert default_split("AT2PO-NQ-v0") == "dev"
    assert default_split("AT2PO-HotpotQA-v0") == "dev"  # its absence is said when it is opened
