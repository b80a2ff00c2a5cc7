"""Trees in TRL's asynchronous trainer: what its samples weigh, and real steps on them."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import pytest
import torch

import at2po_agent as at2po
from at2po_agent.integrations import trl_trees, turn_loss
from at2po_agent.integrations.trl_trees import LocalWeightTransfer, TreeRolloutConfig, TreeRolloutWorker, samples_of
from at2po_agent.method.credit import TurnCredit
from tests.helpers.drawn_trees import draw, golden_trees
from tests.helpers.trajectories import trajectories_of
from tests.helpers.trl_steps import TWO_STEPS

MODEL = Path(at2po.__file__).parent / "data" / "microwiki"


@pytest.mark.parametrize("golden", golden_trees()[:3], ids=lambda tree: f"seed{tree['seed']}")
def test_a_mean_over_tokens_of_turns_is_the_mean_over_trajectories(golden):
    tree = draw(golden["parent"], golden["entropy"])
    for n, node in enumerate(tree.nodes[1:], start=1):  # turns of several lengths
        node.action, node.logp = node.action * (1 + n % 3), node.logp * (1 + n % 3)
    rewards = {int(leaf): reward for leaf, reward in golden["reward"].items()}
    credited = TurnCredit()(tree, rewards)
    # the core's gradient with respect to each turn's tokens, on policy
    trajectories = trajectories_of(tree, rewards, given=True)
    width = max(len(t.ids) for t in trajectories)
    mask, logp, advantages, nodes = (torch.zeros(len(trajectories), width, dtype=torch.float64) for _ in range(4))
    for i, (t, values, (_, path)) in enumerate(zip(trajectories, credited, tree.trajectories(), strict=True)):
        mask[i, : len(t.ids)], nodes[i, : len(t.ids)] = torch.tensor(t.mask), torch.tensor(t.turn_ids)
        for n, value in zip(path, values, strict=True):
            advantages[i, nodes[i] == n] = value
    logp.requires_grad_()
    loss, _ = turn_loss(logp, logp.detach(), advantages, mask, nodes.long())
    (gradient,) = torch.autograd.grad(loss, logp)
    samples = samples_of(tree, credited)
    total = sum(len(sample.logp) for sample in samples)
    for n, sample in enumerate(samples, start=1):
        assert sample.ids == (*tree.prompt_ids(tree[n].parent), *tree[n].action)
        assert sample.logp == tree[n].logp
        expected = gradient[(nodes == n) & (mask > 0)].sum().item() / len(tree[n].action)
        assert -sample.advantage / total == pytest.approx(expected, rel=1e-9, abs=1e-12)
    plain = samples_of(tree, credited, path_weights=False)
    assert [s.advantage for s in plain] == pytest.approx(TurnCredit().values(tree, rewards)[1:].tolist())


def test_settings_below_one_are_refused():
    with pytest.raises(ValueError, match="trees is 0"):
        TreeRolloutConfig(trees=0)


def attention(q, k, v, cu_q, cu_k, max_q, max_k, softmax_scale=None, causal=True, window_size=(-1, -1)):
    """FlashAttention's ``flash_attn_varlen_func`` in torch: the end of each query segment sees all of its keys."""
    assert causal and window_size == (-1, -1)
    parts = []
    for a, b, c, d in zip(cu_q[:-1], cu_q[1:], cu_k[:-1], cu_k[1:], strict=True):
        queries, keys, values = (t.transpose(0, 1) for t in (q[a:b], k[c:d], v[c:d]))
        repeat = queries.shape[0] // keys.shape[0]
        keys, values = keys.repeat_interleave(repeat, 0), values.repeat_interleave(repeat, 0)
        seen = torch.ones(b - a, d - c, dtype=torch.bool).tril(diagonal=int((d - c) - (b - a)))
        mixed = torch.nn.functional.scaled_dot_product_attention(queries, keys, values, seen, scale=softmax_scale)
        parts.append(mixed.transpose(0, 1))
    return torch.cat(parts)


class Recorded(TreeRolloutWorker):
    """Remembers what it sends."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.sent, put = [], self.rollout_buffer.put
        self.rollout_buffer.put = lambda sample, **more: (put(sample, **more), self.sent.append(sample))


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("transfer", ["nothing", "local"])
def test_two_steps_of_the_asynchronous_trainer(monkeypatch, tmp_path, transfer):
    from trl.experimental.async_grpo import AsyncGRPOConfig, AsyncGRPOTrainer, packing

    # The trainer forces FlashAttention 3, which needs a GPU: its one call is replaced by the function above. It also
    # looks up the GPU by name, for how much of its speed a step reaches.
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "no GPU")
    monkeypatch.setattr(packing, "_flash_attn", lambda: SimpleNamespace(flash_attn_varlen_func=attention))
    env = gymnasium.make("AT2PO-MicroWiki-v0", dialect="bare", k=1, max_searches=4).unwrapped
    policy = at2po.LocalPolicy.from_pretrained(str(MODEL))
    method = at2po.build("at2po", expansion={"chains": 4, "per_round": 2, "rounds": 1})
    worker = Recorded(env, at2po.Actor(policy, policy.codec), method)
    nothing = SimpleNamespace(
        init_weight_transfer=lambda: None,
        pause=lambda: None,
        send_weights=lambda iterator: None,
        resume=lambda: None,
        destroy=lambda: None,
    )
    before = policy.model.get_input_embeddings().weight.detach().clone()
    trainer = AsyncGRPOTrainer(
        str(MODEL),
        args=AsyncGRPOConfig(
            **TWO_STEPS,
            output_dir=str(tmp_path),
            per_device_train_batch_size=12,
            gradient_accumulation_steps=1,
            token_budget=0,
            bf16=False,
            dtype="float32",
            save_strategy="no",
        ),
        train_dataset=worker.train_dataset,
        rollout_worker=worker,
        weight_transfer=LocalWeightTransfer(policy, worker) if transfer == "local" else nothing,
    )
    trained = trainer.model.get_input_embeddings().weight
    start = trained.detach().clone()
    trainer.train()
    steps = [entry for entry in trainer.state.log_history if "ratio" in entry]
    assert len(steps) == 2
    # the trainer's log-probabilities through its trie are those that the tree was sampled with
    assert steps[0]["ratio"] == pytest.approx(1.0, abs=1e-3)
    assert not torch.equal(trained, start)
    sampled = policy.model.get_input_embeddings().weight
    assert torch.equal(sampled, before) == (transfer == "nothing")
    if transfer == "local":
        assert torch.equal(sampled, trained)
    for sample in worker.sent:
        (begin, *_), generated = sample.completion_mask.nonzero()[0], sample.completion_mask.sum()
        assert sample.completion_mask[begin:].all() and begin + generated == len(sample.input_ids)
        assert len(sample.old_log_probs) == len(sample.input_ids)
    assert len({sample.group_id for sample in worker.sent}) >= 2
    policy.close()
    env.close()


def test_a_worker_stops_after_an_error_while_weights_were_copied(monkeypatch):
    monkeypatch.setattr(trl_trees, "WAIT_SECONDS", 0.01)
    env = gymnasium.make("AT2PO-MicroWiki-v0", dialect="bare").unwrapped
    worker = TreeRolloutWorker(env, SimpleNamespace(deterministic=False), at2po.build("at2po"))
    policy = SimpleNamespace(model=torch.nn.Linear(1, 1))
    transfer = LocalWeightTransfer(policy, worker)
    transfer.pause()
    worker.start()
    with pytest.raises(KeyError):
        transfer.send_weights(iter([("unknown", torch.zeros(1))]))
    stopping = threading.Thread(target=worker.stop, daemon=True)
    stopping.start()
    stopping.join(5)
    assert not stopping.is_alive()
    worker.check_health(60)


@pytest.mark.integration
def test_what_ends_the_thread_is_raised_in_the_trainer():
    env = gymnasium.make("AT2PO-MicroWiki-v0", dialect="bare").unwrapped
    worker = TreeRolloutWorker(env, SimpleNamespace(deterministic=False), at2po.build("at2po"))
    worker.start()
    worker.stop()
    with pytest.raises(RuntimeError, match="rollout worker failed"):
        worker.check_health(60)
