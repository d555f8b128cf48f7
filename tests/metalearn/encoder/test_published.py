"""The way in which an encoder reads texts by its publisher's files."""

import json
from pathlib import Path
from typing import Any

import pytest

from metalearn.encoder.published import Published
from metalearn.encoder.stages import PoolingStage, Stages, TransformerStage
from metalearn.errors import EncoderUnavailable

MEAN = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}


def publish(folder: Path, pooling: Any = None, kinds: tuple[str, ...] = (), **files: Any) -> Published:
    """Writes the files of an encoder, and reads them."""
    modules = [{"path": "", "type": "sentence_transformers.models.Transformer"}]
    if pooling is not None:
        modules.append({"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"})
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    modules += [{"path": f"2_{kind}", "type": f"sentence_transformers.models.{kind}"} for kind in kinds]
    for name, content in {"modules": modules, **files}.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return Published.read(folder)


def stages(max_tokens: int, mode: Any = "mean", *, prompt: str = "", normalize: bool = True) -> Stages:
    return Stages(TransformerStage(max_tokens=max_tokens, prompt=prompt), PoolingStage(mode=mode, normalize=normalize))


def test_a_folder_without_such_files_is_read_by_default(tmp_path: Path) -> None:
    assert Published.read(tmp_path) == Published()
    assert Published().stages() == stages(256)
    asked = Published().stages(max_tokens=8, pooling="last", prompt="a ", normalize=False)
    assert asked == stages(8, "last", prompt="a ", normalize=False)


@pytest.mark.parametrize(
    ("pooling", "mode"),
    [
        (MEAN, "mean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "first"),
        ({"pooling_mode_lasttoken": True, "include_prompt": True}, "last"),
        ({"pooling_mode": "cls", "include_prompt": True}, "first"),
        ({"pooling_mode": "lasttoken"}, "last"),
        ({"word_embedding_dimension": 384}, "mean"),
    ],
)
def test_pooling_is_as_published(tmp_path: Path, pooling: Any, mode: str) -> None:
    found = publish(tmp_path, pooling, ("Normalize",), sentence_bert_config={"max_seq_length": 384})
    assert found.stages() == stages(384, mode)
    assert found.stages(pooling="mean", max_tokens=500) == stages(500)


@pytest.mark.parametrize(
    ("pooling", "kinds", "named"),
    [
        ({"pooling_mode_max_tokens": True}, (), r"pooling, max_tokens, does not exist here: .* --pooling mean, first"),
        (MEAN | {"pooling_mode_max_tokens": True}, (), "mean_tokens and max_tokens, does not exist"),
        (MEAN | {"include_prompt": False}, (), "over all tokens but the prompt's"),
        (MEAN, ("Dense", "Normalize"), "Dense after its pooling is not computed here: choose with --pooling"),
    ],
)
def test_pooling_that_does_not_exist_is_refused(
    tmp_path: Path, pooling: Any, kinds: tuple[str, ...], named: str
) -> None:
    found = publish(tmp_path, pooling, kinds)
    with pytest.raises(EncoderUnavailable, match=named):
        found.stages()
    assert found.stages(pooling="first") == stages(256, "first")


@pytest.mark.parametrize(
    ("fields", "prompt"),
    [
        ({"prompts": {"query": "query: ", "document": ""}, "default_prompt_name": "query"}, "query: "),
        ({"prompts": {"query": "query: ", "Classification": "task: "}, "default_prompt_name": None}, "task: "),
        ({"prompts": {"query": "query: "}}, ""),
        ({"__version__": {}}, ""),
    ],
)
def test_a_prompt_is_the_default_one_or_that_of_classification(
    tmp_path: Path, fields: dict[str, Any], prompt: str
) -> None:
    found = publish(tmp_path, MEAN, config_sentence_transformers=fields)
    assert found.prompts == tuple(fields.get("prompts", ()))
    assert found.stages() == stages(256, prompt=prompt)
    assert found.stages(prompt="mine ") == stages(256, prompt="mine ")
    assert found.stages(prompt="") == stages(256)


def test_no_text_is_longer_than_512_tokens_unless_asked_for(tmp_path: Path) -> None:
    found = publish(tmp_path, MEAN, sentence_bert_config={"max_seq_length": 8192})
    assert found.stages() == stages(512)
    assert found.stages(max_tokens=4096) == stages(4096)


@pytest.mark.parametrize("content", ["{", "[]", '"x"'])
def test_a_malformed_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "sentence_bert_config.json").write_text(content)
    with pytest.raises(EncoderUnavailable, match="sentence_bert_config"):
        Published.read(tmp_path)
