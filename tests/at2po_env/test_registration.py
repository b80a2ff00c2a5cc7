from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys

import gymnasium
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import RecordEpisodeStatistics, TimeLimit

import at2po_env
from at2po_env.registration import BENCHMARKS, TASK_FAMILIES, load_benchmark
from search_backend import EmbeddedIndex, SearchUnavailable
from tests.helpers.env_doubles import TOWERS, FakeSearch
from tests.helpers.places import ROOT

MICROWIKI = "at2po_env:AT2PO-MicroWiki-v0"
HOTPOTQA = "at2po_env:AT2PO-HotpotQA-v0"
TINY = {"world": "tiny", "split": "dev"}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Indexes are built in a cache directory of these tests' own, which their subprocesses inherit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AT2PO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def ask(env, action):
    return env.step(action.format(plan=env.unwrapped.state.question.metadata["plan"][0]))


def test_microwiki_passes_the_checker():
    check_env(gymnasium.make(MICROWIKI, **TINY).unwrapped)


def test_hotpotqa_passes_the_checker(data_dir):
    check_env(gymnasium.make(HOTPOTQA, split="dev", data_dir=str(data_dir)).unwrapped)


def test_microwiki_searches_its_own_passages_without_any_setting():
    env = gymnasium.make(MICROWIKI, **TINY)
    env.reset(seed=1)
    observation, *_, info = ask(env, "<search>{plan}</search>")
    question = env.unwrapped.state.question
    assert question.supporting_titles[0] in {hit["title"] for hit in info["hits"]}
    assert observation.startswith("\n<result>\n(1) ")
    assert env.step(f"<answer>{question.answers[0]}</answer>")[1] == 1.0


def test_the_index_of_a_benchmark_is_built_once(monkeypatch):
    gymnasium.make(MICROWIKI, **TINY)
    source = type(load_benchmark("microwiki"))
    monkeypatch.setattr(source, "passages", lambda *_, **__: pytest.fail("built again"))
    gymnasium.make(MICROWIKI, **TINY)


def test_keyword_arguments_reach_the_environment(tmp_path):
    EmbeddedIndex.build(tmp_path / "index", TOWERS)
    uri = f"embedded:{tmp_path / 'index'}"
    env = gymnasium.make(
        MICROWIKI, split="test", search=uri, k=1, max_searches=2, reward="f1", dialect="bare", world="tiny"
    ).unwrapped
    assert (env.rules.k, env.rules.max_searches, env.dialect.name, env.dataset.split) == (1, 2, "bare", "test")
    env.reset(seed=1)
    observation, *_, info = env.step("<search>tower london</search>")
    assert [hit["id"] for hit in info["hits"]] == ["p2"]
    assert observation == "<result> Tower B : Tower B stands in London. </result>"
    env.close()
    with pytest.raises(SearchUnavailable):
        env.search.search(["tower"], 1)  # it was opened for this environment


def test_a_backend_that_was_passed_in_stays_open():
    search = FakeSearch()
    env = gymnasium.make(MICROWIKI, search=search, **TINY)
    env.reset(seed=1)
    env.step("<search>Tower</search>")
    env.close()
    assert search.calls and not search.closed


def test_a_spec_makes_the_same_environment_again():
    env = gymnasium.make(MICROWIKI, k=2, **TINY)
    spec = EnvSpec.from_json(env.spec.to_json())
    again = gymnasium.make(spec)
    assert again.unwrapped.rules == env.unwrapped.rules
    assert again.reset(seed=5)[0] == env.reset(seed=5)[0]
    assert pickle.loads(pickle.dumps(env.spec)).kwargs == env.spec.kwargs


def test_restoring_through_the_wrappers_of_make():
    env = RecordEpisodeStatistics(TimeLimit(gymnasium.make(MICROWIKI, **TINY), 4))
    env.reset(seed=1)
    first = ask(env, "<search>{plan}</search>")[0]
    snapshot = env.unwrapped.snapshot()
    fresh = RecordEpisodeStatistics(TimeLimit(gymnasium.make(MICROWIKI, **TINY), 2))
    for _ in range(2):  # the wrappers' counters start again with every restore
        assert fresh.reset(options={"snapshot": snapshot})[0] == first
        *_, truncated, info = fresh.step("<search>x</search>")
        assert not truncated
        *_, info = fresh.step("<answer>x</answer>")
        assert info["episode"]["l"] == 2
        assert info["turns"] == 3


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_vector_environments(mode):
    extra = {"shared_memory": False, "context": "spawn"} if mode == "async" else {}
    envs = gymnasium.make_vec(MICROWIKI, num_envs=2, vectorization_mode=mode, vector_kwargs=extra, **TINY)
    observations, info = envs.reset(seed=3)
    assert len(set(info["question_id"])) == 2
    single = gymnasium.make(MICROWIKI, **TINY)
    assert observations[1] == single.reset(seed=4)[0]
    observations, rewards, terminated, _, info = envs.step(("<search>the</search>", "<answer>x</answer>"))
    assert observations[0].startswith("\n<result>") and observations[1] == ""
    assert terminated.tolist() == [False, True]
    assert (info["ended"][1], info["hits"][0][0]["id"] is not None, rewards[1]) == ("answer", True, 0.0)
    snapshot = envs.call("snapshot")[0]
    restored, info = envs.reset(options={"snapshot": snapshot})
    assert restored == (observations[0], observations[0])
    assert info["turns"].tolist() == [1, 1]
    assert envs.call("snapshot") == (snapshot, snapshot)
    envs.close()


@pytest.mark.fault("item 11: copies of a vector environment share the file")
@pytest.mark.parametrize("mode", [None, "sync", "async"])
def test_copies_go_through_the_file_once_together(mode):
    extra = {"shared_memory": False, "context": "spawn"} if mode == "async" else {}
    told = {} if mode is None else {"copies": 3}
    envs = gymnasium.make_vec(MICROWIKI, 3, mode, vector_kwargs=extra, order="file", world="tiny", split="dev", **told)
    _, info = envs.reset(seed=None if mode is None else 0)
    taken = list(info["question_id"])
    for _ in range(15):
        envs.step(("<answer>x</answer>",) * 3)
        taken += envs.step(("",) * 3)[-1]["question_id"].tolist()  # the step after the end begins the next episode
    envs.close()
    whole = load_benchmark("microwiki").load("dev", None, world="tiny").questions
    assert taken == [question.id for question in whole[:48]]


def test_copies_made_without_a_mode_are_what_gymnasium_makes():
    """Without order="file" they draw as those of the mode ``sync`` do."""
    plain, synced = (gymnasium.make_vec(MICROWIKI, 2, mode, **TINY) for mode in (None, "sync"))
    assert type(plain) is type(synced)
    assert plain.reset(seed=5)[0] == synced.reset(seed=5)[0]
    assert [str(env) for env in plain.envs] == [str(env) for env in synced.envs]


CONTINUE = """
import json, sys, gymnasium
data = json.load(sys.stdin)
env = gymnasium.make("at2po_env:AT2PO-MicroWiki-v0", world="tiny", split="dev")
observation, info = env.reset(options={"snapshot": data["snapshot"]})
steps = [env.step(action) for action in data["actions"]]
json.dump({"observation": observation, "steps": steps, "digest": env.unwrapped.snapshot().digest}, sys.stdout)
"""


def run(code: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    variables = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "77"} | environment
    return subprocess.run(
        [sys.executable, "-c", code], input=stdin, capture_output=True, text=True, env=variables, cwd=ROOT, check=False
    )


def test_a_snapshot_continues_in_another_process_exactly():
    env = gymnasium.make(MICROWIKI, **TINY).unwrapped
    env.reset(seed=2)
    observation, *_ = ask(env, "<search>{plan}</search>")
    snapshot, actions = env.snapshot().to_json(), ["<search>river</search>", "<answer>\ud83d\ude00 x</answer>"]
    done = run(CONTINUE, json.dumps({"snapshot": snapshot, "actions": actions}))
    assert done.returncode == 0, done.stderr
    there = json.loads(done.stdout)
    here = json.loads(json.dumps([env.step(action) for action in actions]))
    assert there == {"observation": observation, "steps": here, "digest": env.snapshot().digest}


def test_a_package_that_hides_ours_is_named(tmp_path):
    (tmp_path / "envs.py").write_text("")
    code = f'import sys; sys.path.insert(0, {str(tmp_path)!r}); import at2po_env; at2po_env.make("microwiki")'
    done = run(code)
    assert f"ImportError: {tmp_path / 'envs.py'} hides the package `envs` of at2po" in done.stderr


def test_missing_data_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.delenv("AT2PO_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    with pytest.raises(
        at2po_env.DataNotFound,
        match=r"\(1\) `at2po-agent data pull hotpotqa`.*\(2\) Download http.*`at2po-agent data import FILE`.*"
        r"\(3\) .*data_dir=DIR or set AT2PO_DATA=DIR.*the split demo.*MicroWiki",
    ):
        gymnasium.make(HOTPOTQA)
    monkeypatch.setenv("AT2PO_DATA", str(tmp_path))
    with pytest.raises(at2po_env.DataNotFound, match=str(tmp_path)):
        gymnasium.make(HOTPOTQA)


def test_data_is_found_by_the_environment_variable(monkeypatch, data_dir):
    monkeypatch.setenv("AT2PO_DATA", str(data_dir))
    assert len(gymnasium.make(HOTPOTQA, split="dev", search=FakeSearch()).unwrapped.questions) > 100


def test_wrong_arguments_are_named():
    with pytest.raises(TypeError, match=r"AT2PO-MicroWiki-v0 has no argument 'max_serches': it has .*max_searches"):
        gymnasium.make(MICROWIKI, max_serches=3)
    with pytest.raises(TypeError, match="AT2PO-HotpotQA-v0 has no argument 'world'"):
        gymnasium.make(HOTPOTQA, world="tiny")
    with pytest.raises(ValueError, match="unknown benchmark 'hotpot': one of"):
        at2po_env.make("hotpot")
    with pytest.raises(ValueError, match="split"):
        gymnasium.make(MICROWIKI, split="holdout")


IDS = {
    "multi-hop": ["HotpotQA", "2WikiMultiHopQA", "MuSiQue", "Bamboogle", "MicroWiki"],
    "single-hop": ["NQ", "TriviaQA", "PopQA"],
}


def test_the_benchmarks_and_their_groups():
    found = {group: [entry.id for entry in BENCHMARKS.values() if group in entry.groups] for group in IDS}
    assert found == {group: [f"AT2PO-{name}-v0" for name in names] for group, names in IDS.items()}


@pytest.mark.parametrize("name", list(BENCHMARKS))
def test_every_id_runs_on_its_demo(name):
    check_env(gymnasium.make(f"at2po_env:{BENCHMARKS[name].id}", split="demo").unwrapped)
    env = gymnasium.make(BENCHMARKS[name].id, split="demo", reward="em").unwrapped
    assert (env.dataset.name, env.dataset.split) == (name, "demo")
    env.reset(seed=4)
    question = env.state.question
    *_, info = env.step(f"<search>{question.supporting_titles[0]}</search>")
    assert question.supporting_titles[0] in [hit["title"] for hit in info["hits"]]
    assert env.step(f"<answer>{question.answers[-1]}</answer>")[1] == 1.0


@pytest.mark.parametrize(("name", "split"), [("bamboogle", "test"), ("popqa", "test"), ("nq", "train")])
def test_the_default_split_is_the_first_of_the_benchmark_and_never_the_demo(monkeypatch, tmp_path, name, split):
    monkeypatch.setenv("AT2PO_DATA", str(tmp_path))
    with pytest.raises(at2po_env.DataNotFound, match=f"no data for split '{split}'"):
        gymnasium.make(BENCHMARKS[name].id)


def test_a_default_make_takes_the_first_split_that_is_installed(monkeypatch, tmp_path):
    monkeypatch.setenv("AT2PO_DATA", str(tmp_path))
    folder = tmp_path / "nq"
    folder.mkdir()
    (folder / "nq-open-oracle.jsonl").write_text('{"question": "who", "answers": ["oracle"], "ctxs": []}\n')
    (folder / "dev.jsonl").write_text('{"question": "who", "answer": ["dev"]}\n')

    def default():
        return gymnasium.make("AT2PO-NQ-v0", search=FakeSearch()).unwrapped

    assert default().dataset.split == "dev"
    with pytest.raises(at2po_env.DataNotFound, match=r"split 'train' .*; installed is dev, oracle\. Three"):
        gymnasium.make("AT2PO-NQ-v0", split="train")
    (folder / "train.jsonl").write_text('{"question": "who", "answer": ["train"]}\n')
    assert default().questions[0].answers == ("train",)


def test_data_is_installed_in_the_users_data_directory_by_default(monkeypatch, tmp_path):
    monkeypatch.delenv("AT2PO_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert at2po_env.default_data_dir() == tmp_path / "at2po"
    folder = tmp_path / "at2po" / "bamboogle"
    folder.mkdir(parents=True)
    (folder / "bamboogle.csv").write_text("Question,Answer\nWho?,Me\n")
    env = gymnasium.make("AT2PO-Bamboogle-v0", search=FakeSearch()).unwrapped
    assert [(q.question, q.answers) for q in env.questions] == [("Who?", ("Me",))]


def test_passages_of_several_splits_come_once(data_dir):
    alone = [list(at2po_env.passages("hotpotqa", [split], data_dir=data_dir)) for split in ("dev", "dev_fullwiki")]
    both = list(at2po_env.passages("hotpotqa", ["dev", "dev_fullwiki"], data_dir=data_dir))
    contents = {(p.title, p.text) for passages in alone for p in passages}
    assert {(p.title, p.text) for p in both} == contents
    assert len(both) == len(contents) < sum(map(len, alone))


def test_every_benchmark_is_registered_in_its_groups():
    for name, entry in BENCHMARKS.items():
        assert gymnasium.spec(entry.id).kwargs == {"benchmark": name}
        assert load_benchmark(name).name == name
        assert entry.groups


@pytest.mark.parametrize("family", list(TASK_FAMILIES))
def test_every_task_family_is_made_by_its_id_in_every_split(family):
    tasks = [gymnasium.make(family, split=split).unwrapped.manifest()["dataset"] for split in ("train", "dev", "test")]
    assert len({described["digest"] for described in tasks}) == 3
    with pytest.raises(ValueError, match="there are train, dev, test"):
        gymnasium.make(family, split="demo")
