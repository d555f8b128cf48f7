"""Files of tasks are read as they are meant, or refused with file and line."""

import json
from pathlib import Path

import pytest

from metalearn.errors import InvalidTasks
from metalearn.tasks.labelled import read_tasks
from metalearn.tasks.task import Skipped, Task
from metalearn.types import TextInput

FEELINGS = [{"text": "fine", "label": "good"}, {"text": "awful", "label": "bad"}]


def write(path: Path, *rows: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def only_task(folder: Path) -> Task:
    (task,) = read_tasks([folder]).tasks
    return task


def test_labels_become_sorted_classes(tmp_path: Path) -> None:
    write(tmp_path / "mood.jsonl", *FEELINGS, {"text": "so so", "label": "middling", "id": 7})
    task = only_task(tmp_path)
    assert (task.name, task.objective, task.group, task.licence, task.licence_class) == (
        "mood",
        "classification",
        "ungrouped",
        "unstated",
        "unstated",
    )
    assert task.labels == ("bad", "good", "middling")
    assert task.inputs == (TextInput("fine"), TextInput("awful"), TextInput("so so"))
    assert task.targets == (1, 0, 2)


def test_numbers_and_truth_values_become_labels(tmp_path: Path) -> None:
    write(tmp_path / "n.jsonl", *({"text": str(label), "label": label} for label in (10, 9, "9", True)))
    assert only_task(tmp_path).labels == ("10", "9", "true")


def test_pairs(tmp_path: Path) -> None:
    write(
        tmp_path / "nli.jsonl",
        {"text": "it rains", "text_pair": "it is wet", "label": "yes"},
        {"text": "it rains", "text_pair": "it is dry", "label": "no"},
        {"text": "it rains", "text_pair": None, "label": "no"},
    )
    task = only_task(tmp_path)
    assert task.inputs == (
        TextInput("it rains", "it is wet"),
        TextInput("it rains", "it is dry"),
        TextInput("it rains"),
    )
    assert task.targets == (1, 0, 0)


def test_several_labels_or_none(tmp_path: Path) -> None:
    write(
        tmp_path / "m.jsonl",
        {"text": "a", "labels": ["joy", "awe", "joy"]},
        {"text": "b", "labels": []},
        {"text": "c", "labels": ["awe"]},
        {"text": "a", "labels": ["awe", "joy"]},
    )
    task = only_task(tmp_path)
    assert (task.objective, task.labels, task.targets) == ("multi_label", ("awe", "joy"), ((0, 1), (), (0,)))


def test_scores(tmp_path: Path) -> None:
    write(tmp_path / "s.jsonl", {"text": "a", "score": 1}, {"text": "b", "score": -0.25})
    task = only_task(tmp_path)
    assert (task.objective, task.labels, task.targets) == ("regression", (), (1.0, -0.25))


def test_token_classification_becomes_entity_typing(tmp_path: Path) -> None:
    write(
        tmp_path / "ner.jsonl",
        {"tokens": ["Ada", "Lovelace", "in", "London"], "tags": ["B-per", "I-per", "O", "B-loc"]},
        {"tokens": ["nobody", "there"], "tags": ["O", "O"]},
        {"tokens": ["London", "or", "London"], "tags": ["B-loc", "O", "B-loc"]},
        {"tokens": ["London", "met", "London"], "tags": ["B-per", "O", "B-loc"]},
    )
    pool = read_tasks([tmp_path])
    (task,) = pool.tasks
    assert task.objective == "classification"
    assert [
        (text.text, text.text_pair, task.labels[int(str(t))]) for text, t in zip(task.inputs, task.targets, strict=True)
    ] == [
        ("Ada Lovelace in London", "Ada Lovelace", "per"),
        ("Ada Lovelace in London", "London", "loc"),
        ("London or London", "London", "loc"),
        ("London met London", "London", "per"),
    ]
    assert set(pool.skipped) == {
        Skipped("ner.jsonl", "duplicate", 1),
        Skipped("ner.jsonl", "same text, other label", 1),
    }


def test_parts_are_one_task_in_the_order_asked_for(tmp_path: Path) -> None:
    for name in ("mood.test", "mood.train", "mood.dev", "mood", "mood.v2"):
        write(
            tmp_path / f"{name}.jsonl", *({"text": f"{name} {row['text']}", "label": row["label"]} for row in FEELINGS)
        )
    pool = read_tasks([tmp_path])
    assert [task.name for task in pool.tasks] == ["mood", "mood.v2"]
    assert [text.text for text in pool.tasks[0].inputs[::2]] == [
        "mood fine",
        "mood.train fine",
        "mood.dev fine",
        "mood.test fine",
    ]
    pool = read_tasks([tmp_path], parts=("test", "dev"))
    assert [text.text for text in pool.tasks[0].inputs[::2]] == ["mood fine", "mood.test fine", "mood.dev fine"]
    assert pool.tasks[1].name == "mood.v2"  # no part's name: always read


def test_rows_left_out_are_counted_by_file_and_reason(tmp_path: Path) -> None:
    write(
        tmp_path / "mood.train.jsonl",
        *FEELINGS,
        {"text": " fine ", "label": "good "},
        {"text": "fine", "label": "bad"},
        {"text": "\u2003\n", "label": "bad"},
        {"text": "one side", "text_pair": "", "label": "bad"},
    )
    write(tmp_path / "mood.test.jsonl", {"text": "awful", "label": "bad"}, {"text": "new", "label": "bad"})
    write(
        tmp_path / "mono.jsonl", {"text": "a", "label": "x"}, {"text": "b", "label": "x"}, {"text": "a", "label": "y"}
    )
    write(tmp_path / "flat.jsonl", {"text": "a", "score": 1}, {"text": "b", "score": 1.0})
    write(tmp_path / "bare.jsonl", {"tokens": ["a"], "tags": ["O"]})
    (tmp_path / "void.jsonl").write_text("\n \n")
    pool = read_tasks([tmp_path])
    (task,) = pool.tasks
    assert [text.text for text in task.inputs] == ["fine", "awful", "new"]
    assert [task.labels[int(str(target))] for target in task.targets] == ["good", "bad", "bad"]  # the first label stays
    assert sorted((s.file, s.reason, s.rows) for s in pool.skipped) == [
        ("bare", "fewer than two classes", 0),
        ("flat", "fewer than two scores", 2),
        ("mono", "fewer than two classes", 2),
        ("mono.jsonl", "same text, other label", 1),
        ("mood.test.jsonl", "duplicate", 1),
        ("mood.train.jsonl", "blank text", 2),
        ("mood.train.jsonl", "duplicate", 1),
        ("mood.train.jsonl", "same text, other label", 1),
        ("void.jsonl", "empty file", 0),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "a", "label": "x"', "not JSON"),
        (b"[1, 2]", "not a JSON object"),
        (b"[" * 100_000, "nested too deeply|not JSON"),
        (b'{"text": "a"}', "none of 'label', 'labels', 'score', 'tags'"),
        (b'{"label": "x"}', "'text' is missing"),
        (b'{"text": 3, "label": "x"}', "'text' is of type int"),
        (b'{"text": "a", "text_pair": 3, "label": "x"}', "'text_pair' is of type int"),
        (b'{"text": "a", "label": null}', "'label' is missing"),
        (b'{"text": "a", "label": 1.5}', "'label' is of type float"),
        (b'{"text": "a", "label": "  "}', "'label' is blank"),
        (b'{"text": "a", "label": "x", "score": 1}', "'label' and 'score'"),
        (b'{"text": "a", "labels": ["x"]}', "has 'labels', but line 1 has 'label'"),
        (b'{"text": "a", "labels": "x"}', "'labels' is of type str, not a list"),
        (b'{"text": "a", "labels": ["x", []]}', "one of 'labels' is of type list"),
        (b'{"text": "a", "score": NaN}', "NaN"),
        (b'{"text": "a", "score": -Infinity}', "-Infinity"),
        (b'{"text": "a", "score": 1e999}', "not a finite number"),
        (b'{"text": "a", "score": 1' + b"0" * 400 + b"}", "not a finite number"),
        (b'{"text": "a", "score": 1' + b"0" * 5000 + b"}", "not JSON"),
        (b'{"text": "a", "score": true}', "'score' is of type bool"),
        (b'{"text": "a", "score": "1"}', "'score' is of type str"),
        (b'{"tokens": ["a", "b"], "tags": ["O"]}', "2 tokens, but 1 tags"),
        (b'{"tokens": ["a", 2], "tags": ["O", "O"]}', "a token is of type int"),
        (b'{"tags": ["O"]}', "'tokens' is missing, not a list"),
        (b'{"tokens": ["a"], "tags": [""]}', "a tag is blank"),
        (b'{"text": "a \\ud800", "label": "x"}', "half of a surrogate pair at character 3"),
        (b'{"text": "a", "label": "\\udfff"}', "half of a surrogate pair"),
        (b'{"text": "caf\xe9", "label": "x"}', "byte 14 of the line is not UTF-8"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "mood.jsonl"
    path.write_bytes(b'{"text": "fine", "label": "good"}\r\n\r\n' + line + b"\n")
    with pytest.raises(InvalidTasks, match=message) as caught:
        read_tasks([tmp_path])
    assert str(caught.value).startswith(f"{path}:3: ")


def test_what_is_no_mistake(tmp_path: Path) -> None:
    """A byte order mark, Windows' line ends, a last line without one, and a character that str.splitlines splits at."""
    first = '{"text": "a\u2028b \\ud83d\\ude00", "label": "x"}'.encode()
    (tmp_path / "m.jsonl").write_bytes(b"\xef\xbb\xbf" + first + b'\r\n{"text": "c", "label": "y"}')
    assert only_task(tmp_path).inputs == (TextInput("a\u2028b \N{GRINNING FACE}"), TextInput("c"))


def test_parts_of_different_kinds_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "mood.train.jsonl", *FEELINGS)
    write(tmp_path / "mood.test.jsonl", {"text": "a", "score": 1})
    with pytest.raises(InvalidTasks, match=r"mood\.test\.jsonl holds 'score', but .*mood\.train\.jsonl holds 'label'"):
        read_tasks([tmp_path])
    assert [task.name for task in read_tasks([tmp_path], parts=("train",)).tasks] == ["mood"]


INDEX = (
    "split\tname\tkind\tlanguage\trows\tlabels\tlicence\tlicence_class\tsource\n"
    "valid\tmood\tother\ten\t2\t2\tsecret\trestricted\tx\n"
    'train\tmood\tsentiment\ten\t2\t2\tunstated ("facts")\topen\t\n'
    "valid\tmood\tthird\ten\t2\t2\tsecret\trestricted\tx\n"
)


@pytest.mark.parametrize("place", ["train/index.tsv", "index.tsv", "elsewhere/table.tsv"])
def test_an_index_gives_group_licence_and_language(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "train"
    write(folder / "mood.jsonl", *FEELINGS)
    write(folder / "extra.jsonl", *FEELINGS)
    index = tmp_path / place
    index.parent.mkdir(exist_ok=True)
    index.write_text(INDEX)
    extra, mood = read_tasks([folder], index=index if "elsewhere" in place else None).tasks
    found = [(task.group, task.licence, task.licence_class, task.language) for task in (mood, extra)]
    assert found == [("sentiment", 'unstated ("facts")', "open", "en"), ("ungrouped", "unstated", "unstated", "")]


def test_an_index_above_is_found_from_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "train" / "mood.jsonl", *FEELINGS)
    (tmp_path / "index.tsv").write_text(INDEX)
    monkeypatch.chdir(tmp_path / "train")
    assert only_task(Path()).licence_class == "restricted"  # no split is called "", so any of the name's lines


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name\tkind\n", r":1: lacks the columns split, licence, licence_class"),
        ("", r":1: lacks the columns"),
        (INDEX + "train\tmood\n", r":5: has 2 fields, but the header has 9"),
    ],
)
def test_a_malformed_index_is_named(tmp_path: Path, content: str, message: str) -> None:
    write(tmp_path / "mood.jsonl", *FEELINGS)
    (tmp_path / "index.tsv").write_text(content)
    with pytest.raises(InvalidTasks, match=r"index\.tsv" + message):
        read_tasks([tmp_path])


def test_an_index_that_is_not_there_is_named(tmp_path: Path) -> None:
    write(tmp_path / "mood.jsonl", *FEELINGS)
    with pytest.raises(InvalidTasks, match=r"cannot read .*no\.tsv"):
        read_tasks([tmp_path], index=tmp_path / "no.tsv")


def test_several_folders_are_one_pool(tmp_path: Path) -> None:
    write(tmp_path / "one" / "b.jsonl", *FEELINGS)
    write(tmp_path / "two" / "a.jsonl", *FEELINGS)
    write(tmp_path / "two" / "inside" / "c.jsonl", *FEELINGS)
    assert [task.name for task in read_tasks([tmp_path / "one", tmp_path / "two"]).tasks] == ["a", "b"]
    write(tmp_path / "two" / "b.train.jsonl", *FEELINGS)
    with pytest.raises(InvalidTasks, match=r"both .*/one and .*/two hold a task b"):
        read_tasks([tmp_path / "one", tmp_path / "two"])


def test_folders_without_tasks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidTasks, match="nowhere is not a folder"):
        read_tasks([tmp_path / "nowhere"])
    with pytest.raises(InvalidTasks, match="no folder"):
        read_tasks([])
    with pytest.raises(InvalidTasks, match=r"0 \.jsonl files"):
        read_tasks([tmp_path])
    write(tmp_path / "mono.train.jsonl", {"text": "a", "label": "x"})
    with pytest.raises(InvalidTasks, match=r"1 \.jsonl files, 1 of them .*mono: fewer than two classes.*NAME\.jsonl"):
        read_tasks([tmp_path])
    with pytest.raises(InvalidTasks, match=r"1 \.jsonl files, 0 of them of the parts test"):
        read_tasks([tmp_path], parts=("test",))
    write(tmp_path / "good" / "mood.jsonl", *FEELINGS)
    with pytest.raises(InvalidTasks, match="mono"):
        read_tasks([tmp_path / "good", tmp_path])
