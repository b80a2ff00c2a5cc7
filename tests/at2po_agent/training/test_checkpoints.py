from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from at2po_agent.atomic_files import DiskError
from at2po_agent.method.groups import Rollout
from at2po_agent.training import checkpoints
from at2po_agent.training.batches import Batch
from at2po_agent.training.checkpoints import CheckpointError, Progress, latest, load, remove_superseded
from tests.helpers.faults import disk_with_room_for

WORDS = ["<eos>", "<search>", "</search>", "river", "town", "name"]


def new_tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<eos>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>")


class Trainee:
    """A model, an optimiser and noise: what has to continue bit for bit."""

    def __init__(self, seed: int = 0, tied: bool = True) -> None:
        torch.manual_seed(seed)
        sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "head_dim": 8}
        heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
        config = Qwen3Config(vocab_size=len(WORDS), tie_word_embeddings=tied, **sizes, **heads)
        self.model = Qwen3ForCausalLM(config)
        self.tokenizer = new_tokenizer()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-2)
        self.losses: list[float] = []

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict(), "losses": self.losses}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.losses = state["losses"]

    def step(self) -> None:
        noise = [random.randrange(6), int(np.random.randint(6)), int(torch.randint(6, ()))]
        ids = torch.tensor([[*noise, 1, 3, 2]])
        loss = self.model(input_ids=ids, labels=ids).loss
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.losses.append(float(loss.detach()))

    def save(self, directory: Path, step: int, ahead: Batch | None = None, **more: Any) -> Path:
        progress = Progress(step, {"step": step, "seconds": 1.5}, self.state_dict(), ahead)
        return checkpoints.save(directory, progress, model=self.model, tokenizer=self.tokenizer, **more)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def weights(model: torch.nn.Module) -> dict[str, list[float]]:
    return {name: tensor.flatten().tolist() for name, tensor in model.state_dict().items()}


def nobody(problem: str) -> None:
    raise AssertionError(problem)


@pytest.mark.parametrize("tied", [True, False])
def test_a_restored_run_goes_on_bit_for_bit(tmp_path: Path, tied: bool):
    straight = Trainee(tied=tied)
    random.seed(1)
    np.random.seed(2)
    for _ in range(3):
        straight.step()
    straight.save(tmp_path, 3)
    for _ in range(3):
        straight.step()

    resumed = Trainee(seed=99, tied=tied)
    memory = [parameter.data_ptr() for parameter in resumed.model.parameters()]
    resumed.step()
    found = latest(tmp_path, nobody)
    assert found is not None
    assert (found.step, found.position) == (3, {"step": 3, "seconds": 1.5})
    found.restore(resumed.model, resumed)
    for _ in range(3):
        resumed.step()
    assert resumed.losses == straight.losses
    assert weights(resumed.model) == weights(straight.model)
    assert [parameter.data_ptr() for parameter in resumed.model.parameters()] == memory


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path):
    Trainee(tied=False).save(tmp_path, 1)
    other = Trainee()
    other.model.resize_token_embeddings(8)
    with pytest.raises(CheckpointError, match=r"step_000001 belongs to another model: .*size mismatch"):
        load(tmp_path / "step_000001").restore(other.model, other)


def test_the_last_ones_are_kept(tmp_path: Path):
    trainee = Trainee()
    for step in (1, 2, 10, 100):
        trainee.save(tmp_path, step, keep=2)
    assert names(tmp_path) == ["step_000010", "step_000100"]
    trainee.save(tmp_path, 101, keep=4)
    trainee.save(tmp_path, 102, keep=4)
    assert names(tmp_path) == ["step_000010", "step_000100", "step_000101", "step_000102"]
    trainee.save(tmp_path, 103, keep=1)
    assert names(tmp_path) == ["step_000103"]


def test_what_a_killed_process_left_half_removed_is_never_read_and_goes(tmp_path: Path, monkeypatch):
    def rmtree(path: Path, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            (path / "state.pt").unlink()
            raise SystemExit

    trainee = Trainee()
    trainee.save(tmp_path, 1)
    with monkeypatch.context() as killed, pytest.raises(SystemExit):
        killed.setattr("shutil.rmtree", rmtree)
        trainee.save(tmp_path, 2, keep=1)
    assert not (tmp_path / "step_000001").exists()
    newest = latest(tmp_path, pytest.fail)
    assert newest is not None and newest.step == 2
    remove_superseded(newest.path, keep=1)
    assert names(tmp_path) == ["step_000002"]


def test_saving_a_step_again_replaces_it_and_what_came_after(tmp_path: Path):
    trainee = Trainee()
    for step in (1, 2, 3):
        trainee.save(tmp_path, step, keep=9)
    again = trainee.save(tmp_path, 2, keep=9)
    assert names(tmp_path) == ["step_000001", again.name]
    third = trainee.save(tmp_path, 2, keep=9)
    assert names(tmp_path) == ["step_000001", third.name]
    found = latest(tmp_path, nobody)
    assert found is not None
    assert (found.path, found.step) == (third, 2)


FILES = ["model/model.safetensors", "state.pt", "position.json", "ahead.json.zst", "checkpoint.json"]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("how", ["truncated", "removed", "flipped"])
def test_a_damaged_checkpoint_is_passed_over_and_said(tmp_path: Path, file: str, how: str):
    trainee = Trainee()
    trainee.save(tmp_path, 1)
    damaged = trainee.save(tmp_path, 2, Batch(Rollout((), {}, 0, 1), {})) / file
    data = damaged.read_bytes()
    if how == "removed":
        damaged.unlink()
    else:
        damaged.write_bytes(data[:-1] if how == "truncated" else bytes([data[0] ^ 1]) + data[1:])
    said: list[str] = []
    found = latest(tmp_path, said.append)
    assert found is not None
    assert found.step == 1
    assert len(said) == 1
    assert "step_000002 is damaged: " in said[0]
    assert said[0].endswith("; continuing from step_000001 instead")


def test_trees_of_the_next_step_are_kept_with_it_and_those_of_another_version_named(tmp_path: Path) -> None:
    trainee, ahead = Trainee(), Batch(Rollout((), {"q": "too long"}, 3, 1), {"prefilled_tokens": 5})
    assert load(trainee.save(tmp_path, 1)).ahead() is None
    found = load(trainee.save(tmp_path, 2, ahead))
    assert found.ahead() == ahead
    (found.path / "ahead.json.zst").write_bytes(b"?")
    with pytest.raises(CheckpointError, match=r"ahead.json.zst: not the trees .*remove .*step_000002 to continue"):
        found.ahead()


def test_without_a_whole_checkpoint(tmp_path: Path):
    assert latest(tmp_path / "never", nobody) is None
    (Trainee().save(tmp_path, 1) / "state.pt").unlink()
    with pytest.raises(CheckpointError, match=r"no checkpoint can be used: .*state.pt is missing"):
        latest(tmp_path, nobody)


@pytest.mark.parametrize("limit", [5_000, 25_000])  # the weights do not fit; they do and the optimiser does not
def test_a_disk_that_fills_up_leaves_the_older_checkpoint(tmp_path: Path, limit: int):
    trainee = Trainee()
    trainee.step()
    first = trainee.save(tmp_path, 1)
    assert (first / "model/model.safetensors").stat().st_size in range(5_000, 25_000)
    assert (first / "state.pt").stat().st_size > 25_000
    with disk_with_room_for(limit), pytest.raises(DiskError, match="File too large") as caught:
        trainee.save(tmp_path, 2)
    assert str(caught.value).startswith(f"cannot write {tmp_path / 'step_000002'}: ")
    assert names(tmp_path) == ["step_000001"]
    assert load(first).step == 1


def test_an_interrupted_save_leaves_the_older_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    trainee = Trainee()
    trainee.save(tmp_path, 1, keep=1)
    monkeypatch.setattr(trainee, "state_dict", lambda: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        trainee.save(tmp_path, 2, keep=1)
    assert names(tmp_path) == ["step_000001"]


def test_the_checkpoints_of_a_run_are_told_from_what_lies_beside_them(tmp_path: Path) -> None:
    for name in ("step_000002_1", "step_000010", "step_000002", "step_000002-copy", "step_x"):
        (tmp_path / name).mkdir()
    found = checkpoints.folders(tmp_path)
    assert [path.name for path in found] == ["step_000002", "step_000002_1", "step_000010"]
    assert [checkpoints.step_of(path) for path in found] == [2, 2, 10]
