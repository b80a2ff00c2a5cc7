"""The dialects by name: how a question is put to the model, how its turn is read, and how results are shown to it."""

from __future__ import annotations

import dataclasses

from at2po_env.dialect import Dialect
from at2po_env.tool_calls import ToolCalls
from search_backend.components import Kind

__all__ = ["BARE", "CHAT", "DIALECT", "DIALECTS", "NATIVE", "SEARCH_R1", "TAGS", "Dialect"]

_INSTRUCTIONS = """\
Answer the question below. Think first, inside <think> and </think>. If you lack a fact, search for it by writing \
<search>your query</search>; the passages that were found follow between <result> and </result>. You can search \
several times. As soon as you know enough, give only the answer itself, without explanation, like this: \
<answer>Beijing</answer>.
"""

TAGS = Dialect(
    name="tags",
    instructions=_INSTRUCTIONS,
    question_open="Question: ",
    question_close="",
    result_open="\n<result>\n",
    hit_open="({n}) ",
    title_close=": ",
    hit_close="\n",
    result_close="</result>\n",
    nothing_found="Nothing was found.\n",
    boxed_instruction="Put the answer in a box, like this: <answer>\\boxed{Beijing}</answer>.\n",
)

BARE = Dialect(
    name="bare",
    instructions="",
    question_open="",
    question_close="",
    result_open="<result>",
    hit_open=" ",
    title_close=" : ",
    hit_close="",
    result_close=" </result>",
    nothing_found="",
    search_limit=" answer !",
    complaint=" ? {why}",
)

CHAT = dataclasses.replace(
    TAGS,
    name="chat",
    instructions=_INSTRUCTIONS.replace(
        "the passages that were found follow between <result> and </result>",
        "end your message there, and the next one brings the passages that were found, between <result> and </result>",
    ),
    result_open="<result>\n",
    result_close="</result>",
    as_messages=True,
)
"""The paper's tags with every result as a user message, for chat endpoints and models: another prompt than TAGS."""

SEARCH_R1 = dataclasses.replace(
    TAGS,
    name="search_r1",
    instructions="""\
Answer the question at the end. Whenever you have new information, reason about it first, inside <think> and </think>. \
If you find that you lack some knowledge, you can call a search engine by <search> query </search>, and it returns the \
top results between <information> and </information>. You can search as often as you want. When no further knowledge \
is needed, give the answer inside <answer> and </answer>, without detailed illustrations, for example \
<answer> Beijing </answer>. """,
    question_close="\n",
    result_open="\n\n<information>",
    hit_open="Doc {n}(Title: ",
    title_close=") ",
    hit_close="\n",
    result_close="</information>\n\n",
    complaint="This action is invalid: {why}. Start a query with <search>, an answer with <answer>, and close both.",
)
"""Search-R1's tags and result layout (Jin et al. 2025, https://arxiv.org/abs/2503.09516); the instructions say what its
do, in our words. ``dataclasses.replace(SEARCH_R1, instructions=…)`` takes a checkpoint's own."""

NATIVE = ToolCalls(
    name="native",
    instructions="""\
Answer the question below. Think first. If you lack a fact, call the tool search, which returns passages; you can call \
it several times, one query at a time. As soon as you know enough, end with a message without a tool call that gives \
only the answer itself, without explanation, like this: <answer>Beijing</answer>.
""",
    question_open="Question: ",
    question_close="",
    result_open="",
    hit_open="({n}) ",
    title_close=": ",
    hit_close="\n",
    result_close="",
    nothing_found="Nothing was found.\n",
    boxed_instruction=TAGS.boxed_instruction,
    as_messages=True,
    tool_description="Searches a collection of passages and returns those that match the query best.",
    query_description="Words to search for, such as a name and what you want to know about it.",
)
"""Native tool calls, for endpoints and for policies whose chat template has tools."""

DIALECTS: dict[str, Dialect] = {dialect.name: dialect for dialect in (TAGS, BARE, CHAT, SEARCH_R1, NATIVE)}
DIALECT = Kind("dialect", Dialect, DIALECTS)
