"""Any other architecture than BERT, computed by the transformers package. It takes seconds to import: import it late.

The package's model stays whole, so that masks, positions and what stands between layers are its own. Each of its layers
is put into a slot, which decides whether the layer runs in this call, on which hidden states, and with which weights.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from metalearn.encoder.layer_slots import ContiguousProducts, LayerRun, LayerSlot, NormOfEachText, current_run
from metalearn.errors import EncoderUnavailable

_LARGEST_DIFFERENCE = 1e-4
"""Between the model run whole and run layer by layer; rounding alone makes some 1e-6."""

_TOKENS_WITHOUT_LIMIT = 512
"""The longest text of a model whose config gives no limit."""


@dataclass(frozen=True, eq=False)
class HuggingFaceTransformer:
    """A model of the transformers package: see ``metalearn.encoder.transformer.Transformer``.

    A model whose layers cannot be run one by one has none here: ``embed`` runs all of it. Attention is the package's
    "eager" one. Its other kinds take another kernel where no text of a batch is padded, which changes last bits.

    Attributes:
        model: The package's, in evaluation mode, with its layers in slots.
        max_tokens: The longest text that it reads.
        replaced: Weights in the place of the model's own, by the names of ``layer_weights``.
    """

    model: Any
    max_tokens: int
    replaced: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> "HuggingFaceTransformer":
        """From a folder with ``config.json`` and ``model.safetensors``.

        Raises:
            EncoderUnavailable: The files are not an encoder's that the package knows, or lack weights.
        """
        model = _loaded(folder)
        max_tokens = _max_tokens(model)
        whole, probe = cls(model, max_tokens), _probe(model, max_tokens)
        try:
            expected = whole.embed(*probe)
        except Exception as error:  # whatever a model's own code raises
            raise EncoderUnavailable(
                f"{folder} holds a {whole.architecture} that cannot read texts: {error}"
            ) from error
        for layers in _layer_lists(model):
            own = list(layers)
            for i, layer in enumerate(own):
                layers[i] = LayerSlot(layer, i)
            if _difference(cls(model, max_tokens), probe, expected) <= _LARGEST_DIFFERENCE:
                for module in layers.modules():
                    if type(module) is nn.LayerNorm:
                        module.__class__ = NormOfEachText
                break
            for i, layer in enumerate(own):
                layers[i] = layer
        return cls(model, max_tokens)

    @property
    def architecture(self) -> str:
        """The architecture's name in the package."""
        return str(self.model.config.model_type)

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return int(self.model.config.hidden_size)

    @property
    def n_layers(self) -> int:
        """Layers that can be run one by one; 0 where there are none."""
        return len(self._slots)

    @cached_property
    def _slots(self) -> Sequence[LayerSlot]:
        return [module for module in self.model.modules() if isinstance(module, LayerSlot)]

    @cached_property
    def _slot_paths(self) -> Sequence[str]:
        return [path for path, module in self.model.named_modules() if isinstance(module, LayerSlot)]

    def embed(
        self,
        ids: Int[Tensor, "texts tokens"],
        types: Int[Tensor, "texts tokens"],
        attended: Bool[Tensor, "texts tokens"] | None,
    ) -> Float[Tensor, "texts tokens dim"]:
        """The states that the first layer reads; the last hidden states of a model that runs as a whole."""
        return self._computed(LayerRun(0, 0), self._padded(ids, attended), types, attended)

    def last_states(
        self,
        ids: Int[Tensor, "texts tokens"],
        types: Int[Tensor, "texts tokens"],
        attended: Bool[Tensor, "texts tokens"],
    ) -> Float[Tensor, "texts tokens dim"]:
        """The last hidden states, with the model's own weights."""
        return self._computed(LayerRun(0, self.n_layers), self._padded(ids, attended), types, attended)

    def _padded(
        self, ids: Int[Tensor, "texts tokens"], attended: Bool[Tensor, "texts tokens"] | None
    ) -> Int[Tensor, "texts tokens"]:
        """The ids with the model's own padding, by which some models count positions."""
        padding = self.model.config.pad_token_id
        return ids if attended is None or padding is None else ids.masked_fill(~attended, padding)

    def run_layers(
        self,
        hidden: Float[Tensor, "texts tokens dim"],
        attended: Bool[Tensor, "texts tokens"] | None,
        *,
        first: int = 0,
        last: int | None = None,
        weights: Mapping[str, Tensor] | None = None,
    ) -> Float[Tensor, "texts tokens dim"]:
        """Hidden states after some layers; after the last one, a final norm of the model included."""
        first, last, _ = slice(first, last).indices(self.n_layers)
        if first >= last:
            return hidden
        own: dict[int, dict[str, Tensor]] = {}
        for name, weight in {**self.replaced, **(weights or {})}.items():
            _, index, part = name.split(".", 2)
            own.setdefault(int(index), {})[part] = weight
        # Masks and positions follow from the shape; what the model makes of these ids goes nowhere
        ids = torch.zeros(hidden.shape[:2], dtype=torch.long, device=hidden.device)
        return self._computed(LayerRun(first, last, hidden, own), ids, ids, attended)

    def _computed(
        self,
        run: LayerRun,
        ids: Int[Tensor, "texts tokens"],
        types: Int[Tensor, "texts tokens"],
        attended: Bool[Tensor, "texts tokens"] | None,
    ) -> Float[Tensor, "texts tokens dim"]:
        mask = torch.ones_like(ids) if attended is None else attended
        inputs = {"input_ids": ids.long(), "attention_mask": mask.long()}
        if getattr(self.model.config, "type_vocab_size", 0) > 1:
            inputs["token_type_ids"] = types.long()
        token = current_run.set(run)
        try:
            with ContiguousProducts():
                output = self.model(**inputs, return_dict=True).last_hidden_state
        finally:
            current_run.reset(token)
        return output if run.found is None else run.found

    def layer_weights(self, first: int) -> dict[str, Tensor]:
        """Weights of the layers from ``first`` on, as ``layers.INDEX.PART``, in the package's names of the parts."""
        return {
            name: self.replaced.get(name, weight.data)
            for i, slot in list(enumerate(self._slots))[first:]
            for part, weight in slot.layer.named_parameters()
            for name in [f"layers.{i}.{part}"]
        }

    @cached_property
    def weight_paths(self) -> Mapping[str, str]:
        """Where each weight is in ``model``, by the package's name of it, which knows no slots."""
        return {self._without_slot(path): path for path, _ in self.model.named_parameters()}

    def _without_slot(self, path: str) -> str:
        for slot in self._slot_paths:
            if path.startswith(f"{slot}.layer."):
                return slot + path.removeprefix(f"{slot}.layer")
        return path

    def named_weights(self) -> dict[str, Tensor]:
        """All weights by the package's names."""
        own = dict(self.model.named_parameters())
        found = {name: own[path].data for name, path in self.weight_paths.items()}
        for name, weight in self.replaced.items():
            _, index, part = name.split(".", 2)
            found[f"{self._slot_paths[int(index)]}.{part}"] = weight
        return found

    def with_weights(self, weights: Mapping[str, Tensor]) -> "HuggingFaceTransformer":
        """The same transformer with some of its layers' weights replaced."""
        own, new = self.layer_weights(0), {}
        for name, weight in weights.items():
            if name not in own or own[name].shape != weight.shape:
                raise EncoderUnavailable(f"the encoder has no weight {name} of shape {tuple(weight.shape)}")
            new[name] = weight.detach().to(own[name], copy=True)
        return replace(self, replaced={**self.replaced, **new})

    def to(self, where: torch.device | torch.dtype) -> "HuggingFaceTransformer":
        """The same transformer on a device, or in a floating type."""
        if where in {self.model.device, self.model.dtype}:
            return self
        replaced = {name: weight.to(where) for name, weight in self.replaced.items()}
        return replace(self, model=copy.deepcopy(self.model).to(where), replaced=replaced)


def _loaded(folder: Path) -> Any:
    """The package's model of a folder, without gradients of its own."""
    from transformers import AutoConfig, AutoModel
    from transformers.utils import logging

    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise EncoderUnavailable(
                f"{folder} has no {name}: write the model there with save_pretrained(FOLDER, max_shard_size='1TB')"
            )
    level = logging.get_verbosity()
    logging.set_verbosity_error()  # its report of weights is checked below
    logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        _check_kind(config, folder)
        config.use_cache = False
        model, report = AutoModel.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            attn_implementation="eager",
            output_loading_info=True,
        )
    except EncoderUnavailable:
        raise
    except Exception as error:  # the package raises whatever its parts raise
        reason = (str(error) or type(error).__name__).splitlines()[0]  # further lines advise to run the model's code
        raise EncoderUnavailable(f"transformers cannot load {folder}: {reason}") from error
    finally:
        logging.set_verbosity(level)
        logging.enable_progress_bar()
    missing = sorted(name for name in report["missing_keys"] if "pooler" not in name)  # pooled here, not by the model
    if missing:
        raise EncoderUnavailable(f"{folder / 'model.safetensors'} lacks {', '.join(missing[:3])} of {len(missing)}")
    return model.eval().requires_grad_(False)


def _check_kind(config: Any, folder: Path) -> None:
    """Refuses what the package loads and is no encoder of texts."""
    if config.is_encoder_decoder:
        raise EncoderUnavailable(f"{folder} holds an encoder with a decoder ({config.model_type}): give an encoder")
    if not isinstance(getattr(config, "vocab_size", None), int) or not isinstance(
        getattr(config, "hidden_size", None), int
    ):
        raise EncoderUnavailable(f"{folder} holds no encoder of texts ({config.model_type} has no vocabulary)")


def _max_tokens(model: Any) -> int:
    """The longest text: rows of the table of positions less those kept for padding; else as in the config."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    limit = getattr(model.config, "max_position_embeddings", None)
    return limit if isinstance(limit, int) and limit > 0 else _TOKENS_WITHOUT_LIMIT


def _layer_lists(model: Any) -> list[nn.ModuleList]:
    """Lists of modules that may be the model's layers."""
    wanted = getattr(model.config, "num_hidden_layers", None)
    return [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == wanted]


_Probe = tuple[Tensor, Tensor, Tensor]


def _probe(model: Any, max_tokens: int) -> _Probe:
    """Ids, types and mask of two texts, the second one with padding."""
    width = min(8, max_tokens)
    ids = (torch.arange(2 * width).view(2, width) * 7 + 3) % model.config.vocab_size
    attended = torch.ones(2, width, dtype=torch.bool)
    attended[1, width // 2 + 1 :] = False
    return ids, torch.zeros_like(ids), attended


@torch.no_grad()
def _difference(transformer: HuggingFaceTransformer, probe: _Probe, expected: Tensor) -> float:
    """The largest difference of states, run at once and layer by layer, to those of the whole model."""
    ids, types, attended = probe
    try:
        # At once and first, since slots learn from it how layers return their states
        found = [transformer._computed(LayerRun(0, transformer.n_layers), ids, types, attended)]
        found.append(transformer.embed(ids, types, attended))
        for i in range(transformer.n_layers):
            own = transformer.layer_weights(i)
            found[1] = transformer.run_layers(found[1], attended, first=i, last=i + 1, weights=own)
    except Exception:  # whatever a model's own code raises: its layers cannot be run by themselves
        return float("inf")
    return max(float((states - expected)[attended].abs().max()) for states in found)
