"""Tiny random encoders of other architectures than BERT, made without a download."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

TINY = {"vocab_size": 600, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
FRAME = {"bos_token_id": 0, "cls_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "sep_token_id": 2}
ROBERTA = {**TINY, **FRAME, "max_position_embeddings": 130, "type_vocab_size": 1}
_OTHERS: Mapping[str, Mapping[str, Any]] = {
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "distilbert": {
        "vocab_size": 600, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "pad_token_id": 1,
        "max_position_embeddings": 128,
    },
    "modernbert": {**TINY, **FRAME, "num_hidden_layers": 4, "local_attention": 8, "max_position_embeddings": 128},
    "deberta-v2": {
        **TINY, "pad_token_id": 1, "max_position_embeddings": 128, "type_vocab_size": 0, "relative_attention": True,
        "position_biased_input": False, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16,
        "norm_rel_ebd": "layer_norm", "share_att_key": True,
    },
    "mpnet": {**TINY, "pad_token_id": 1, "max_position_embeddings": 130},
    "electra": {**TINY, "embedding_size": 16, "pad_token_id": 1, "max_position_embeddings": 128},
    "nomic_bert": {**TINY, "pad_token_id": 1, "max_position_embeddings": 128},
    "albert": {**TINY, "embedding_size": 16, "pad_token_id": 1, "max_position_embeddings": 128},
}  # fmt: skip
"""Fields of each one's config."""
OTHERS = {**_OTHERS, "deberta-v2-conv": {**_OTHERS["deberta-v2"], "conv_kernel_size": 3, "conv_act": "gelu"}}

PECULIAR: Mapping[str, Mapping[str, Any]] = {
    "qwen3": {**TINY, "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 1, "max_position_embeddings": 128},
    "fnet": {**TINY, "pad_token_id": 1, "max_position_embeddings": 128},
}
"""Qwen3's tokens see those before them alone; FNet's see padding."""

WHOLE = ["albert", "deberta-v2-conv"]
"""Cannot be run by layers: ALBERT's share their weights; a convolution beside DeBERTa's first reads what it reads."""
LAYERED = [name for name in OTHERS if name not in WHOLE]


def make_encoder(folder: Path, name: str) -> Path:
    """Writes an encoder with a tokenizer of characters."""
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(0)
    fields = {**OTHERS, **PECULIAR}[name]
    config = AutoConfig.for_model(name.removesuffix("-conv"), initializer_range=0.3, **fields)
    model = AutoModel.from_config(config)
    model.save_pretrained(folder)
    tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def tokenizer() -> Tokenizer:
    """One of characters, whose frame is RoBERTa's."""
    characters = ["<s>", "<pad>", "</s>", "<unk>", *map(chr, range(32, 127))]
    made = Tokenizer(models.BPE({each: i for i, each in enumerate(characters)}, [], unk_token="<unk>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(["<s>", "<pad>", "</s>"])
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return made
