"""Multi-turn question answering with a search tool, as Gymnasium environments that fork."""

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
