"""One line on the encoder of a new checkpoint: what was found, and what will serve it."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model_store.manifest import Manifest


def encoder_line(manifest: "Manifest", folder: Path) -> str:
    """Architecture and size, how texts are read and pooled, and the runtime.

    Args:
        manifest: The checkpoint's.
        folder: Has the encoder's files.
    """
    from metalearn.encoder.e5_file import E5_FILE, read_e5_config
    from metalearn.encoder.published import Published

    packed = folder / E5_FILE
    config = read_e5_config(packed) if packed.is_file() else _fields(folder / "config.json")
    reference = manifest.encoder
    reading, pooling = reference.stages
    architecture = str(config.get("model_type", "encoder"))
    sizes = {
        "layers": config.get("num_hidden_layers", config.get("n_layers")),
        "tokens of vocabulary": config.get("vocab_size"),
        "parameters": _parameters(folder / "model.safetensors"),
    }
    found = [f"{architecture} of width {reference.dim}"]
    found += [f"{size:,} {what}" for what, size in sizes.items() if isinstance(size, int) and size]
    prompts = Published.read(folder).prompts
    prompt = f"prompt {reading.prompt!r}" if reading.prompt else "no prompt"
    if not reading.prompt and prompts:
        prompt += f" (its files have some for {', '.join(prompts)})"
    parts = [
        ", ".join(found),
        f"texts of up to {reading.max_tokens} tokens",
        f"pooling {pooling.mode}{', to unit length' if pooling.normalize else ''}",
        prompt,
        _runtime(architecture, reference.graph),
    ]
    return "; ".join(parts)


def _runtime(architecture: str, graph: str | None) -> str:
    if architecture == "bert":
        return "ONNX Runtime serves it on a CPU"
    if graph is not None:
        return "ONNX Runtime serves it on a CPU, by the graph exported here"
    return "torch serves it"


def _parameters(path: Path) -> int:
    """The number of weights in a file; 0 where there is none."""
    import safetensors

    if not path.is_file():
        return 0
    with safetensors.safe_open(path, framework="pt") as file:
        slices = [file.get_slice(name) for name in file.keys()]
        return sum(math.prod(each.get_shape()) for each in slices if "F" in each.get_dtype())


def _fields(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_bytes()) if path.is_file() else {}
    return found
