"""A task as a folder for sentence-transformers and scikit-learn: the encoder, tuned layers included, and the head.

Nothing in the folder is code or a pickle: loading it runs nothing.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from metalearn.encoder.bert import BertTransformer
from metalearn.encoder.e5_file import unpacked
from metalearn.encoder.encoder import Encoder
from model_store.checkpoint import Checkpoint
from model_store.errors import NotExportable
from model_store.linear_head import LinearHead, linear_head
from model_store.task_file import TaskFile

_POOLING = {"mean": "pooling_mode_mean_tokens", "first": "pooling_mode_cls_token", "last": "pooling_mode_lasttoken"}
_README = """\
# {task}

Version {version} of the task `{task}`, exported from Handful: the encoder of the checkpoint
`{checkpoint}` ({fingerprint}; licence of its weights: {licence}), and the task's head.

```python
import numpy as np
from sentence_transformers import SentenceTransformer
from sklearn.linear_model import LogisticRegression

encoder, head = SentenceTransformer("."), np.load("head.npz", allow_pickle=False)
classifier = LogisticRegression()
classifier.classes_, classifier.coef_, classifier.intercept_ = head["classes"], head["coef"], head["intercept"]
classifier.n_features_in_ = head["coef"].shape[1]
print(classifier.predict_proba(encoder.encode(["a text"])))
```

`predict` gives the labels. `head.json` is for other languages, with a row for each class:
`softmax(coef @ features + intercept)`.

- Every text is read with the prompt {prompt!r}, which `encode` adds by itself.
- Texts of more than {max_tokens} tokens: this folder reads their beginning, Handful their beginning
  and their end.
- Handful computes in 8-bit integers on many CPUs; compare with a server of
  `HANDFUL_PRECISION=float32`.
- The weights of BERT's pooler are zeros, and nothing uses them.
"""


def write_sentence_folder(file: TaskFile, checkpoint_folder: Path, folder: Path) -> None:
    """Writes the folder; after a failure there is none.

    Args:
        file: The exported task.
        checkpoint_folder: The folder of the checkpoint that made it.
        folder: Must not exist yet, or be empty.

    Raises:
        NotExportable: The task has answers, or its checkpoint an encoder, that such a folder cannot have.
        CheckpointInvalid: The checkpoint cannot be loaded.
        TaskFileInvalid: The file's weights cannot be read.
    """
    head = linear_head(file)
    if head.pairs:
        raise NotExportable(
            f"task {file.record.task!r} classifies pairs, of which Handful pools the second text alone: "
            "sentence-transformers cannot. --format onnx exports its head"
        )
    if head.objective != "classification":
        raise NotExportable(f"task {file.record.task!r} is one of {head.objective}; --format onnx exports its head")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise NotExportable(f"{folder} exists: give the name of a new folder")
    checkpoint = Checkpoint(checkpoint_folder, torch.device("cpu"))
    folder.absolute().parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.absolute().parent))
    try:
        _write_encoder(partial, checkpoint.encoder)
        _write_head(partial, head)
        readme = _README.format(
            task=file.record.task,
            version=file.record.version,
            checkpoint=checkpoint.manifest.name,
            fingerprint=checkpoint.fingerprint[:12],
            licence=checkpoint.manifest.encoder.licence,
            prompt=checkpoint.encoder.stages.transformer.prompt,
            max_tokens=checkpoint.encoder.max_tokens,
        )
        (partial / "README.md").write_text(readme, encoding="utf-8")
        partial.chmod(0o755)
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_encoder(folder: Path, encoder: Encoder) -> None:
    bert, (reading, pooling) = encoder.transformer, encoder.stages
    if not isinstance(bert, BertTransformer):
        raise NotExportable(
            f"the checkpoint's encoder is of the architecture {bert.architecture}; only BERT encoders can be exported "
            "so far. --format onnx exports the head"
        )
    padding = next((token for token in ("<pad>", "[PAD]") if encoder.tokenizer.token_id(token) is not None), None)
    if padding is None:
        raise NotExportable("the encoder's tokenizer has no token for padding. --format onnx exports the head")
    tokenizer = json.loads(encoder.tokenizer.to_json())
    # Texts are brought to NFKC before ``TextTokenizer`` reads them
    steps = [{"type": "NFKC"}, *([tokenizer["normalizer"]] if tokenizer["normalizer"] else [])]
    tokenizer["normalizer"] = {"type": "Sequence", "normalizers": steps}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    _json(
        folder / "config.json",
        {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "hidden_act": "gelu",
            "position_embedding_type": "absolute",
            "torch_dtype": "float32",
            "pad_token_id": encoder.tokenizer.token_id(padding),
            **{name: getattr(bert.config, name) for name in bert.config.__dataclass_fields__},
        },
    )
    _json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": reading.max_tokens,
            "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
            "pad_token": padding,
        },
    )
    safetensors.torch.save_file(_bert_tensors(bert), folder / "model.safetensors", metadata={"format": "pt"})
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), *([("2_Normalize", "Normalize")] * pooling.normalize)]
    _json(
        folder / "modules.json",
        [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(modules)
        ],
    )
    _json(folder / "sentence_bert_config.json", {"max_seq_length": reading.max_tokens, "do_lower_case": False})
    prompts = {"classification": reading.prompt}
    _json(
        folder / "config_sentence_transformers.json",
        {"prompts": prompts, "default_prompt_name": "classification", "similarity_fn_name": "cosine"},
    )
    for path, _ in modules[1:]:
        (folder / path).mkdir()
    modes = {name: mode == pooling.mode for mode, name in _POOLING.items()}
    dim = {"word_embedding_dimension": encoder.dim, "include_prompt": True}
    _json(folder / "1_Pooling" / "config.json", {**dim, **modes})


def _write_head(folder: Path, head: LinearHead) -> None:
    # An array of fixed-width strings, which needs no pickle
    classes = np.array(head.labels, dtype=np.str_)
    coef, intercept = head.weight, head.bias
    if len(classes) == 2:  # scikit-learn has one row for two classes, whose logit is the second one's over the first
        coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
    np.savez(folder / "head.npz", classes=classes, coef=coef, intercept=intercept)
    numbers = {"classes": head.labels, "coef": head.weight.tolist(), "intercept": head.bias.tolist()}
    _json(folder / "head.json", numbers)


def _bert_tensors(bert: BertTransformer) -> dict[str, Tensor]:
    """The weights by the names of BERT's files, in float32; the pooler's are zeros."""
    own = bert.named_weights()
    words = unpacked(own["words.packed"]) if "words.packed" in own else own["words.weight"].float()
    dim = bert.dim
    return {
        "embeddings.word_embeddings.weight": words.contiguous(),
        **bert.file_tensors(),
        "pooler.dense.weight": torch.zeros(dim, dim),
        "pooler.dense.bias": torch.zeros(dim),
    }


def _json(path: Path, content: Mapping[str, Any] | list[Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
