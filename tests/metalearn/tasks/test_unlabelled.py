"""Plain text becomes tasks that give nothing away."""

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from metalearn.errors import InvalidTasks
from metalearn.label_text import label_words
from metalearn.tasks.sampler import EpisodeSampler, SamplerSettings
from metalearn.tasks.task import Task
from metalearn.tasks.unlabelled import cluster_tasks, masked_word_tasks, read_texts

WORDS = ["river", "engine", "court", "doctor"]
FILLER = "a the of some many few old new big small red blue green slow fast very quite rather".split()  # noqa: SIM905


def sentences(n: int = 400, seed: int = 0) -> list[str]:
    """Each has one or two of WORDS among filler; ``Capital`` or repeated at times."""
    draw = random.Random(seed)
    made = []
    for _ in range(n):
        words = draw.choices(FILLER, k=8)
        topic = draw.choice(WORDS)
        for form in draw.choice([(topic,), (topic.capitalize(), topic), (topic.upper(),), (topic, draw.choice(WORDS))]):
            words.insert(draw.randrange(len(words) + 1), form)
        made.append(" ".join(words) + ".")
    return made


def masked(texts: list[str], words_per_task: int = 4, n_tasks: int = 1, min_count: int = 20) -> tuple[Task, ...]:
    return masked_word_tasks(
        texts, n_tasks=n_tasks, words_per_task=words_per_task, min_count=min_count, max_share=0.4, seed=3
    )


def words_in(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def test_a_class_is_the_sentences_of_one_word_with_it_masked() -> None:
    texts = sentences()
    (task,) = masked_word_tasks(texts, n_tasks=1, words_per_task=4, min_count=60, max_share=0.4, licence="CC0")
    assert (task.group, task.licence, task.objective) == ("unlabelled-words", "CC0", "classification")
    chosen = [word for word in {*WORDS, *FILLER} if 60 <= sum(word in words_in(t) for t in set(texts)) <= 0.4 * 400]
    assert set(WORDS) <= set(chosen)
    by_masked: dict[str, set[str]] = {}
    for word in chosen:
        for text in texts:
            by_masked.setdefault(re.sub(rf"\b{word}\b", "[MASK]", text, flags=re.IGNORECASE), set()).add(word)
    of_class: dict[int, set[str]] = {}
    for text, target in zip(task.inputs, task.targets, strict=True):
        of_class.setdefault(int(str(target)), set()).update(by_masked[text.text])
    assert [len(words) for words in of_class.values()] == [1] * 4  # one word per class ...
    masked_words = set().union(*of_class.values())
    assert len(masked_words) == 4  # ... and each its own
    for text in task.inputs:
        assert not set(words_in(text.text)) & masked_words  # of all the task's words only the mask is left


def test_every_occurrence_is_masked_whatever_its_case_but_whole_words_only() -> None:
    texts = [f"Art is art, ART number {i} beside artful parts" for i in range(5)]
    texts += [f"Our don't and DON\u2019T differ from don in case {i} here" for i in range(5)]
    texts += [f"un café noir, Café de jour numéro {i}" for i in range(5)]
    tasks = masked_word_tasks(texts, n_tasks=200, words_per_task=2, min_count=5, max_share=0.4)
    found = {text.text for task in tasks for text in task.inputs}
    assert "[MASK] is [MASK], [MASK] number 3 beside artful parts" in found
    assert "Our [MASK] and DON\u2019T differ from don in case 2 here" in found
    assert "un [MASK] noir, [MASK] de jour numéro 4" in found
    assert not any("[MASK]ful" in text or "[MASK]'t" in text or "[MASK]s" in text for text in found)


def test_two_spellings_of_one_character_are_one_word() -> None:
    texts = [f"un caf{accent} noir de jour {i}" for i in range(4) for accent in ("\u00e9", "e\u0301")]
    texts += [f"une porte bleue du soir {i}" for i in range(4)]
    tasks = masked_word_tasks(texts, n_tasks=100, words_per_task=2, min_count=4, max_share=1.0)
    assert {t.text for task in tasks for t in task.inputs if "noir" in t.text and "caf" not in t.text} == {
        f"un [MASK] noir de jour {i}" for i in range(4)
    }


def test_labels_are_opaque() -> None:
    (task,) = masked(sentences())
    assert [label_words(label) for label in task.labels] == [None] * 4
    texts, features = blobs(12, 10, dim=12)
    (wide,) = cluster_tasks(texts, features, n_clusters=12, min_texts=2)
    assert len(wide.labels) > 10
    assert list(wide.labels) == sorted(wide.labels)
    assert {label_words(label) for label in wide.labels} == {None}


def test_what_two_words_share_is_left_out() -> None:
    texts = [f"{word} runs to the {i} hill" for i in range(3) for word in ("dog", "cat")]  # the same once masked
    texts += [f"one {word} sat on mat {word * i}" for i in range(1, 4) for word in ("dog", "cat")]
    texts += ["the dog and the cat fell out"]
    for task in masked_word_tasks(texts, n_tasks=300, words_per_task=2, min_count=7, max_share=0.55):
        found = {text.text for text in task.inputs}
        if any("dogdog" in text for text in found) and any("catcat" in text for text in found):
            assert not any("runs" in text or "fell" in text for text in found)
            assert len(found) == 4
            return
    pytest.fail("no task of dog and cat")


def test_paragraphs_are_split_and_repeated_or_short_sentences_dropped() -> None:
    paragraph = "The owl hunts mice at night. The owl hunts mice at night. An owl!\nThe fox hunts mice at dawn? Yes."
    texts = [f"{paragraph} The owl sleeps in tree {i}. The fox sleeps in den {i}." for i in range(5)]
    texts += ["The [MASK] of the owl is not used"]
    tasks = masked_word_tasks(texts, n_tasks=100, words_per_task=2, min_count=6, max_share=0.5)
    found = {text.text for task in tasks for text in task.inputs}
    assert found >= {"The [MASK] hunts mice at night.", "The [MASK] hunts mice at dawn?", "The [MASK] sleeps in den 2."}
    assert not any("owl!" in text or "not used" in text or "Yes" in text for text in found)


def test_words_of_a_middling_frequency_are_chosen_and_classes_bounded() -> None:
    texts = [f"common{'' if i % 3 else ' middling'} sentence with unique{i:c} tail" for i in range(0x4E00, 0x4E00 + 90)]
    texts += [f"rival sentence with unique{i:c} tail" for i in range(0x5E00, 0x5E00 + 30)]
    tasks = masked_word_tasks(
        texts, n_tasks=3, words_per_task=2, min_count=30, max_share=0.25, max_per_word=7, min_words=4
    )
    for task in tasks:  # middling and rival alone have 30 of 120 sentences
        assert len(task.inputs) == 14
        assert sum(text.text.startswith("common [MASK]") for text in task.inputs) == 7


def test_tasks_differ_and_a_seed_decides_them() -> None:
    texts = sentences()
    first = masked(texts, words_per_task=3, n_tasks=5)
    assert first == masked(texts, words_per_task=3, n_tasks=5)
    assert [task.name for task in first] == [f"words-{i}" for i in range(5)]
    assert len({task.inputs for task in first}) > 1
    assert masked_word_tasks(texts, n_tasks=5, words_per_task=3, max_share=0.4, seed=4) != first


def test_the_stock_tokenizer_reads_the_mask_as_its_special_token(stock_folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(stock_folder / "tokenizer.json"))
    mask = tokenizer.token_to_id("[MASK]")
    (task,) = masked(sentences())
    assert mask is not None
    for text in task.inputs[:50]:
        encoding = tokenizer.encode(text.text)
        assert encoding.ids.count(mask) == text.text.count("[MASK]") > 0
    assert tokenizer.encode("beside ([MASK]), [MASK]'s").tokens.count("[MASK]") == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: masked(["too little text here for anything"]), "0 words stand in 20 to 0 of 1 sentences.*give more"),
        (lambda: masked(sentences(), words_per_task=40), "a task needs 40"),
        (lambda: masked(sentences(), words_per_task=1), "at least one task of two words"),
        (lambda: masked(sentences(), n_tasks=0), "at least one task"),
        (lambda: masked(["ant bee cow dog eel"] * 3, min_count=1, words_per_task=2), "0 words"),
        (
            lambda: masked_word_tasks(
                [f"ant bee cow dog eel {i}" for i in range(9)], n_tasks=3, words_per_task=2, min_count=2, max_share=1.0
            ),
            "no two masked words",
        ),
    ],
)
def test_too_little_text_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidTasks, match=message):
        make()


def blobs(n: int, per: int, dim: int = 6) -> tuple[list[str], torch.Tensor]:
    """Texts ``BLOB/i`` with features around one corner per blob."""
    draw = torch.Generator().manual_seed(0)
    features = (10 * torch.eye(dim)[:n].repeat_interleave(per, 0)) + 0.1 * torch.randn(n * per, dim, generator=draw)
    return [f"{blob}/{i}" for blob in range(n) for i in range(per)], features


def test_clusters_become_classes() -> None:
    texts, features = blobs(4, 12)
    tasks = cluster_tasks(
        texts, features, n_clusters=4, n_partitions=3, min_texts=3, licence="CC0", licence_class="open"
    )
    assert [task.name for task in tasks] == ["clusters-0", "clusters-1", "clusters-2"]
    task = tasks[0]
    assert (task.group, task.licence, task.licence_class) == ("unlabelled-clusters", "CC0", "open")
    assert {label_words(label) for label in task.labels} == {None}
    assert {text.text for text in task.inputs} == set(texts)
    pairs = {(text.text.split("/")[0], target) for text, target in zip(task.inputs, task.targets, strict=True)}
    assert len(pairs) == 4


def test_partitions_see_the_features_scaled_differently() -> None:
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(300, 2, generator=draw) * torch.tensor([1.0, 0.7])
    signs = dict(zip(texts := [str(i) for i in range(300)], (features > 0).tolist(), strict=True))
    tasks = cluster_tasks(texts, features, n_clusters=2, n_partitions=12)
    halved = set()
    for task in tasks:  # as they are, the features fall apart along the first dimension alone
        first = [signs[task.inputs[row].text] for row in task.rows_of_class[0]]
        shares = [sum(sign[dim] for sign in first) / len(first) for dim in (0, 1)]
        halved.add(max((0, 1), key=lambda dim: abs(shares[dim] - 0.5)))
    assert halved == {0, 1}
    assert tasks == cluster_tasks(texts, features, n_clusters=2, n_partitions=12)
    assert tasks != cluster_tasks(texts, features, n_clusters=2, n_partitions=12, seed=1)


def test_small_clusters_and_repeated_texts_are_dropped() -> None:
    texts, features = blobs(4, 12)
    texts, features = texts[:-9], features[:-9]  # 3 are left of the last
    repeated = [*texts, *texts[:5]]
    shifted = torch.cat([features, features[:5] - 50])
    (task,) = cluster_tasks(repeated, shifted, n_clusters=4, min_texts=4)
    assert {text.text for text in task.inputs} == set(texts[:36])
    assert len(task.labels) == 3


def test_clusters_need_texts_and_features_that_match() -> None:
    texts, features = blobs(2, 10)
    with pytest.raises(InvalidTasks, match="20 rows of features, for 19 texts"):
        cluster_tasks(texts[:-1], features, n_clusters=2)
    with pytest.raises(InvalidTasks, match="finite"):
        cluster_tasks(texts, features / 0, n_clusters=2)
    with pytest.raises(InvalidTasks, match=r"20 different texts make no 3 clusters of 10 or more.*lower n_clusters"):
        cluster_tasks([*texts, *texts], torch.cat([features, features]), n_clusters=3)
    with pytest.raises(InvalidTasks, match="at least one of two clusters"):
        cluster_tasks(texts, features, n_clusters=1)
    with pytest.raises(InvalidTasks, match="no partition has two clusters of 10"):
        cluster_tasks(texts, torch.ones(20, 6), n_clusters=2)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", b"one\r\n\n  two  \n"),
        ("a.jsonl", b'{"text": "one", "label": 7}\n\n{"text": " "}\n{"text": "two"}'),
    ],
)
def test_texts_are_read_from_lines(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert read_texts(tmp_path / name) == ("one", "two")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "one"}\n{"label": "x"}', r"a\.jsonl:2: 'text' is missing"),
        ("a.jsonl", b"one", r"a\.jsonl:1: is not JSON"),
        ("a.txt", b"one\n\xff", r"a\.txt:2: byte 1 of the line is not UTF-8"),
        ("a.txt", b" \n", r"a\.txt holds no text"),
    ],
)
def test_files_without_texts_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidTasks, match=message):
        read_texts(tmp_path / name)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidTasks, match=r"cannot read .*no\.txt"):
        read_texts(tmp_path / "no.txt")


def test_made_tasks_are_ordinary_tasks() -> None:
    texts, features = blobs(4, 12)
    made = (*masked(sentences(), n_tasks=3), *cluster_tasks(texts, features, n_clusters=4))
    sampler = EpisodeSampler(made, SamplerSettings(), 0)
    assert not sampler.unusable
    assert {sampler.episode(i).group for i in range(60)} == {"unlabelled-words", "unlabelled-clusters"}
