"""Fixed episodes are read as they were published, or refused with file and line."""

import json
from pathlib import Path

import pytest

from metalearn.errors import InvalidTasks
from metalearn.tasks.fixed import FixedEpisode, FixedTask, read_fixed_tasks
from metalearn.tasks.task import Skipped
from metalearn.types import OUT_OF_SCOPE, TextInput
from tests.metalearn.tasks.test_labelled import FEELINGS, write

QUERIES = [{"text": f"query {i}", "label": "good" if i % 3 else "bad"} for i in range(9)]


def write_task(folder: Path, *, support: list[object] | None = None, queries: list[object] | None = None) -> Path:
    """A task with two episodes of one shot and one of two."""
    for name in ("train_0_1", "train_1_1"):
        write(folder / f"{name}.jsonl", *(support or FEELINGS))
    write(folder / "train_0_2.jsonl", *(support or FEELINGS * 2))
    write(folder / "eval.jsonl", *(queries or QUERIES))
    return folder


def only_task(folder: Path, **options: int) -> FixedTask:
    (task,) = read_fixed_tasks(folder, **options)
    return task


def first(folder: Path) -> FixedEpisode:
    return only_task(folder).episodes[0]


def test_each_folder_is_a_task(tmp_path: Path) -> None:
    write_task(tmp_path / "zebra")
    write_task(tmp_path / "ant")
    (tmp_path / "notes").mkdir()
    (tmp_path / "readme.txt").write_text("not a task")
    tasks = read_fixed_tasks(tmp_path)
    assert [task.name for task in tasks] == ["ant", "zebra"]
    assert [(e.shots, e.index) for e in tasks[0].episodes] == [(1, 0), (1, 1), (2, 0)]


def test_a_folder_of_episodes_is_one_task(tmp_path: Path) -> None:
    assert only_task(write_task(tmp_path / "mood")).name == "mood"


def test_shots_and_episodes_are_ordered_as_numbers(tmp_path: Path) -> None:
    folder = write_task(tmp_path / "mood")
    for name in ("train_10_2", "train_9_2", "train_0_16", "train_0_4"):
        write(folder / f"{name}.jsonl", *FEELINGS)
    numbers = [(e.shots, e.index) for e in only_task(folder).episodes]
    assert numbers == [(1, 0), (1, 1), (2, 0), (2, 9), (2, 10), (4, 0), (16, 0)]


def test_an_episode_holds_what_stands_in_the_files(tmp_path: Path) -> None:
    support = [{"text": "b", "text_pair": "x", "label": "no"}, {"text": "a", "text_pair": "y", "label": "maybe"}]
    queries = [{"text": "q", "text_pair": "z", "label": "maybe"}, {"text": "r", "label": "no"}]
    fixed = first(write_task(tmp_path / "pairs", support=[*support], queries=[*queries]))
    episode = fixed.episode
    assert (episode.task, episode.objective, episode.labels) == ("pairs", "classification", ("maybe", "no"))
    assert episode.support.inputs == (TextInput("b", "x"), TextInput("a", "y"))
    assert episode.support.targets == (1, 0)
    assert episode.query.inputs == (TextInput("q", "z"), TextInput("r"))
    assert episode.query.targets == fixed.truth == (0, 1)
    assert (fixed.unseen, fixed.n_unseen_queries) == ((), 0)


def test_a_text_that_was_published_twice_stays_twice(tmp_path: Path) -> None:
    fixed = first(write_task(tmp_path / "mood", queries=[*FEELINGS, *FEELINGS]))
    assert len(fixed.episode.query.inputs) == 4


def test_a_class_without_example_counts_on_after_the_others(tmp_path: Path) -> None:
    queries: list[object] = [{"text": "q", "label": label} for label in ("good", "angry", "bad", "zen", "angry")]
    fixed = first(write_task(tmp_path / "mood", queries=queries))
    assert fixed.episode.labels == ("bad", "good")
    assert fixed.unseen == ("angry", "zen")
    assert fixed.truth == (1, 2, 0, 3, 2)
    assert fixed.episode.query.targets == (1, OUT_OF_SCOPE, 0, OUT_OF_SCOPE, OUT_OF_SCOPE)
    assert fixed.n_unseen_queries == 3


def test_label_sets(tmp_path: Path) -> None:
    support: list[object] = [{"text": "a", "labels": ["x", "y"]}, {"text": "b", "labels": []}]
    queries: list[object] = [{"text": "q", "labels": ["y", "new"]}, {"text": "r", "labels": []}]
    fixed = first(write_task(tmp_path / "many", support=support, queries=queries))
    assert (fixed.episode.objective, fixed.episode.labels) == ("multi_label", ("x", "y"))
    assert fixed.episode.support.targets == ((0, 1), ())
    assert fixed.truth == ((1, 2), ())
    assert fixed.episode.query.targets == ((1,), ())
    assert fixed.n_unseen_queries == 1


def test_scores(tmp_path: Path) -> None:
    rows: list[object] = [{"text": "a", "score": 1}, {"text": "b", "score": 2.5}]
    fixed = first(write_task(tmp_path / "scores", support=rows, queries=rows))
    assert (fixed.episode.objective, fixed.episode.labels, fixed.truth) == ("regression", (), (1.0, 2.5))
    assert fixed.n_unseen_queries == 0


def test_tags_become_entity_typing(tmp_path: Path) -> None:
    rows: list[object] = [
        {"tokens": ["Ada", "met", "Acme", "Corp"], "tags": ["B-PER", "O", "B-ORG", "I-ORG"]},
    ]
    fixed = first(write_task(tmp_path / "names", support=rows, queries=rows))
    assert fixed.episode.labels == ("ORG", "PER")
    assert fixed.episode.query.inputs == (
        TextInput("Ada met Acme Corp", "Ada"),
        TextInput("Ada met Acme Corp", "Acme Corp"),
    )


def test_only_the_first_episodes(tmp_path: Path) -> None:
    task = only_task(write_task(tmp_path / "mood"), episodes=1)
    assert [(e.shots, e.index) for e in task.episodes] == [(1, 0), (2, 0)]


def test_queries_are_drawn_once_for_all_episodes(tmp_path: Path) -> None:
    folder = write_task(tmp_path / "mood")
    drawn = only_task(folder, max_queries=4)
    inputs = [episode.episode.query.inputs for episode in drawn.episodes]
    assert len(inputs[0]) == 4
    assert inputs == [inputs[0]] * 3
    order = [
        QUERIES.index({"text": text.text, "label": "good" if int(text.text[6:]) % 3 else "bad"}) for text in inputs[0]
    ]
    assert order == sorted(order)
    assert only_task(folder, max_queries=4) == drawn
    others = {only_task(folder, max_queries=4, seed=seed).episodes[0].episode.query.inputs for seed in range(20)}
    assert len(others) > 1


def test_fewer_queries_than_asked_for_are_all_taken(tmp_path: Path) -> None:
    assert len(first(write_task(tmp_path / "mood")).truth) == 9
    assert len(only_task(tmp_path / "mood", max_queries=9).episodes[0].truth) == 9
    assert len(only_task(tmp_path / "mood", max_queries=100).episodes[0].truth) == 9


def test_blank_texts_are_left_out_and_counted(tmp_path: Path) -> None:
    queries: list[object] = [*QUERIES, {"text": " ", "label": "good"}, {"text": "a", "text_pair": "", "label": "bad"}]
    task = only_task(write_task(tmp_path / "mood", queries=queries))
    assert len(task.episodes[0].truth) == 9
    assert task.skipped == (Skipped("eval.jsonl", "blank text", 2),)


def test_an_empty_folder_is_refused_with_what_it_should_hold(tmp_path: Path) -> None:
    with pytest.raises(InvalidTasks, match="is not a folder"):
        read_fixed_tasks(tmp_path / "absent")
    write(tmp_path / "eval.jsonl", *FEELINGS)
    (tmp_path / "train_0_x.jsonl").touch()
    with pytest.raises(InvalidTasks, match=r"train_0_4\.jsonl"):
        read_fixed_tasks(tmp_path)


def test_an_episode_number_that_no_file_has_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "train_3_4.jsonl", *FEELINGS)
    write(tmp_path / "eval.jsonl", *FEELINGS)
    with pytest.raises(InvalidTasks, match="under 3"):
        read_fixed_tasks(tmp_path, episodes=3)


def test_a_task_without_queries_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "mood" / "train_0_4.jsonl", *FEELINGS)
    with pytest.raises(InvalidTasks, match=r"mood/eval\.jsonl"):
        read_fixed_tasks(tmp_path)


@pytest.mark.parametrize("file", ["eval.jsonl", "train_1_1.jsonl"])
@pytest.mark.parametrize("line", ['{"text": "no label"}', "[]", '{"text": 3, "label": "good"}', "{"])
def test_a_malformed_line_is_named(tmp_path: Path, file: str, line: str) -> None:
    folder = write_task(tmp_path / "mood")
    (folder / file).write_text(json.dumps(FEELINGS[0]) + "\n" + json.dumps(FEELINGS[1]) + "\n" + line + "\n")
    with pytest.raises(InvalidTasks, match=rf"{file}:3: "):
        read_fixed_tasks(tmp_path)


def test_support_and_queries_of_different_kinds_are_refused(tmp_path: Path) -> None:
    folder = write_task(tmp_path / "mood")
    write(folder / "train_1_1.jsonl", {"text": "a", "score": 1.0}, {"text": "b", "score": 2.0})
    with pytest.raises(InvalidTasks, match=r"train_1_1\.jsonl holds 'score', but .*eval\.jsonl holds 'label'"):
        read_fixed_tasks(folder)


def test_a_support_set_of_one_class_is_refused(tmp_path: Path) -> None:
    folder = write_task(tmp_path / "mood")
    write(folder / "train_1_1.jsonl", FEELINGS[0])
    with pytest.raises(InvalidTasks, match=r"train_1_1\.jsonl has 1 classes"):
        read_fixed_tasks(folder)


@pytest.mark.parametrize("content", ["", "\n\n", '{"text": "", "label": "good"}\n'])
def test_a_file_without_a_text_is_refused(tmp_path: Path, content: str) -> None:
    folder = write_task(tmp_path / "mood")
    (folder / "train_0_2.jsonl").write_text(content)
    with pytest.raises(InvalidTasks, match=r"train_0_2\.jsonl holds no text"):
        read_fixed_tasks(folder)
