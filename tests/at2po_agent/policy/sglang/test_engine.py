"""Processes sample with the weights that were published last. The servers are doubled at the transport."""

import asyncio
import time
from contextlib import ExitStack, contextmanager

import pytest
import torch

from at2po_agent.policy.base import Completion, PolicyError, PolicyUnavailable, Request, Sampling
from at2po_agent.policy.engine import EngineConfig
from at2po_agent.policy.sglang.check import known_prompt
from at2po_agent.policy.sglang.engine import SGLangEngine
from at2po_agent.policy.sglang.launch import RunningServers
from at2po_agent.policy.sglang.publisher import Publisher
from at2po_agent.policy.sglang.weight_sync import DiskSync
from at2po_agent.update.processes import Processes
from tests.helpers.servers import free_port
from tests.helpers.sglang_control import Controlled
from tests.helpers.sglang_double import serving
from tests.helpers.threads import in_threads
from tests.helpers.tiny_models import CODEC, tiny

GREEDY = Sampling(0.0)
UPDATE = ["pause_generation", "update_weights_from_disk", "continue_generation"]


@contextmanager
def opened(folder, servers, model, note=lambda text: None, **options):
    running = RunningServers([server.url for server in servers], note)
    config = EngineConfig(kind="sglang", patience=2.0, timeout=5.0, **options)
    engine = SGLangEngine(model, CODEC, Publisher(running, model, DiskSync(folder), config), config)
    try:
        yield engine
    finally:
        engine.close()


def ask(engine: SGLangEngine) -> Completion:
    return asyncio.run(engine.generate([Request((1, 2, 3), 3, (0,))], GREEDY))[0]


@torch.no_grad()
def expected(model) -> float:
    return float(torch.log_softmax(model(torch.tensor([[1, 2, 3]])).logits[0, -1], -1).max())


@torch.no_grad()
def change(model) -> None:
    for parameter in model.parameters():
        parameter.mul_(1.3)


def eventually(check, seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_what_is_published_is_what_samples(tmp_path) -> None:
    model = tiny()
    other = tiny()
    change(other)
    with serving(Controlled(other)) as server, opened(tmp_path, [server], model) as engine:
        first = ask(engine)
        assert first.version == engine.version == 0 and first.logprobs[0] == pytest.approx(expected(model), abs=1e-4)
        assert server.calls == UPDATE and server.version.endswith("-0")  # although it served another model
        change(model)
        assert ask(engine).logprobs == first.logprobs
        engine.publish(model, 7)
        second = ask(engine)
    assert second.version == 7 and second.logprobs[0] == pytest.approx(expected(model), abs=1e-4) != first.logprobs[0]
    assert server.calls == UPDATE * 2 and server.version.endswith("-7")


def test_a_server_that_comes_back_with_older_weights_gets_the_new_ones_before_it_is_used(tmp_path) -> None:
    model, notes = tiny(), []
    with serving(Controlled(tiny())) as server, opened(tmp_path, [server], model, note=notes.append) as engine:
        change(model)
        engine.publish(model, 1)
        server.model, server.version = tiny(), "default"  # started again with what it began with
        answers = []

        def again() -> bool:
            try:
                answers.append(ask(engine))
            except PolicyUnavailable as error:
                assert "'default'" in str(error)
            return bool(answers)

        eventually(again)
        assert answers[0].version == 1 and answers[0].logprobs[0] == pytest.approx(expected(model), abs=1e-4)
        eventually(lambda: any("weights again" in note for note in notes))


def test_a_server_that_is_away_holds_nobody_up(tmp_path) -> None:
    model, notes = tiny(), []
    with ExitStack() as stack:
        here, there = (stack.enter_context(serving(Controlled(tiny()))) for _ in range(2))
        with opened(tmp_path, [here, there], model, note=notes.append) as engine:
            there.refuse["/pause_generation"] = 503
            change(model)
            engine.publish(model, 1)
            assert here.version.endswith("-1") and there.version.endswith("-0")
            assert any("continuing without it" in note for note in notes)
            for key in range(6):  # some of these would be at home there
                found = asyncio.run(engine.generate([Request((1, 2, 3), 3, (key,))], GREEDY))[0]
                assert found.version == 1 and found.logprobs[0] == pytest.approx(expected(model), abs=1e-4)
            eventually(lambda: there.version.endswith("-1"))


def test_a_second_process_samples_from_what_the_first_one_publishes(tmp_path) -> None:
    model = tiny()
    other = tiny()
    change(other)

    def work(processes: Processes) -> list[Completion]:
        publisher = None
        if processes.leads:
            publisher = Publisher(RunningServers([server.url]), model, DiskSync(tmp_path), EngineConfig(kind="sglang"))
        engine = SGLangEngine(model, CODEC, publisher, lead=processes.lead)
        found = [ask(engine)]
        processes.gather("both have sampled")
        engine.clear_cache()
        engine.release()
        engine.publish(other, 3)
        found.append(ask(engine))
        processes.gather("both have sampled again")
        engine.close()
        return found

    with serving(Controlled(tiny())) as server:
        ours, theirs = in_threads(work)
        assert ours == theirs
        assert [(one.version, one.logprobs[0]) for one in ours] == [
            (0, pytest.approx(expected(model), abs=1e-4)),
            (3, pytest.approx(expected(other), abs=1e-4)),
        ]
        assert server.calls == UPDATE * 2 and server.flushes == 1  # by the first one alone


def test_a_process_that_does_not_reach_the_servers_of_the_first_is_told_what_to_set() -> None:
    model = tiny()
    known = known_prompt(model, CODEC)
    nobody = f"http://127.0.0.1:{free_port()}"
    with serving(Controlled(model)) as server:
        for url, error, message in (
            (server.url, PolicyError, "other servers on .*'default', not 'run-0'.*engine.launch.host"),
            (nobody, PolicyUnavailable, f"{nobody} cannot be reached.*engine.launch.host"),
        ):
            with pytest.raises(error, match=message):
                SGLangEngine(model, CODEC, None, lead=lambda work, url=url: ((url,), "run-0", known))
