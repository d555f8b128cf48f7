"""Features of words: their tokens' mean, whoever shares the batch, and none for what was cut."""

# ruff: noqa: RUF001 - these characters are what is tested

from pathlib import Path

import pytest
import torch

from metalearn.encoder.encoder import Encoder, build_encoder
from metalearn.encoder.stages import encoder_stages
from metalearn.tokens.features import balanced_weights, word_features, words_of
from metalearn.tokens.words import joined, split_words
from metalearn.types import TextInput
from service.engine.runtime import OnnxFeatures


@pytest.fixture(scope="module")
def encoder(tiny_encoder: Path) -> Encoder:
    return build_encoder(tiny_encoder, encoder_stages(max_tokens=16), torch.device("cpu"))


def _tagged(*texts: str) -> list[TextInput]:
    return [TextInput(text, None, split_words(text)) for text in texts]


def test_a_word_has_the_mean_of_its_tokens(encoder: Encoder) -> None:
    (read,) = encoder.tokenize(_tagged("embeddings are fun"))
    assert words_of(read)[0] == (1, 5)  # em ##bed ##ding ##s
    (states,) = encoder.token_states([read])
    features = word_features(states, words_of(read))
    expected = states[1:5].mean(dim=0)
    assert torch.allclose(features[0], expected / expected.norm(), atol=1e-6)


def test_states_are_unit_vectors_of_the_middle_and_the_last_layer(encoder: Encoder) -> None:
    texts = encoder.tokenize(_tagged("where is my card"))
    unit = torch.nn.functional.normalize
    middle, last = (encoder.begin_batch(texts, layers).hidden for layers in (1, 2))
    assert torch.allclose(encoder.token_states(texts), unit(middle, dim=-1) + unit(last, dim=-1), atol=1e-6)


def test_onnx_runtime_computes_the_same_states(encoder: Encoder) -> None:
    texts = encoder.tokenize(_tagged("where is my card", "a", "one two three four five"))
    assert torch.allclose(OnnxFeatures(encoder).token_states(texts), encoder.token_states(texts), atol=1e-4)


@pytest.mark.parametrize("by_onnx", [False, True])
def test_states_depend_on_the_text_alone(encoder: Encoder, *, by_onnx: bool) -> None:
    runtime = OnnxFeatures(encoder).token_states if by_onnx else encoder.token_states
    texts = encoder.tokenize(_tagged("where is my card", "who has my keys", "it is not here"))
    together = runtime(texts)
    for row, text in enumerate(texts):
        assert torch.equal(
            word_features(together[row], words_of(text)), word_features(runtime([text])[0], words_of(text))
        )


def test_words_keep_their_places_in_texts_that_are_normalised(encoder: Encoder) -> None:
    # NFKC makes three letters of the ligature, and plain ones of the wide ones
    text = "ﬃ ｃａｒｄ x"
    (read,) = encoder.tokenize(_tagged(text))
    (plain,) = encoder.tokenize([TextInput("ffi card x")])
    assert read.ids == plain.ids
    assert len(words_of(read)) == 3
    assert words_of(read)[-1] == (len(read.ids) - 2, len(read.ids) - 1)


def test_the_prompt_belongs_to_no_word(tiny_encoder: Path) -> None:
    encoder = build_encoder(tiny_encoder, encoder_stages(max_tokens=16, prompt="query: "), torch.device("cpu"))
    (read,) = encoder.tokenize(_tagged("card"))
    assert words_of(read) == ((3, 4),)


def test_a_long_text_has_no_tokens_for_the_words_that_were_cut(encoder: Encoder) -> None:
    text, words = joined(["card"] * 40)
    (read,) = encoder.tokenize([TextInput(text, None, words)])
    assert read.truncated and len(read.ids) == 16
    is_read = [first < last for first, last in words_of(read)]
    assert sum(is_read) == 14 and is_read[0] and is_read[-1] and not is_read[20]
    features = word_features(encoder.token_states([read])[0], words_of(read))
    assert torch.equal(features[20], torch.zeros(encoder.dim))


def test_a_text_beyond_the_characters_that_are_read_is_cut_at_a_word(encoder: Encoder) -> None:
    text, words = joined(["x" * 100] * 50)
    (read,) = encoder.tokenize([TextInput(text, None, words)])
    assert read.truncated and len(words_of(read)) == 50 and words_of(read)[-1] == (0, 0)


def test_each_class_weighs_the_root_of_its_number() -> None:
    weights = balanced_weights(torch.tensor([0] * 9 + [1]), torch.ones(10), 3)
    assert float(weights.mean()) == pytest.approx(1)
    assert float(weights[:9].sum() / weights[9]) == pytest.approx(3)


def test_an_example_of_weight_two_counts_as_two() -> None:
    twice = balanced_weights(torch.tensor([0, 0, 1, 1]), torch.tensor([1.0, 1, 1, 1]), 2)
    heavy = balanced_weights(torch.tensor([0, 0, 1]), torch.tensor([1.0, 1, 2]), 2)
    assert heavy.tolist() == pytest.approx([*twice[:2].tolist(), float(twice[2:].sum())])
