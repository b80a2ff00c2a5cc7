"""Multi-turn question answering with a search tool, as Gymnasium environments that fork.

core           ``ForkableEnv``: episodes that can be snapshotted, restored and forked at any turn
tasks          ``TaskEnv``: a forkable environment over a list of tasks, which is what training works with
episode_env    ``EpisodeEnv``: what environments share whose episodes are lists of turns
tool_env       ``ToolEnv``: any task that is solved by calling plain Python functions
tools          ``Tool``: a typed function with its JSON schema
mcp_server     ``McpServer``: the tools of an MCP server
mcp_schema     what is believed of a tool that a server describes
mcp_link       one connection to an MCP server
mcp_session    sessions with it, and what their calls bring
tool_sessions  tools whose server keeps a state of its own
tool_rules     tasks of a ``ToolEnv``, and what their episodes may do
tool_dialects  how tools are described, called and answered
episodes       ``Episode``: the snapshot of a ``ToolEnv``
forkable       ``Forkable``: environments that others wrote, forked by copies or by replay
fork_rules     tasks of a ``Forkable``, and how its turns are read and its observations written
replay         whether an episode that is played again is the same
live_games     the live environments behind a ``Forkable``
scripts        scripted play: baselines for gates, teachers to imitate
search_qa      ``SearchQAEnv``: answer a question in turns of thought, search and answer
search_baselines  its guessers, and its oracle
snapshots      how snapshots are addressed, and read from JSON
errors         the errors that the user can put right
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
unpacking      files inside folders and archives
registration   the benchmarks and their Gymnasium ids; to add one, see ``envs``
spaces         the Gymnasium space of unicode texts
integrations   OpenEnv servers and their clients; tasks as tables of others
testing        the contracts of forkable environments, as tests to inherit
"""

from at2po_env.core import ForkableEnv
from at2po_env.dataset import DataError, DataNotFound, Dataset
from at2po_env.dialects import DIALECTS, Dialect
from at2po_env.errors import EnvError, ForkError, SnapshotError, ToolUnavailable
from at2po_env.fork_rules import ForkRules
from at2po_env.forkable import Forkable
from at2po_env.mcp_server import McpServer
from at2po_env.registration import BENCHMARKS, default_data_dir, load_benchmark, make, passages, register
from at2po_env.replay import ReplayDiverged
from at2po_env.scoring import Outcome, contains, exact_match, f1
from at2po_env.search_qa import SearchQAEnv
from at2po_env.state import Action, EpisodeState, Question, Segment, Text, Turn
from at2po_env.tasks import Metric, Task, TaskEnv
from at2po_env.tool_env import ToolEnv
from at2po_env.tool_rules import Finished, ToolRules, ToolTask

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
    "Finished",
    "ForkError",
    "ForkRules",
    "Forkable",
    "ForkableEnv",
    "McpServer",
    "Metric",
    "Outcome",
    "Question",
    "ReplayDiverged",
    "SearchQAEnv",
    "Segment",
    "SnapshotError",
    "Task",
    "TaskEnv",
    "Text",
    "ToolEnv",
    "ToolRules",
    "ToolTask",
    "ToolUnavailable",
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
