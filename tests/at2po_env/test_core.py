from __future__ import annotations

import pytest

from at2po_env.core import ForkableEnv
from tests.helpers.env_doubles import make_env


def test_a_fork_continues_with_the_same_draws_as_the_original():
    env = make_env()
    env.reset(seed=3)
    fork = env.fork(1)[0]
    assert fork.np_random is not env.np_random
    assert fork.np_random_seed == env.np_random_seed == 3
    assert [fork.np_random.integers(1000) for _ in range(5)] == [env.np_random.integers(1000) for _ in range(5)]


def test_forks_of_an_unseeded_environment_agree_with_it_too():
    env = make_env()
    env.reset()
    one, two = env.fork(2)
    assert one.np_random.random() == two.np_random.random() == env.np_random.random()


def test_the_methods_that_make_an_environment_forkable_are_required():
    class Half(ForkableEnv[int]):
        def snapshot(self) -> int:
            return 0

    with pytest.raises(TypeError, match="abstract"):
        Half()  # type: ignore[abstract]
