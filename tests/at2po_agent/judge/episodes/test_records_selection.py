from at2po_agent.judge.episodes.records import FILTERS, verdict
from tests.helpers.evaluations import answered, failed, malformed


def test_filters_may_overlap_and_a_verdict_is_one_word():
    def names(episode):
        return [name for name, fits in FILTERS.items() if fits(episode)]

    assert (names(answered("a")), verdict(answered("a"))) == (["correct"], "correct")
    assert (names(answered("a", "Rom")), verdict(answered("a", "Rom"))) == (["wrong"], "wrong")
    assert (names(malformed("a")), verdict(malformed("a"))) == (["wrong", "malformed"], "malformed")
    assert (names(failed("a")), verdict(failed("a"))) == (["error"], "error")
