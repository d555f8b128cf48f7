"""The encoder is held to transformers' own output, and refuses files that are not its own."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from tokenizers import Tokenizer
from torch import Tensor

from metalearn.encoder.bert import BertConfig, BertTransformer
from metalearn.errors import EncoderUnavailable

MIXED = [
    "card",
    "I am still waiting on my card, it has been two weeks and nobody answers?",
    ("Where is my card", "The parcel was lost on its way to the customer"),
    "Warum wurde mir eine Gebühr berechnet? 日本語 🙂",
    ("short", "pair"),
]


def _batch(folder: Path, texts: list[str | tuple[str, str]]) -> tuple[Tensor, Tensor, Tensor]:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.enable_padding()
    rows = tokenizer.encode_batch(texts)
    return (
        torch.tensor([row.ids for row in rows]),
        torch.tensor([row.type_ids for row in rows]),
        torch.tensor([row.attention_mask for row in rows]),
    )


def _states(folder: Path, ids: Tensor, types: Tensor, attended: Tensor | None) -> Tensor:
    transformer = BertTransformer.load(folder)
    return transformer.run_layers(transformer.embed(ids, types), attended)


@pytest.mark.parametrize("which", ["tiny_encoder", "stock_folder"])
@pytest.mark.parametrize("texts", [MIXED, MIXED[:1], MIXED[2:3]], ids=["mixed", "one", "pair"])
def test_hidden_states_equal_those_of_transformers(
    which: str, texts: list[str | tuple[str, str]], request: pytest.FixtureRequest
) -> None:
    from transformers import BertModel

    folder: Path = request.getfixturevalue(which)
    reference = BertModel.from_pretrained(folder, add_pooling_layer=False, attn_implementation="eager").eval()
    ids, types, mask = _batch(folder, texts)
    attended = None if bool(mask.all()) else mask.bool()
    with torch.no_grad():
        ours = _states(folder, ids, types, attended)
        theirs = reference(input_ids=ids, token_type_ids=types, attention_mask=mask).last_hidden_state
    kept = mask.bool()
    if texts is MIXED:
        assert not bool(kept.all()), "the batch has to have padding"
        assert int(types.max()) == 1, "the batch has to have a pair"
    torch.testing.assert_close(ours[kept], theirs[kept], atol=1e-5, rtol=0)


def test_weights_of_any_float_type_and_of_a_model_with_a_head_are_read(spoiled: Path) -> None:
    stored = safetensors.torch.load_file(spoiled / "model.safetensors")
    plain = BertTransformer.load(spoiled).weights
    foreign = {f"bert.{name}": tensor.half() for name, tensor in stored.items()}
    foreign["cls.predictions.bias"] = torch.zeros(3)
    safetensors.torch.save_file(foreign, spoiled / "model.safetensors")
    for name, tensor in BertTransformer.load(spoiled).weights.items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, plain[name].half().float(), atol=0, rtol=0)


def _config(**changes: object) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        fields = json.loads((folder / "config.json").read_bytes())
        (folder / "config.json").write_text(json.dumps({**fields, **changes}))

    return spoil


def _without(name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        fields = json.loads((folder / "config.json").read_bytes())
        del fields[name]
        (folder / "config.json").write_text(json.dumps(fields))

    return spoil


def _weights(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        tensors = safetensors.torch.load_file(folder / "model.safetensors")
        change(tensors)
        safetensors.torch.save_file(tensors, folder / "model.safetensors")

    return spoil


def _cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_config(model_type="roberta"), "model_type is 'roberta'.*'bert'"),
        (_without("model_type"), "model_type is None.*'bert'"),
        (_config(hidden_act="gelu_new"), "hidden_act is 'gelu_new'.*'gelu'"),
        (_config(position_embedding_type="relative_key"), "position_embedding_type is 'relative_key'"),
        (_without("hidden_size"), "config.json lacks 'hidden_size'"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot read .*config.json"),
        (lambda folder: (folder / "config.json").unlink(), "cannot read .*config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"no tensors"), "cannot read .*model.safetensors"),
        (_cut, "cannot read .*model.safetensors"),
        (_config(hidden_size=64), "do not fit its configuration.*size mismatch"),
        (_config(vocab_size=100), "do not fit its configuration.*size mismatch"),
        (_config(num_hidden_layers=3), r"do not fit its configuration.*encoder\.layer\.2"),
        (
            _weights(lambda tensors: tensors.pop("encoder.layer.1.output.dense.bias")),
            r"do not fit its configuration.*encoder\.layer\.1\.output\.dense\.bias",
        ),
    ],
)
def test_foreign_or_broken_files_are_refused_with_a_reason(
    spoiled: Path, spoil: Callable[[Path], object], message: str
) -> None:
    spoil(spoiled)
    with pytest.raises(EncoderUnavailable, match=f"(?s){message}") as caught:
        BertTransformer.load(spoiled)
    assert str(spoiled) in str(caught.value)


@pytest.mark.parametrize("text", ["[]", '"bert"', "null"])
def test_a_config_that_is_no_object_is_refused_as_such(spoiled: Path, text: str) -> None:
    (spoiled / "config.json").write_text(text)
    with pytest.raises(EncoderUnavailable, match=r"config\.json"):
        BertConfig.load(spoiled / "config.json")


def test_heads_that_do_not_divide_the_width_are_refused_before_the_first_text(spoiled: Path) -> None:
    _config(num_attention_heads=5)(spoiled)
    with pytest.raises(EncoderUnavailable):
        BertTransformer.load(spoiled)
