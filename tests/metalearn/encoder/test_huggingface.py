"""Encoders of other architectures, by the transformers package, against the package itself."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from metalearn.encoder.encoder import Encoder, build_encoder
from metalearn.encoder.huggingface import HuggingFaceTransformer
from metalearn.encoder.stages import PoolingMode, Stages, encoder_stages
from metalearn.encoder.transformer import Transformer
from metalearn.errors import EncoderUnavailable, InvalidModel
from metalearn.model_spec import ModelSpec, make_text_model
from metalearn.types import TextInput
from tests.conftest import MakeOtherEncoder
from tests.other_encoders import LAYERED, WHOLE

CPU = torch.device("cpu")
INPUTS = [TextInput("where is my card"), TextInput("a man sleeps", "somebody is awake"), TextInput("x")]
IDS = torch.tensor([[0, 20, 30, 40, 50, 2], [0, 60, 70, 2, 1, 1]])
ATTENDED = IDS != 1
TYPES = torch.zeros_like(IDS)


def reference(folder: Path) -> torch.Tensor:
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS, attention_mask=ATTENDED.long()).last_hidden_state
    return found


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found[ATTENDED], expected[ATTENDED], atol=1e-4, rtol=1e-4)


def encoder_of(folder: Path, stages: Stages | None = None) -> Encoder:
    return build_encoder(folder, stages or encoder_stages(max_tokens=64), CPU)


@pytest.mark.parametrize("name", LAYERED)
def test_layers_one_by_one_do_what_the_package_does(make_other_encoder: MakeOtherEncoder, name: str) -> None:
    folder = make_other_encoder(name)
    transformer = HuggingFaceTransformer.load(folder)
    assert isinstance(transformer, Transformer)
    assert (transformer.architecture, transformer.dim, transformer.max_tokens) == (name, 32, 128)
    # Padding ids other than the model's own, as an encoder pads
    embedded, expected = transformer.embed(IDS * ATTENDED, TYPES, ATTENDED), reference(folder)
    close(transformer.run_layers(embedded, ATTENDED), expected)
    lower = transformer.run_layers(embedded, ATTENDED, last=1)
    close(transformer.run_layers(lower, ATTENDED, first=1), expected)
    assert transformer.run_layers(lower, ATTENDED, first=1, last=1) is lower
    assert {name.split(".")[1] for name in transformer.layer_weights(1)} == {
        str(i) for i in range(1, transformer.n_layers)
    }


@pytest.mark.parametrize("name", ["roberta", "modernbert", "mpnet"])
def test_given_weights_take_the_place_of_the_layers_own(make_other_encoder: MakeOtherEncoder, name: str) -> None:
    transformer = HuggingFaceTransformer.load(make_other_encoder(name))
    top = transformer.n_layers - 1
    moved = {name: (1.5 * weight).requires_grad_() for name, weight in transformer.layer_weights(top).items()}
    lower = transformer.run_layers(transformer.embed(IDS, TYPES, ATTENDED), ATTENDED, last=top)
    found = transformer.run_layers(lower, ATTENDED, first=top, weights=moved)
    plain = transformer.run_layers(lower, ATTENDED, first=top)
    assert float((found - plain).detach().abs().max()) > 0.01
    gradients = torch.autograd.grad(found.square().sum(), list(moved.values()))
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    replaced = transformer.with_weights(moved)
    close(replaced.run_layers(lower, ATTENDED, first=top), found.detach())
    close(replaced.to(torch.float64).run_layers(lower.double(), ATTENDED, first=top).float(), found.detach())
    torch.testing.assert_close(transformer.run_layers(lower, ATTENDED, first=top), plain, atol=0, rtol=0)
    with pytest.raises(EncoderUnavailable, match=r"no weight layers\.0\.nothing of shape"):
        transformer.with_weights({"layers.0.nothing": torch.ones(3)})


def test_each_text_may_have_norms_of_its_own(make_other_encoder: MakeOtherEncoder) -> None:
    encoder = encoder_of(make_other_encoder("roberta"))
    texts = encoder.tokenize([INPUTS[0], INPUTS[2]])
    own = {name: weight for name, weight in encoder.upper_weights(1).items() if "LayerNorm" in name}
    assert len(own) == 4
    scales = torch.tensor([1.0, 1.3]).view(-1, 1, 1)
    found = encoder.encode_batch(texts, {name: weight * scales for name, weight in own.items()})
    for row, scale in enumerate((1.0, 1.3)):
        alone = encoder.with_weights({name: weight * scale for name, weight in own.items()})
        torch.testing.assert_close(found[row], alone.encode_batch(texts)[row], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", WHOLE)
def test_a_model_without_layers_to_be_run_alone_is_run_whole(make_other_encoder: MakeOtherEncoder, name: str) -> None:
    folder = make_other_encoder(name)
    transformer = HuggingFaceTransformer.load(folder)
    assert transformer.n_layers == 0
    assert transformer.layer_weights(0) == {}
    hidden = transformer.embed(IDS, TYPES, ATTENDED)
    close(hidden, reference(folder))
    assert transformer.run_layers(hidden, ATTENDED) is hidden
    encoder = encoder_of(folder)
    assert encoder.encode_batch(encoder.tokenize(INPUTS)).shape == (3, 32)
    assert make_text_model(ModelSpec(), encoder).body.dim == 32
    with pytest.raises(InvalidModel, match=r"layers of this encoder .* cannot be run one by one"):
        make_text_model(ModelSpec(tuned_layers=1), encoder)


def test_token_types_are_given_where_the_model_has_some(make_other_encoder: MakeOtherEncoder) -> None:
    others = torch.ones_like(TYPES)
    for name, differ in (("electra", True), ("roberta", False), ("distilbert", False)):
        transformer = HuggingFaceTransformer.load(make_other_encoder(name))
        embedded = [transformer.embed(IDS, types, ATTENDED) for types in (TYPES, others)]
        assert torch.equal(*embedded) is not differ


def test_a_text_as_long_as_the_model_reads_is_read(make_other_encoder: MakeOtherEncoder) -> None:
    encoder = encoder_of(make_other_encoder("roberta"), encoder_stages(max_tokens=128))
    texts = encoder.tokenize([TextInput("word " * 100)])
    assert len(texts[0].ids) == 128
    assert bool(encoder.encode_batch(texts).isfinite().all())
    with pytest.raises(EncoderUnavailable, match=r"max_tokens is 129.*reads 128"):
        encoder_of(make_other_encoder("roberta"), encoder_stages(max_tokens=129))


def test_a_prompt_stands_before_every_text(make_other_encoder: MakeOtherEncoder) -> None:
    folder = make_other_encoder("roberta")
    prompted = encoder_of(folder, encoder_stages(max_tokens=64, prompt="query: "))
    plain = encoder_of(folder)
    found = prompted.encode_batch(prompted.tokenize(INPUTS))
    written_out = [TextInput(f"query: {each.text}", each.text_pair) for each in INPUTS]
    assert torch.equal(found, plain.encode_batch(plain.tokenize(written_out)))
    assert not torch.allclose(found, plain.encode_batch(plain.tokenize(INPUTS)), atol=1e-3)


@pytest.mark.parametrize("mode", ["first", "last"])
def test_one_token_may_be_pooled(make_other_encoder: MakeOtherEncoder, mode: PoolingMode) -> None:
    encoder = encoder_of(make_other_encoder("roberta"), encoder_stages(max_tokens=64, mode=mode))
    texts = encoder.tokenize(INPUTS)
    states = encoder.begin_batch(texts, encoder.n_layers).hidden
    places = [(text.second_from or 0) if mode == "first" else len(text.ids) - 1 for text in texts]
    one = torch.stack([states[row, place] for row, place in enumerate(places)])
    torch.testing.assert_close(encoder.encode_batch(texts), torch.nn.functional.normalize(one, dim=-1))
    longer = encoder_of(make_other_encoder("roberta"), encoder_stages(max_tokens=64, mode=mode, normalize=False))
    torch.testing.assert_close(longer.encode_batch(texts), one)


# ---- folders that cannot be used -------------------------------------------------------------------------------------


def _without_a_weight(folder: Path) -> None:
    stored = safetensors.torch.load_file(folder / "model.safetensors")
    del stored["encoder.layer.1.output.dense.weight"]
    safetensors.torch.save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})


def _as(**changes: object) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        fields = json.loads((folder / "config.json").read_text()) | changes
        (folder / "config.json").write_text(json.dumps(fields))

    return spoil


def _of_images(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "vit", "hidden_size": 32}))


def _of_sound(folder: Path) -> None:
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    convolutions = {"conv_dim": (32,), "conv_stride": (5,), "conv_kernel": (10,), "num_conv_pos_embedding_groups": 4}
    Wav2Vec2Model(Wav2Vec2Config(**sizes, **convolutions)).save_pretrained(folder)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), r"no model\.safetensors: write .* save_pretrained"),
        (lambda folder: (folder / "tokenizer.json").unlink(), r"tokenizer\.json: .*AutoTokenizer.* makes it"),
        (lambda folder: (folder / "config.json").write_text("[]"), r"config\.json has no model_type"),
        (_without_a_weight, r"lacks encoder\.layer\.1\.output\.dense\.weight"),
        (_as(model_type="nothing-known"), "transformers cannot load"),
        (_as(hidden_size=64), "transformers cannot load"),
        (_as(is_encoder_decoder=True), "holds an encoder with a decoder"),
        (_of_images, r"no encoder of texts \(vit has no vocabulary\)"),
        (_of_sound, "holds a wav2vec2 that cannot read texts"),
        (_as(model_type="own", auto_map={"AutoModel": "own.Own"}), r"transformers cannot load [^\n]*$"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused(
    make_other_encoder: MakeOtherEncoder, tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    folder = shutil.copytree(make_other_encoder("roberta"), tmp_path / "spoiled")
    spoil(folder)
    with pytest.raises(EncoderUnavailable, match=message):
        encoder_of(folder)


def test_a_bert_encoder_is_read_without_the_package(tiny_encoder: Path) -> None:
    program = """
import sys, torch
from pathlib import Path
from metalearn.encoder.encoder import build_encoder
from metalearn.encoder.stages import encoder_stages
from service.engine.runtime import start_runtime
start_runtime(build_encoder(Path(sys.argv[1]), encoder_stages(max_tokens=64), torch.device("cpu")), "torch")
assert "transformers" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program, str(tiny_encoder)], check=True)
