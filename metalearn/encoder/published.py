"""The way in which an encoder reads texts by its publisher's own files: those of the sentence-transformers package."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metalearn.encoder.e5_file import E5_FILE, E5_PROMPT
from metalearn.encoder.stages import PoolingMode, Stages, encoder_stages
from metalearn.errors import EncoderUnavailable

_MOST_TOKENS = 512
"""The longest text where no length is asked for: time and memory grow with the square of it."""
_MODES: dict[str, PoolingMode] = {"mean": "mean", "mean_tokens": "mean", "cls": "first", "cls_token": "first",
                                  "lasttoken": "last"}  # fmt: skip
_TO_CHOOSE = "choose with --pooling mean, first or last"


@dataclass(frozen=True, slots=True)
class Published:
    """The statements of an encoder's files.

    Attributes:
        max_tokens: The longest text; None where they do not say.
        pooling: The name of the pooling there; None where they do not say.
        further: Names of the modules after pooling that are not a scaling to unit length.
        prompt: The prompt of a text that is to be classified, or of any text; empty for none.
        prompts: Names of all prompts.
    """

    max_tokens: int | None = None
    pooling: str | None = None
    further: tuple[str, ...] = ()
    prompt: str = ""
    prompts: tuple[str, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> "Published":
        """Reads the files of an encoder's folder; one that is missing states nothing.

        Raises:
            EncoderUnavailable: A file is malformed.
        """
        if (folder / E5_FILE).is_file():
            return cls(prompt=E5_PROMPT, prompts=("query",))
        modules = _json(folder / "modules.json", list)
        kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
        paths = [folder / str(module["path"]) for module in modules]
        reading = _json(folder / "sentence_bert_config.json", dict)
        own = _json(folder / "config_sentence_transformers.json", dict)
        prompts = {name: text for name, text in (own.get("prompts") or {}).items() if isinstance(text, str)}
        chosen = own.get("default_prompt_name") or "classification"
        pooling = None
        if "Pooling" in kinds:
            pooling = _pooling(_json(paths[kinds.index("Pooling")] / "config.json", dict))
        return cls(
            max_tokens=reading.get("max_seq_length"),
            pooling=pooling,
            further=tuple(kind for kind in kinds if kind not in {"Transformer", "Pooling", "Normalize"}),
            prompt=next((text for name, text in prompts.items() if name.lower() == chosen.lower()), ""),
            prompts=tuple(prompts),
        )

    def stages(
        self,
        *,
        max_tokens: int | None = None,
        prompt: str | None = None,
        pooling: PoolingMode | None = None,
        normalize: bool | None = None,
    ) -> Stages:
        """The stages of the encoder; those that are not given are its publisher's.

        Features have unit length unless asked otherwise: the learners' rates and steps were chosen on such.

        Args:
            max_tokens: See ``TransformerStage``.
            prompt: See ``TransformerStage``.
            pooling: See ``PoolingStage``.
            normalize: See ``PoolingStage``.

        Raises:
            EncoderUnavailable: The publisher's pooling, or what follows it, does not exist here.
        """
        if pooling is None:
            if self.further:
                raise EncoderUnavailable(
                    f"the encoder's {' and '.join(self.further)} after its pooling is not computed here: {_TO_CHOOSE}"
                )
            if self.pooling is not None and self.pooling not in _MODES:
                raise EncoderUnavailable(f"the encoder's pooling, {self.pooling}, does not exist here: {_TO_CHOOSE}")
        return encoder_stages(
            max_tokens=max_tokens or min(self.max_tokens or 256, _MOST_TOKENS),
            prompt=self.prompt if prompt is None else prompt,
            mode=pooling or _MODES[self.pooling or "mean"],
            normalize=normalize is not False,
        )


def _pooling(fields: dict[str, Any]) -> str:
    """The name of the pooling in its ``config.json``, of which there are an older and a newer form."""
    if fields.get("include_prompt") is False:
        return "over all tokens but the prompt's"
    if isinstance(fields.get("pooling_mode"), str):
        return str(fields["pooling_mode"])
    chosen = [name.removeprefix("pooling_mode_") for name, value in fields.items() if value is True]
    return " and ".join(name for name in chosen if name != "include_prompt") or "mean"


def _json(path: Path, kind: type[Any]) -> Any:
    """The content of a JSON file; empty where there is none."""
    if not path.is_file():
        return kind()
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise EncoderUnavailable(f"cannot read {path}: {error}") from error
    if not isinstance(found, kind):
        raise EncoderUnavailable(f"{path} holds no JSON {'array' if kind is list else 'object'}")
    return found
