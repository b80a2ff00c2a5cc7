import random

import pytest

from search_backend.retry import OVERLOADED, RETRYABLE, Backoff


def test_pauses_double_up_to_a_bound():
    backoff = Backoff(0.2, 10.0)
    assert list(backoff.pauses(4)) == [0.2, 0.4, 0.8, 1.6]
    assert list(backoff.pauses(0)) == []
    assert max(backoff.pauses(20)) == backoff.pause(10_000) == 10.0
    assert Backoff(1.0).pause(11) == 1024.0
    assert Backoff(20.0, 10.0).pause(1) == 10.0
    assert Backoff(0.0).pause(10_000) == 0.0


def test_jitter_spreads_every_pause_between_nothing_and_its_length():
    many = [Backoff(1.0, 8.0, random.Random(seed)) for seed in range(300)]
    for failures, bound in enumerate((1, 2, 4, 8, 8, 8), 1):
        pauses = [backoff.pause(failures) for backoff in many]
        assert 0 <= min(pauses) < 0.05 * bound and 0.95 * bound < max(pauses) <= bound


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 507, 520, 529])
def test_statuses_that_may_pass(status):
    assert status in RETRYABLE


@pytest.mark.parametrize("status", [200, 301, 400, 401, 403, 404, 405, 413, 422, 501, 505])
def test_statuses_that_will_not(status):
    assert status not in RETRYABLE


def test_an_overload_passes():
    assert OVERLOADED < RETRYABLE
