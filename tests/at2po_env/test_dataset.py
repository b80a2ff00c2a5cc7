from __future__ import annotations

import pytest

from at2po_env.dataset import DataError, Dataset
from at2po_env.state import Question


def test_questions_of_ones_own():
    questions = [Question("a", "A?", ("x",)), Question("b", "B?", ("", "y"))]
    dataset = Dataset.of(questions, name="mine", split="dev")
    assert (dataset.name, dataset.split, dataset.questions) == ("mine", "dev", tuple(questions))
    assert Dataset.of(questions).digest == dataset.digest
    assert Dataset.of(questions[:1]).digest != dataset.digest


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        ([], "mine dev: there are no questions"),
        ([Question("a", "A?", ("x",)), Question("a", "B?", ("y",))], r"question 1 \(id 'a'\): the id is not unique"),
        ([Question("a", "A?", ())], r"question 0 \(id 'a'\): it has no gold answer"),
        ([Question("a", "A?", (" ", ""))], r"question 0 \(id 'a'\): it has no gold answer"),
    ],
)
def test_questions_that_cannot_be_judged_are_named(questions, message):
    with pytest.raises(DataError, match=message):
        Dataset.of(questions, name="mine", split="dev")
