"""Which tasks a run of meta-training draws its episodes from, and how often."""

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from metalearn.encoder.encoder import Encoder, build_encoder
from metalearn.encoder.stages import encoder_stages
from metalearn.errors import InvalidTasks
from metalearn.tasks.task import Skipped
from metatrain.options import TrainingOptions
from metatrain.pool import make_sampler, read_pool

CLASSIFICATION = frozenset({"classification"})


@pytest.fixture(scope="module")
def encoder(tiny_encoder: Path) -> Encoder:
    return build_encoder(tiny_encoder, encoder_stages(max_tokens=64), torch.device("cpu"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three tasks of single texts, one of them large, and one of pairs; and plain text."""
    for name, n, pair in (("large", 60, None), ("small", 8, None), ("other", 8, None), ("inference", 8, "it is so")):
        rows = [
            {"text": f"{name} text {i}", "label": f"label {i % 2}", **({"text_pair": pair} if pair else {})}
            for i in range(n)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ("river", "mountain", "harbour", "castle", "garden", "market")
    lines = [f"The {words[i % 6]} of number {i} lies near the {words[(i + 1) % 6]}" for i in range(900)]
    (tmp_path / "plain.txt").write_text("\n".join(lines))
    return tmp_path


def drawn(folder: Path, encoder: Encoder, **more: object) -> dict[str, float]:
    """Share of the episodes that each task gives."""
    options = TrainingOptions(tasks=[str(folder)], ways="2-2", **more)  # type: ignore[arg-type]
    sampler, _, _ = make_sampler(read_pool(options, encoder, CLASSIFICATION), options)
    found = Counter(sampler.episode(i).task for i in range(1000))
    return {task: count / 1000 for task, count in found.items()}


def test_pairs_give_the_share_that_is_asked_for_and_the_others_what_they_would(folder: Path, encoder: Encoder) -> None:
    by_size = drawn(folder, encoder)
    assert by_size["inference"] == pytest.approx(8**0.5 / (3 * 8**0.5 + 60**0.5), abs=0.05)
    weighed = drawn(folder, encoder, pairs_share=0.6)
    assert weighed["inference"] == pytest.approx(0.6, abs=0.05)
    assert weighed["large"] / weighed["small"] == pytest.approx((60 / 8) ** 0.5, rel=0.35)
    assert drawn(folder, encoder, pairs_share=0.0).keys() == {"large", "small", "other"}


def test_pairs_have_their_share_of_what_plain_text_leaves(folder: Path, encoder: Encoder) -> None:
    plain = {"unlabelled": [str(folder / "plain.txt")], "unlabelled_classes": "clusters", "unlabelled_share": 0.5}
    found = drawn(folder, encoder, pairs_share=0.4, **plain)
    assert found["inference"] == pytest.approx(0.2, abs=0.05)
    assert sum(found.get(name, 0) for name in ("large", "small", "other")) == pytest.approx(0.3, abs=0.05)


def test_a_task_can_be_left_out(folder: Path, encoder: Encoder) -> None:
    assert drawn(folder, encoder, leave_out=["large", "inference"]).keys() == {"small", "other"}


def test_a_task_can_be_left_out_that_open_licences_alone_would_not_admit(folder: Path, encoder: Encoder) -> None:
    lines = ["split\tname\tkind\tlicence\tlicence_class"]
    lines += [f"{folder.name}\t{name}\tother\tCC0\topen" for name in ("small", "other")]
    (folder / "index.tsv").write_text("\n".join(lines) + "\n")
    found = drawn(
        folder, encoder, leave_out=["large", "other"], open_licences_only=True, index=str(folder / "index.tsv")
    )
    assert found == {"small": 1}


def test_languages_and_label_names_are_as_the_options_ask(tmp_path: Path, encoder: Encoder) -> None:
    for name in ("mood", "mood_fr", "mood_tr", "mood_zh", "other"):
        rows = [{"text": f"{name} {i}", "label": ("positive", "negative")[i % 2]} for i in range(8)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = ["name\tsplit\tkind\tlanguage\tlicence\tlicence_class"]
    lines += [f"mood_{code}\tx\tmood\t{code}\tCC0\topen" for code in ("fr", "tr", "zh")]
    lines += [f"{name}\tx\tmood\ten\tCC0\topen" for name in ("mood", "other")]
    (tmp_path / "index.tsv").write_text("\n".join(lines) + "\n")
    assert drawn(tmp_path, encoder)["other"] == pytest.approx(0.2, abs=0.05)
    options = TrainingOptions(
        tasks=[str(tmp_path)], family_exponent=0.0, cross_lingual_share=1.0, translated_labels_share=0.5
    )
    sampler, _, _ = make_sampler(read_pool(options, encoder, CLASSIFICATION), options)
    episodes = [sampler.episode(i) for i in range(400)]
    assert sum(episode.task == "other" for episode in episodes) / 400 == pytest.approx(0.5, abs=0.08)
    assert sum("positive" in episode.labels for episode in episodes) / 400 == pytest.approx(0.5, abs=0.08)
    for episode in episodes:
        same = {text.text.split()[0] for text in episode.support.inputs} & {
            text.text.split()[0] for text in episode.query.inputs
        }
        assert same == ({"other"} if episode.task == "other" else set())


def test_plain_text_has_the_licence_that_an_index_gives_it(folder: Path, encoder: Encoder) -> None:
    unknown = folder / "unknown.jsonl"
    unknown.write_text('{"text": "who knows whose"}\n')
    lines = ["split\tname\tkind\tlicence\tlicence_class", f"{folder.name}\tplain\tunlabelled\tCC-BY-3.0\topen"]
    lines.append("elsewhere\tplain\tunlabelled\tother\trestricted")
    (folder / "index.tsv").write_text("\n".join(lines) + "\n")
    files = [str(folder / "plain.txt"), str(unknown)]
    both = read_pool(TrainingOptions(unlabelled=files, unlabelled_classes="clusters"), encoder, CLASSIFICATION)
    assert [(file.name, file.licence) for file in both.plain_text] == [
        ("plain.txt", "CC-BY-3.0"),
        ("unknown.jsonl", "unstated"),
    ]
    options = TrainingOptions(unlabelled=files, unlabelled_classes="clusters", open_licences_only=True)
    open_alone = read_pool(options, encoder, CLASSIFICATION)
    assert [file.name for file in open_alone.plain_text] == ["plain.txt"]
    assert open_alone.skipped == (Skipped("unknown.jsonl", "licence class unstated", 1),)
    with pytest.raises(InvalidTasks, match="no file of plain text has an open licence"):
        read_pool(TrainingOptions(unlabelled=[str(unknown)], open_licences_only=True), encoder, CLASSIFICATION)


@pytest.mark.parametrize("left_out", [["inference"], ["large", "small", "other"]])
def test_a_share_of_pairs_beside_nothing_is_refused(folder: Path, encoder: Encoder, left_out: list[str]) -> None:
    with pytest.raises(InvalidTasks, match="pairs_share"):
        drawn(folder, encoder, pairs_share=0.5, leave_out=left_out)
