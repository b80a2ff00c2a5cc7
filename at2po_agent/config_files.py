"""Configuration files: packaged ones by name, YAML read within bounds, and where every key was written.

``configs/`` has a folder for each kind: whole runs, what a run is composed of (models, tasks, algorithms, settings,
ablations), warm starts, studies and evaluations. The name of a file is its name here, as in ``--cfg quickstart``, so it
is unique. YAML and OmegaConf are imported where they are used: names are completed and listed without them.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from at2po_agent.errors import ConfigError
from search_backend.outside import read_file, shown

if TYPE_CHECKING:
    import yaml

FOLDER = Path(__file__).resolve().parent / "configs"

MOST_YAML = 2**20  # bytes of a configuration
MOST_VALUES = 100_000  # in it, those of an alias as often as it is used
MOST_RESOLVED = 2**30  # characters that its references may stand for at the very most

Files = str | Path | Sequence[str | Path] | None
"""Configuration files, each a path or the name of a packaged one; later ones are laid over earlier ones."""


def packaged() -> dict[str, Path]:
    """Every packaged configuration by name, folder by folder."""
    return {path.stem: path for path in sorted(FOLDER.glob("*/*.yaml"), key=lambda path: (path.parent, path.stem))}


def locate(name: str | Path, folder: Path = Path()) -> Path:
    """The file that ``name`` stands for: a path from ``folder`` where it is a file, else a packaged configuration.

    Raises:
        ConfigError: it is neither, and no folder, which whoever reads it refuses.
    """
    path = folder / name
    if path.exists() and not path.is_dir():
        return path
    known = packaged()
    if str(name) in known:
        return known[str(name)]
    if path.is_dir():
        return path
    if path.suffix == ".yaml" or path.name != str(name):
        hint = f"; the packaged one of this name is --cfg {path.stem}" if path.stem in known else ""
        raise ConfigError(f"{path}: no such file{hint}")
    alike = difflib.get_close_matches(path.name, known, n=1)
    hint = f"did you mean {alike[0]}? " if alike else ""
    raise ConfigError(
        f"there is no file and no packaged configuration {str(name)!r}; {hint}`at2po-agent configs` lists them"
    )


def locate_all(files: Files) -> tuple[Path, ...]:
    """The paths of files, as ``locate`` finds each.

    Raises:
        ConfigError: one of them is nowhere.
    """
    if files is None:
        return ()
    return tuple(locate(file) for file in ([files] if isinstance(files, str | Path) else files))


def summary(path: Path) -> str:
    """The first line of a configuration, a comment that says what it is."""
    return path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")


@dataclass(frozen=True)
class Where:
    """The source of values: a file with the line of every key, or one override (line 0)."""

    source: str
    lines: Mapping[str, int]

    def of(self, key: str) -> str:
        """The source of a key, with its line in a file."""
        line = self.lines.get(key)
        return f"{self.source}:{line}" if line else self.source


Source = tuple[dict[str, Any], Where]
"""Values, and where they were written."""


def read_with_bases(path: Path, below: tuple[Path, ...] = ()) -> list[Source]:
    """A file after the files that it is laid over, the deepest first; ``below`` are those that led here.

    Raises:
        ConfigError: one of them is missing, too large, not YAML or its own base.
    """
    if path.resolve() in below:
        raise ConfigError(f"{path}: the file is its own base")
    values, where = _read_yaml(path)
    names = values.pop("base", [])
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{where.of('base')}: base is a file or a list of files, not {names!r}")
    below = (*below, path.resolve())
    bases = [locate(name, path.parent) for name in names]
    return [source for base in bases for source in read_with_bases(base, below)] + [(values, where)]


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping of a YAML file as it is, with no schema and no bases.

    Raises:
        ConfigError: it is missing, or is no mapping in YAML.
    """
    return _read_yaml(path)[0]


def _read_yaml(path: Path) -> Source:
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        text = read_file(path, MOST_YAML).decode()
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text: {error}") from error
    try:
        node = _compose(text)
        # OmegaConf's own reading of YAML: duplicate keys are errors, 1e-6 is a number
        values = OmegaConf.to_container(OmegaConf.create(text)) if node is not None else {}
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: not valid YAML: {error.problem or error}") from error
    except RecursionError:
        raise ConfigError(f"{path}: not a usable YAML file: it is nested too deep, or in itself") from None
    # A ValueError is one of Python's: a date that is none, a number of too many digits.
    except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(f"{path}: not a usable YAML file: {first_line(error)}") from error
    if node is not None and not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{path}:1: a configuration is a mapping of keys to values")
    return cast(dict[str, Any], values), Where(str(path), dict(_key_lines(node) if node else ()))


def _compose(text: str) -> yaml.Node | None:
    """The nodes of a YAML text, whose aliases are the nodes themselves and become copies later.

    Raises:
        ValueError: they stand for more values than a configuration has.
    """
    import yaml

    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if node is not None and (values := _count_values(node, {})) > MOST_VALUES:
        raise ValueError(f"with its aliases it has more than {MOST_VALUES:,} values ({shown(values)})")
    return node


def _count_values(node: yaml.Node, counted: dict[int, int]) -> int:
    """Values under a node, those of an alias as often as it is used; ``counted`` are nodes by id."""
    import yaml

    if id(node) not in counted:
        parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        inner = () if isinstance(node, yaml.ScalarNode) else parts
        counted[id(node)] = 1 + sum(_count_values(part, counted) for part in inner)
    return counted[id(node)]


def check_references(sources: Sequence[Source]) -> None:
    """Refuse ``${…}`` that refer to each other so often that what they stand for has no bound.

    ``n`` of them make at most ``3 ** (n / 3)`` copies of what is written (three in each of the values that the next
    three name); a configuration of some kilobytes may have about thirty.

    Raises:
        ConfigError: there are too many.
    """
    texts = [text for values, _ in sources for text in _texts(values)]
    references, size = sum(text.count("${") for text in texts), sum(map(len, texts)) + len(texts)
    if references / 3 * math.log(3) + math.log(size or 1) > math.log(MOST_RESOLVED):
        named = ", ".join(dict.fromkeys(where.source for _, where in sources))
        raise ConfigError(
            f"{named}: {references} references ${{…}} to other values, which may stand for more than "
            f"{MOST_RESOLVED:,} characters: write some of them out"
        )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    else:
        yield str(value)


def _key_lines(node: yaml.MappingNode, prefix: str = "") -> Iterator[tuple[str, int]]:
    import yaml

    for key, value in node.value:
        name = f"{prefix}{key.value}"
        yield name, key.start_mark.line + 1
        if isinstance(value, yaml.MappingNode):
            yield from _key_lines(value, f"{name}.")


def read_override(text: str) -> Source:
    """The values that one ``key=value`` sets.

    Raises:
        ConfigError: it is no ``key=value``, or its value is not YAML.
    """
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    key, equals, value = text.partition("=")
    where = Where(f"override {text!r}", {key: 0})
    if not key.strip() or not equals:
        raise ConfigError(f"{where.source}: write it as key=value, for example seed=1")
    try:
        _compose(value)
        values = OmegaConf.to_container(OmegaConf.from_dotlist([text]))
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, RecursionError) as error:
        raise ConfigError(f"{where.source}: the value is not valid YAML: {first_line(error)}") from error
    return cast(dict[str, Any], values), Where(where.source, dict.fromkeys([key, *_keys_under(key, values)], 0))


def _keys_under(key: str, values: Any) -> Iterator[str]:
    """The keys that an override's value sets where it is a mapping: ``algorithm={expansion: {n: 8}}``."""
    for part in key.split("."):
        values = values[part]
    yield from _keys_in(key, values)


def _keys_in(key: str, values: Any) -> Iterator[str]:
    # Not by dotted paths: a name of the mapping may hold dots itself.
    if isinstance(values, dict):
        for name, value in values.items():
            yield f"{key}.{name}"
            yield from _keys_in(f"{key}.{name}", value)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where it has none."""
    return (str(error) or type(error).__name__).splitlines()[0]
