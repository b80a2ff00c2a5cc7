"""Multi-turn question answering with a search tool, as Gymnasium environments that fork.

core           ``ForkableEnv``: episodes that can be snapshotted, restored and forked at any turn
search_qa      ``SearchQAEnv``: answer a question in turns of thought, search and answer
state          questions, actions, turns and episodes, as frozen values
rules          what a turn does to an episode
scoring        scores of an answer, and the reward of an episode
dialect        how questions, turns and results are written with tags
tool_calls     the same with native tool calls
dialects       the dialects by name; to add one: a ``Dialect`` with other texts, and a line here
turn_text      reads what a model wrote in a turn
rendering      prompts: text of ours and data that is never trusted
chat           episodes as chat messages
dataset        ``Dataset`` and ``Benchmark``: questions of a split, and passages to search
installed      benchmark files in the data directory
registration   the benchmarks and their Gymnasium ids; to add one, see ``envs``
spaces         the Gymnasium space of unicode texts
testing        the contract of a forkable environment, as tests to inherit
"""

from at2po_env.core import ForkableEnv
from at2po_env.dataset import DataError, DataNotFound, Dataset
from at2po_env.dialects import DIALECTS, Dialect
from at2po_env.registration import BENCHMARKS, default_data_dir, load_benchmark, make, passages, register
from at2po_env.scoring import Outcome, contains, exact_match, f1
from at2po_env.search_qa import SearchQAEnv
from at2po_env.state import Action, EnvError, EpisodeState, Question, Segment, SnapshotError, Text, Turn

__all__ = [
    "BENCHMARKS",
    "DIALECTS",
    "Action",
    "DataError",
    "DataNotFound",
    "Dataset",
    "Dialect",
    "EnvError",
    "EpisodeState",
    "ForkableEnv",
    "Outcome",
    "Question",
    "SearchQAEnv",
    "Segment",
    "SnapshotError",
    "Text",
    "Turn",
    "contains",
    "default_data_dir",
    "exact_match",
    "f1",
    "load_benchmark",
    "make",
    "passages",
]

register()
