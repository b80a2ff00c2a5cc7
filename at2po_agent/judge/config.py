"""Everything an evaluation can be told, as frozen dataclasses; ``--cfg``, flags and ``key=value`` are one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from omegaconf import MISSING

from at2po_agent.config_files import Files
from at2po_agent.method.expansion import EntropyGuided
from at2po_agent.policy.loading import Device
from at2po_agent.rollouts.grow import Limits, TokenLimits
from at2po_agent.settings import SENT, ConfigError, above, at_least, load

Format = Literal["tags", "native"]
DIALECT_OF: Mapping[Format, str] = {"tags": "chat", "native": "native"}
"""The dialects in which a chat endpoint can be talked to."""


@dataclass(frozen=True)
class ModelConfig:
    """The model to judge: behind an OpenAI-compatible endpoint, or a local one where ``base_url`` is null."""

    name: str = MISSING  # its name at the endpoint; locally builtin:NAME, a model directory, a run or a checkpoint
    base_url: str | None = None  # address of the endpoint, ending in /v1; null: a local model
    key_var: str | None = None  # environment variable with the key; null sends no key
    price_prompt: float | None = at_least(None, 0)  # per million tokens, in any one currency
    price_completion: float | None = at_least(None, 0)  # per million tokens, in the same currency
    dtype: Literal["float32", "bfloat16"] = "float32"  # of a local model
    device: Device = "auto"  # of a local model; auto: a GPU if there is one
    max_batch: int = at_least(256, 1)  # requests that a local model's engine runs together


@dataclass(frozen=True)
class LimitConfig(TokenLimits):
    """Limits of an episode, its requests and its searches. Reasoning models need more ``max_turn_tokens``."""

    episode_seconds: float = above(1800.0, 0)  # an episode at an endpoint that takes longer is an error
    request_seconds: float = above(300.0, 0)  # a request that takes longer is retried
    answer_bytes: int = at_least(8_000_000, 1)  # a longer answer of the server is refused
    wait_seconds: float = at_least(10.0, 0)  # how long to wait for an endpoint that is still starting (--wait)
    retries: int = at_least(8, 0)  # retries per request
    retry_seconds: float = at_least(0.5, 0)  # longest first wait before a retry; doubles each time
    max_retry_seconds: float = at_least(60.0, 0)  # the longest wait
    max_retry_after_seconds: float = at_least(300.0, 0)  # an endpoint that asks for a longer pause ends the run
    search_retries: int = at_least(10, 0)  # retries per search
    search_retry_seconds: float = at_least(2.0, 0)  # wait before the first retry; doubles up to 15: two minutes in all

    def rollout(self, max_context_tokens: int | None = None) -> Limits:
        """The limits of rollouts: a turn is retried as often as a search, requests have retries of their own."""
        return Limits(
            max_prompt_tokens=self.max_prompt_tokens,
            max_response_tokens=self.max_response_tokens,
            max_turn_tokens=self.max_turn_tokens,
            max_context_tokens=max_context_tokens,
            retries=self.search_retries,
            retry_seconds=self.search_retry_seconds,
        )


@dataclass(frozen=True)
class JudgeConfig:
    """The root of an evaluation's configuration."""

    envs: tuple[str, ...] = ()  # Gymnasium ids, benchmark names, or groups: multi-hop, single-hop, all
    model: ModelConfig = field(default_factory=ModelConfig)
    split: str | None = None  # which questions; null: test if the benchmark has one, else dev
    questions: int | None = at_least(None, 1)  # how many, from the first of the split; null: all
    samples: int = at_least(1, 1)  # episodes per question
    concurrency: int = at_least(64, 1)  # episodes at a time; the batch of a local model
    temperature: float = at_least(0.0, 0)  # 0 is greedy
    seed: int = at_least(0, 0)  # seed of sampling
    format: Format = "tags"  # how a model at an endpoint acts: in tags, or with the endpoint's tool calls
    tree: bool = False  # compare a tree per question with chains at equal generated tokens (--tree)
    expansion: EntropyGuided = field(default_factory=EntropyGuided)  # the tree of --tree
    search: str | None = None  # search URI; null: the passages that come with the questions
    env: dict[str, Any] = field(default_factory=dict)  # k, max_searches, dialect, …: passed to gymnasium.make
    # Added to every request, e.g. top_p; null or omit leaves one out.
    request: dict[str, Any] = field(default_factory=dict, metadata=SENT)
    imports: tuple[str, ...] = ()  # modules imported first: where your own tasks register their ids
    limits: LimitConfig = field(default_factory=LimitConfig)
    cache: str | None = None  # file that stores the endpoint's answers and reuses them
    out: str = "runs"  # folder of the run directories
    threads: int = at_least(0, 0)  # threads of torch, for a local model; 0: one per core


_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def load_judge_config(files: Files, overrides: Sequence[str] = ()) -> JudgeConfig:
    """The defaults, then the YAML files in order, then ``key=value`` overrides.

    Raises:
        ConfigError: see ``settings.load``; or the address or the name of the key's variable cannot be one.
    """
    config = load(JudgeConfig, files, overrides)
    check_model(config.model)
    return config


def check_model(model: ModelConfig) -> None:
    """Raise a ConfigError where an address, a price or the name of the key's variable cannot be one."""
    # Whoever gives the key itself by mistake must not find it in an error, a log or a file: it is never repeated.
    if model.key_var is not None and not _VARIABLE.fullmatch(model.key_var):
        raise ConfigError(
            "model.key_var (-k) takes the name of an environment variable, such as OPENAI_API_KEY; the value "
            "given is not such a name, and is not shown here in case it is the key itself"
        )
    if (model.price_prompt is None) != (model.price_completion is None):
        raise ConfigError("set both model.price_prompt and model.price_completion, or neither")
    if model.base_url is not None:
        split_query(model.base_url)


_VERSION = re.compile(r"\d{4}-\d\d-\d\d(-[a-z]{1,12})?|[a-z0-9]{1,10}")


def split_query(base_url: str) -> tuple[str, dict[str, str]]:
    """The address of an endpoint without its query, and that: Azure's ``api-version`` and nothing else.

    Raises:
        ConfigError: it is no address, or has a place that may hold a key. It is not repeated: whoever gives a key there
            must not find it in a log.
    """
    try:
        parts = urlsplit(base_url)
        query = parse_qsl(parts.query, strict_parsing=True) if parts.query else []
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(
            "model.base_url (-b): give an address such as http://127.0.0.1:8080/v1; the value given is not one, and "
            "is not shown here in case it contains a key"
        )
    known = all(name == "api-version" and _VERSION.fullmatch(value) for name, value in query)
    if "@" in parts.netloc or parts.fragment or not known:
        raise ConfigError(
            "model.base_url (-b) has no place for a password or key: put the key in a variable, with -k. Its query can "
            "hold Azure's api-version=YYYY-MM-DD and nothing else; Azure's address without one is "
            "https://HOST/openai/v1"
        )
    return urlunsplit(parts._replace(query="")), dict(query)
