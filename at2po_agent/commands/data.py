"""``at2po-agent data``: which benchmark files are installed, and the two ways of installing more."""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from at2po_agent.terminal import say

if TYPE_CHECKING:
    from at2po_env.installed import Placed
    from at2po_env.unpacking import DataFile


def add_parser(commands: Any) -> None:
    """Add ``data status | pull | import | export`` to the subparsers of the command."""
    data = commands.add_parser("data", help="show, download, import and export benchmark files")
    what = data.add_subparsers(required=True, metavar="WHAT")

    status = what.add_parser(
        "status", help="list the installed splits: counts, digest, where they search; and files that are not used"
    )
    status.set_defaults(command=_status)

    pull = what.add_parser("pull", help="download FlashRAG's files from the Hugging Face hub; rerun to continue")
    pull.add_argument("names", nargs="*", metavar="BENCHMARK[/SPLIT]", help="default: all of them")
    pull.add_argument("--revision", default="main", help="revision of the hub's repository; default: main")
    pull.set_defaults(command=_pull)

    take = what.add_parser("import", help="install original files; their layout is recognised")
    packed = "a data file, a folder, or a .zip, .tar, .tar.gz or .gz archive"
    take.add_argument("files", nargs="+", type=Path, metavar="FILE", help=packed)
    take.add_argument("--as", dest="stated", metavar="BENCHMARK[/SPLIT]", help="what they are, if not recognised")
    take.set_defaults(command=_import)

    export = what.add_parser(
        "export", help="write an environment's tasks as a Parquet file in Search-R1's layout, which verl reads"
    )
    export.add_argument("env", metavar="ENV_ID", help="a Gymnasium id, e.g. AT2PO-HotpotQA-v0")
    export.add_argument("--split", default="train", help="default: train")
    export.add_argument("--out", type=Path, required=True, metavar="FILE.parquet")
    export.add_argument("overrides", nargs="*", metavar="key=value", help="of the environment, e.g. dialect=search_r1")
    export.set_defaults(command=_export)

    for command in (status, pull, take):
        command.add_argument(
            "--data-dir", type=Path, metavar="DIR", help="default: $AT2PO_DATA, else the user's data directory"
        )


def _folder(arguments: argparse.Namespace) -> Path:
    from at2po_env.registration import default_data_dir

    return default_data_dir() if arguments.data_dir is None else Path(arguments.data_dir).expanduser()


def _status(arguments: argparse.Namespace) -> int:
    from rich.table import Table

    from at2po_agent.terminal import SafeConsole
    from at2po_env.dataset import DataError
    from at2po_env.installed import WAYS, has_passages, hidden, installed

    folder = _folder(arguments)
    table = Table(title=f"benchmark files in {folder}")
    for heading in ("benchmark", "split", "questions", "repeated", "left out", "SHA-256", "file", "search"):
        table.add_column(heading, overflow="fold")
    problems: list[str] = []
    for source, split, path in installed(folder):
        try:
            dataset = source.load_file(path, split)
            search = "own passages" if has_passages(source, split, folder) else "needs --search"
        except DataError as error:
            problems.append(str(error))
            continue
        repeated = dataset.notes["repeated_questions"]
        cells = (f"{len(dataset.questions):,}", f"{repeated:,}" if repeated else "", _left_out(dataset.notes))
        table.add_row(source.name, split, *cells, dataset.digest[:12], str(path.relative_to(folder)), search)
    console = SafeConsole(width=None if sys.stdout.isatty() else 160)  # a pipe has no width of its own
    if table.row_count:
        console.print(table)
    elif not problems:
        say(f"no benchmark files in {folder}. {WAYS}")
    for other, path in hidden(folder).items():
        say(f"not read: {other.relative_to(folder)}, as {path.relative_to(folder)} comes first")
    for problem in problems:
        say(f"unusable: {problem}", error=True)
    return 1 if problems else 0


def _pull(arguments: argparse.Namespace) -> int:
    from at2po_agent.hub import SPLITS, pull
    from at2po_env.dataset import DataError
    from at2po_env.installed import file_source

    folder = _folder(arguments)
    wanted: list[tuple[str, str]] = []
    for stated in arguments.names or SPLITS:
        name, _, split = stated.partition("/")
        has = SPLITS[file_source(name).name]
        if split and split not in has:
            raise DataError(f"the hub's collection has no split {split!r} of {name}: it has {', '.join(has)}")
        wanted += [(name, part) for part in ([split] if split else has)]
    for name, split in wanted:
        done = pull(file_source(name), split, folder, revision=arguments.revision)
        say(f"{name} {split}: already there" if done is None else _line(done))
    return 0


def _import(arguments: argparse.Namespace) -> int:
    from at2po_env.dataset import DataError

    if len(arguments.files) > 1 and "/" in (arguments.stated or ""):
        raise DataError(
            f"--as {arguments.stated} names one split: import a single file, because the next would replace it"
        )
    importing = _Import(_folder(arguments), arguments.stated)
    for path in arguments.files:
        importing.take(path)
    return 2 if importing.failed else 0


def _export(arguments: argparse.Namespace) -> int:
    from at2po_agent.atomic_files import writing
    from at2po_agent.environments import check_env_id, make_env
    from at2po_agent.settings import read_overrides
    from at2po_env.integrations.tables import write_search_r1

    check_env_id(arguments.env)
    env = make_env(arguments.env, arguments.split, read_overrides(arguments.overrides))
    with closing(env), writing(arguments.out):
        written = write_search_r1(env, arguments.out)
    say(f"{written:,} {env.task_word}{'s' * (written != 1)} → {arguments.out}")
    return 0


class _Import:
    """One call of ``data import``: what it has put where, and whether anything failed.

    A file that is named has to be imported. Of folders and archives, what is no benchmark's and test sets without
    answers are passed over with a line each, and something has to be left.
    """

    def __init__(self, folder: Path, stated: str | None) -> None:
        self.folder, self.stated = folder, stated
        self.failed = False
        self._taken: set[Path] = set()

    def take(self, path: Path) -> None:
        """Import a file, or what is in a folder or an archive; the ones after a bad file are no worse for it."""
        from at2po_env.dataset import DataError
        from at2po_env.unpacking import data_files

        before, files = len(self._taken), 0
        try:
            for file in data_files(path):
                files += 1
                self._install(file, alone=file.origin == path)
        except DataError as error:
            self._fail(str(error))
        else:
            if len(self._taken) == before and (files == 0 or not self.failed):
                self._fail(f"{path}: of {files:,} data files in it none can be used")

    def _install(self, file: DataFile, *, alone: bool) -> None:
        from at2po_env.dataset import DataError, NoQuestions
        from at2po_env.installed import identify, install

        source = None
        try:
            source, split = identify(file.path, self.stated, file.origin)
            if not alone and source.split_of(file.path.name) not in (None, split):
                raise NoQuestions(f"{file.path}: its name does not fit --as {self.stated}")
            done = install(file.path, source, split, self.folder, keep=self._taken)
        except DataError as error:
            problem = str(error).replace(str(file.path), str(file.origin))
            if alone or not (source is None or isinstance(error, NoQuestions)):
                self._fail(problem)
            else:
                say(f"skipped: {problem}", error=True)
            return
        self._taken.add(done.path)
        say(_line(done))

    def _fail(self, problem: str) -> None:
        say(f"not imported: {problem}", error=True)
        self.failed = True


def _line(placed: Placed) -> str:
    data = placed.dataset
    repeated, left_out = data.notes["repeated_questions"], _left_out(data.notes)
    text = f"{data.name} {data.split}: {len(data.questions):,} questions"
    text += f", of which {repeated:,} ask what another asks" if repeated else ""
    text += f" (left out: {left_out})" if left_out else ""
    text += f", SHA-256 {data.digest[:12]} → {placed.path}"
    return text if placed.read == placed.path else f"{text}; but {placed.read} comes first and is what is read"


def _left_out(notes: Any) -> str:
    kept = ("records", "repeated_questions")
    counts = {name: count for name, count in notes.items() if isinstance(count, int) and count and name not in kept}
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items())
