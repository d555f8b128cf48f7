"""Files of labelled texts -> tasks."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from metalearn.errors import InvalidTasks
from metalearn.objectives.classification import CLASSIFICATION
from metalearn.objectives.multi_label import MULTI_LABEL
from metalearn.objectives.objective import ObjectiveRules, Value
from metalearn.objectives.regression import REGRESSION
from metalearn.tasks.entities import has_positions, mentions
from metalearn.tasks.lines import Kind, Line, numbered_lines, read_lines
from metalearn.tasks.task import Skipped, Task, TaskPool
from metalearn.types import Target, TextInput

Part = Literal["train", "dev", "test"]
"""How the author of a data set divided it."""

_PARTS: tuple[Part, ...] = ("train", "dev", "test")
RULES_OF_KIND: Mapping[Kind, ObjectiveRules] = MappingProxyType(
    {"label": CLASSIFICATION, "labels": MULTI_LABEL, "score": REGRESSION, "tags": CLASSIFICATION}
)
"""The objective of each kind of file."""

_INDEX_COLUMNS = ("split", "name", "kind", "licence", "licence_class")


@dataclass(frozen=True, slots=True)
class _Facts:
    """The facts of a task in an index."""

    group: str = "ungrouped"
    licence: str = "unstated"
    licence_class: str = "unstated"
    language: str = ""


def read_tasks(folders: Sequence[Path], *, index: Path | None = None, parts: Sequence[Part] = _PARTS) -> TaskPool:
    """Reads the files of tasks in some folders, not in the folders inside them.

    ``NAME.jsonl`` and ``NAME.PART.jsonl`` together are the task NAME, in the order of ``parts`` after the file without
    a part. Each line is a JSON object: ``text``, perhaps ``text_pair``, and one of ``label``, ``labels`` and ``score``;
    or ``tokens`` and ``tags``, which become entity typing: each entity's sentence and mention, its type as label. White
    space around texts and labels is dropped; labels that are whole numbers become strings.

    A text that stands there twice is kept once; where its labels disagree, with the first of them.

    Args:
        folders: Where the files are.
        index: A table with the columns ``split``, ``name``, ``kind``, ``licence`` and ``licence_class``, separated by
            tabs, and perhaps ``language``: gives a task its group (the kind), licence and language. By default
            ``index.tsv`` in the folder or the one above it, where there is one.
        parts: Which parts are read. A file without a part is always read.

    Returns:
        The tasks sorted by name, with what was left out.

    Raises:
        InvalidTasks: A folder or file cannot be read, a line or the index is malformed, two folders hold tasks of one
            name, or a folder holds no task.
    """
    tasks: dict[str, Task] = {}
    home: dict[str, Path] = {}
    skipped: list[Skipped] = []
    for folder in folders:
        pool = _read_folder(folder, index or _index_beside(folder), parts)
        for task in pool.tasks:
            if task.name in tasks:
                raise InvalidTasks(f"both {home[task.name]} and {folder} hold a task {task.name}: rename or remove one")
            tasks[task.name], home[task.name] = task, folder
        skipped += pool.skipped
    if not tasks:
        raise InvalidTasks("no folder of tasks is given")
    return TaskPool(tuple(tasks[name] for name in sorted(tasks)), tuple(skipped))


def _read_folder(folder: Path, index: Path | None, parts: Sequence[Part]) -> TaskPool:
    if not folder.is_dir():
        raise InvalidTasks(f"{folder} is not a folder: name one that holds NAME.jsonl files")
    found = sorted(path for path in folder.glob("*.jsonl") if path.is_file())
    files: dict[str, list[Path]] = {}
    for part in (None, *dict.fromkeys(parts)):
        for path in found:
            name, file_part = _name_and_part(path)
            if file_part == part:
                files.setdefault(name, []).append(path)
    facts = _read_index(index, folder.name) if index else {}
    tasks, skipped = [], []
    for name, paths in sorted(files.items()):
        task, left_out = _read_task(name, paths, facts.get(name, _Facts()))
        skipped += left_out
        if task:
            tasks.append(task)
    if not tasks:
        reasons = ", ".join(f"{s.file}: {s.reason}" for s in skipped[:3])
        read = sum(map(len, files.values()))
        raise InvalidTasks(
            f"{folder} holds no task: {len(found)} .jsonl files, {read} of them of the parts {', '.join(parts)}"
            + (f" ({reasons}, …)" if reasons else "")
            + '; give it files NAME.jsonl of lines such as {"text": "…", "label": "…"} with two labels or more'
        )
    return TaskPool(tuple(tasks), tuple(skipped))


def _name_and_part(path: Path) -> tuple[str, Part | None]:
    name, _, part = path.stem.rpartition(".")
    return (name, part) if name and part in _PARTS else (path.stem, None)


def _read_task(name: str, paths: Sequence[Path], facts: _Facts) -> tuple[Task | None, list[Skipped]]:
    values: dict[TextInput, Value] = {}
    left_out: Counter[tuple[str, str]] = Counter()
    first: tuple[Path, Kind] | None = None
    for path in paths:
        lines = read_lines(path)
        if not lines:
            left_out[path.name, "empty file"] = 0
            continue
        first = first or (path, lines[0].kind)
        if first[1] != lines[0].kind:
            raise InvalidTasks(f"{path} holds {lines[0].kind!r}, but {first[0]} holds {first[1]!r}: rename one of them")
        usable = [line for line in lines if not is_blank(line)]
        if len(usable) < len(lines):
            left_out[path.name, "blank text"] = len(lines) - len(usable)
        for text, value in labelled_texts(usable):
            if text in values:
                left_out[path.name, "duplicate" if values[text] == value else "same text, other label"] += 1
            else:
                values[text] = value
    skipped = [Skipped(file, reason, rows) for (file, reason), rows in left_out.items()]
    if not first:
        return None, skipped
    rules = RULES_OF_KIND[first[1]]
    labels, targets = _targets(rules, tuple(values.values()))
    if len(labels or set(targets)) < 2:
        reason = "fewer than two classes" if rules.has_classes else "fewer than two scores"
        return None, [*skipped, Skipped(name, reason, len(values))]
    return Task(name, rules.name, labels, tuple(values), targets, **asdict(facts)), skipped


def is_blank(line: Line) -> bool:
    """Whether a text has nothing to read."""
    return not ("".join(line.texts) if line.kind == "tags" else all(line.texts))


def labelled_texts(lines: Sequence[Line]) -> Iterator[tuple[TextInput, Value]]:
    """The texts that are classified in the lines of one file, each with its value."""
    positions = has_positions([tag for line in lines if line.kind == "tags" for tag in _names(line.value)])
    for line in lines:
        if line.kind == "tags":
            for mention, type_ in mentions(line.texts, _names(line.value), positions):
                yield mention, (type_,)
        else:
            yield TextInput(line.texts[0], line.texts[1] if len(line.texts) > 1 else None), line.value


def _targets(rules: ObjectiveRules, values: Sequence[Value]) -> tuple[tuple[str, ...], tuple[Target, ...]]:
    """The labels that occur, sorted, and a target for each value."""
    labels = tuple(sorted({label for value in values for label in _names(value)}))
    place = {label: i for i, label in enumerate(labels)}
    return labels, tuple(rules.target(value, place) for value in values)


def _names(value: Value) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else ()


def licence_of(file: Path, *, index: Path | None = None) -> tuple[str, str]:
    """Licence and licence class that an index has for a file such as ``NAME.jsonl``; else ``unstated`` for both.

    Args:
        file: A file of a task, or of plain text.
        index: See ``read_tasks``.

    Raises:
        InvalidTasks: The index cannot be read, or is malformed.
    """
    found = index or _index_beside(file.parent)
    facts = _read_index(found, file.resolve().parent.name) if found else {}
    of_file = facts.get(file.name.partition(".")[0], _Facts())
    return of_file.licence, of_file.licence_class


def _index_beside(folder: Path) -> Path | None:
    candidates = (folder / "index.tsv", folder.resolve().parent / "index.tsv")
    return next((path for path in candidates if path.is_file()), None)


def _read_index(path: Path, split: str) -> dict[str, _Facts]:
    """Facts by name; where a name stands there for several splits, those of the split named like the folder."""
    lines = numbered_lines(path)
    header = next(lines, (1, ""))[1].split("\t")
    missing = [column for column in _INDEX_COLUMNS if column not in header]
    if missing:
        raise InvalidTasks(f"{path}:1: lacks the columns {', '.join(missing)}; columns are separated by tabs")
    facts: dict[str, _Facts] = {}
    own: set[str] = set()
    for number, line in lines:
        values = line.split("\t")
        if len(values) != len(header):
            raise InvalidTasks(f"{path}:{number}: has {len(values)} fields, but the header has {len(header)}")
        row = dict(zip(header, values, strict=True))
        if row["name"] not in own:
            language = row.get("language", "")
            facts[row["name"]] = _Facts(row["kind"], row["licence"], row["licence_class"], language)
        if row["split"] == split:
            own.add(row["name"])
    return facts
