"""TriviaQA: questions of trivia enthusiasts with many aliases per answer (Joshi et al. 2017, arXiv 1705.03551).

Splits: ``train`` and ``dev`` are the unfiltered sets that open-domain work uses; ``train_web``, ``dev_web``,
``train_wikipedia`` and ``dev_wikipedia`` those of the reading-comprehension release; ``sample`` the authors' file
of one question. FlashRAG's ``test`` is the official unfiltered ``dev``, its ``train`` and ``dev`` two parts of the
official ``train``. Files ``…-without-answers`` and the Hugging Face layout's ``test``, whose answers are ``<unk>``,
cannot be scored: their rows are counted as ``without_answers``.
Read are the official JSON (an object with the rows under ``Data``; ``Question``, ``QuestionId``, ``Answer``), the
Hugging Face layout (the same in lower case, ``answer.normalized_aliases``) and FlashRAG's.
Gold answers: ``Value``, every one of ``Aliases``, ``NormalizedAliases`` (the official script's set), ``HumanAnswers``.
"""

from __future__ import annotations

from at2po_env.state import Question

from .benchmark import FileBenchmark
from .demo import triviaqa
from .layouts import Record

_ALIASES = (
    ("Value", "Aliases", "NormalizedAliases", "HumanAnswers"),
    ("value", "aliases", "normalized_aliases", "human_answers"),
)


def read(record: Record, split: str) -> Question | str:
    """The question of a record, or that its answer is withheld."""
    official = "Question" in record
    text = record.text("Question" if official else "question")
    id_ = record.id(split, "QuestionId", "question_id")
    if "golden_answers" in record:
        return Question(id_, text, record.texts("golden_answers"))
    field = "Answer" if official else "answer"
    if official and field not in record:
        return "without_answers"
    answer = record.as_object(field, record.get(field))
    value, *lists = _ALIASES[0 if official else 1]
    found = [record.as_text(f"{field}.{value}", answer.get(value))]
    for name in lists:
        if name in answer:
            found += record.as_texts(f"{field}.{name}", answer[name])
    return Question(id_, text, tuple(dict.fromkeys(found)))


def _names(part: str, split: str) -> tuple[str, ...]:
    return f"triviaqa-rc/qa/{part}-{split}.json", f"qa/{part}-{split}.json", f"{part}-{split}.json"


BENCHMARK = FileBenchmark(
    name="triviaqa",
    title="TriviaQA",
    citation="Joshi et al. 2017, TriviaQA: A Large Scale Distantly Supervised Challenge Dataset, ACL",
    license="Apache-2.0",
    files={
        "train": ("triviaqa-unfiltered/unfiltered-web-train.json", "unfiltered-web-train.json", "train.jsonl"),
        "dev": (
            "triviaqa-unfiltered/unfiltered-web-dev.json",
            "unfiltered-web-dev.json",
            "dev.jsonl",
            "validation.jsonl",
        ),
        "test": ("test.jsonl",),
        **{f"{split}_{part}": _names(part, split) for part in ("web", "wikipedia") for split in ("train", "dev")},
        "sample": ("triviaqa_sample.json",),
    },
    download="triviaqa-unfiltered.tar.gz or triviaqa-rc.tar.gz from https://nlp.cs.washington.edu/triviaqa, unpack it",
    read=read,
    owns=lambda record: "QuestionId" in record or "question_id" in record,
    demo=triviaqa,
)
