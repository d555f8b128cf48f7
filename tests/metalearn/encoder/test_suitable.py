"""Encoders whose features would not be a text's own are refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from metalearn.encoder.encoder import Encoder, build_encoder
from metalearn.encoder.stages import PoolingMode, encoder_stages
from metalearn.encoder.suitable import check_suitable
from metalearn.errors import EncoderUnavailable
from tests.conftest import MakeOtherEncoder

CPU = torch.device("cpu")


def encoder_of(folder: Path, mode: PoolingMode = "mean") -> Encoder:
    return build_encoder(folder, encoder_stages(max_tokens=64, mode=mode), CPU)


def test_the_first_token_of_a_decoder_is_refused(make_other_encoder: MakeOtherEncoder) -> None:
    folder = make_other_encoder("qwen3")
    check_suitable(encoder_of(folder, "last"))
    check_suitable(encoder_of(folder, "mean"))
    with pytest.raises(EncoderUnavailable, match=r"qwen3.* reads from left to right.* pool with --pooling last"):
        check_suitable(encoder_of(folder, "first"))


def test_the_first_token_of_an_encoder_is_not(tiny_encoder: Path) -> None:
    check_suitable(encoder_of(tiny_encoder, "first"))


def test_states_that_change_by_padding_are_refused(make_other_encoder: MakeOtherEncoder) -> None:
    with pytest.raises(EncoderUnavailable, match=r"fnet.* padding after a text changes the states"):
        check_suitable(encoder_of(make_other_encoder("fnet")))


def test_a_tokenizer_that_frames_no_text_is_refused(make_other_encoder: MakeOtherEncoder, tmp_path: Path) -> None:
    folder = shutil.copytree(make_other_encoder("qwen3"), tmp_path / "unframed")
    fields = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(fields | {"post_processor": None}))
    with pytest.raises(EncoderUnavailable, match="adds no token to a text, so that an empty text has none to pool"):
        check_suitable(encoder_of(folder))
