"""A version of a task as one file, to keep or to take to another server. docs/moving.md describes the file for users.

The file is a zip archive of ``manifest.json`` and the files that it lists with their SHA-256; see ``_Manifest``. It
holds what a store holds, byte for byte: the record, the adapter, the rows of the examples and the rest of the support
set. So a field that is added to one of them is exported as well. It names no tenant, and its bytes follow from the
version alone.

A digest finds damage and careless editing. It is no signature: whoever makes a file can make its digests. So a server
takes nothing from a file that it has not checked, and checks weights as it checks those of its store.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, Literal

import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model_store.codec import AdapterKey, ExampleRow, decode_rows, encode_rows, joined_adapter, split_adapter
from model_store.errors import AdapterCorrupt, TaskFileInvalid
from model_store.records import StoredSupport, Version
from model_store.stored_zip import NotStoredZip, unzipped, zipped

FORMAT: Final = "handful-task"
FORMAT_VERSION: Final = 1
MANIFEST = "manifest.json"
RECORD, ADAPTER, WEIGHTS = "record.json", "adapter.json", "adapter.safetensors"
EXAMPLES, SUPPORT = "examples.jsonl", "support.json"
_ALWAYS, _KEPT = {RECORD, ADAPTER, WEIGHTS}, {EXAMPLES, SUPPORT}
_IDENTITY = ("tenant", "task", "version", "adapter_id")
"""The fields of a record that are another one's on every server."""
_CALLER = ("asked_by", "request_id")
"""The fields that name who asked."""

_ALTERED = (
    "the file is not as it was exported: bytes of it were changed, cut off or added. Export the task again, and do not "
    "open and save the file in between"
)


class CheckpointName(BaseModel):
    """The checkpoint that made a version.

    Attributes:
        name: Its name; None where the exporting server had not loaded it.
        fingerprint: Its fingerprint.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    name: str | None
    fingerprint: str


class _Manifest(BaseModel):
    """``manifest.json``.

    Attributes:
        format: Names the format to people and programs.
        format_version: Version of the layout.
        task: The task's name where it was exported.
        version: The version's number there.
        checkpoint: The checkpoint that can use the weights.
        files: SHA-256 of each other file.
        digest: SHA-256 of the manifest without this field, and so of the whole.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    format: Literal["handful-task"] = FORMAT
    format_version: Literal[1] = FORMAT_VERSION
    task: str
    version: int = Field(ge=1, lt=2**63)
    checkpoint: CheckpointName
    files: dict[str, str]
    digest: str = ""

    def sealed(self) -> "_Manifest":
        """The manifest with its digest."""
        fields = self.model_dump(mode="json", exclude={"digest"})
        content = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        return self.model_copy(update={"digest": _digest(content.encode())})


@dataclass(frozen=True)
class TaskFile:
    """A version as a file holds it.

    Attributes:
        record: The version's record, without tenant and adapter id.
        checkpoint: The checkpoint that made it.
        adapter: The header of the adapter, in JSON, without its place in a store.
        weights: The fast weights, as safetensors.
        support: The support set as it is stored; None where it was not kept.
    """

    record: Version
    checkpoint: CheckpointName
    adapter: bytes
    weights: bytes
    support: StoredSupport | None

    def stored_adapter(self, key: AdapterKey) -> bytes:
        """The adapter as a store holds it under a key, for ``decode_adapter``, which checks it.

        Raises:
            AdapterCorrupt: Its header is no adapter's.
        """
        return joined_adapter(self.adapter, self.weights, key)

    @cached_property
    def examples(self) -> tuple[list[ExampleRow], Mapping[str, str]] | None:
        """The rows of the examples, and the descriptions of labels; None where the support set was not kept.

        Raises:
            TaskFileInvalid: They are damaged.
        """
        if self.support is None:
            return None
        try:
            return decode_rows(self.support)
        except AdapterCorrupt as error:
            raise TaskFileInvalid(f"the examples in the file cannot be read: {error}") from error


def pack_task(version: Version, adapter: bytes, support: StoredSupport | None, *, checkpoint_name: str | None) -> bytes:
    """A version as a file.

    Args:
        version: The record.
        adapter: The stored adapter.
        support: The stored support set, where it was kept.
        checkpoint_name: The name of the version's checkpoint, where it is known.

    Raises:
        AdapterCorrupt: The adapter or the support set is damaged, or not this version's.
    """
    key = AdapterKey(version.tenant, version.task, version.version, version.adapter_id)
    header, weights = split_adapter(adapter, key)
    record = {
        name: value for name, value in json.loads(version.to_json()).items() if name not in (*_IDENTITY, *_CALLER)
    }
    files = {RECORD: _json(record), ADAPTER: header, WEIGHTS: weights}
    if support is not None:
        rows, descriptions = decode_rows(support)  # what is damaged is not exported
        if not support.rest.startswith(b"{"):  # of a release that stored it in one piece
            support = encode_rows(rows, descriptions)
        files |= {EXAMPLES: b"".join(row + b"\n" for row in support.examples), SUPPORT: support.rest}
    manifest = _Manifest(
        task=version.task,
        version=version.version,
        checkpoint=CheckpointName(name=checkpoint_name, fingerprint=version.checkpoint),
        files={name: _digest(content) for name, content in files.items()},
    ).sealed()
    return zipped({MANIFEST: _json(manifest.model_dump(mode="json")), **files})


def unpack_task(data: bytes) -> TaskFile:
    """The version in a file.

    Raises:
        TaskFileInvalid: The file is another one, altered, or of a layout that this release does not know.
    """
    if not data.startswith(b"PK\x03\x04"):
        raise TaskFileInvalid("this is no file that `handful tasks export` or GET …/export has made")
    try:
        files = unzipped(data)
    except NotStoredZip:
        raise TaskFileInvalid(_ALTERED) from None
    if MANIFEST not in files:
        raise TaskFileInvalid(f"this is no exported task: the archive has no {MANIFEST}")
    manifest = _manifest(files.pop(MANIFEST))
    if files.keys() != manifest.files.keys() or any(_digest(files[name]) != manifest.files[name] for name in files):
        raise TaskFileInvalid(_ALTERED)
    if files.keys() not in (_ALWAYS, _ALWAYS | _KEPT):
        raise TaskFileInvalid(f"an exported task has other files than these: {', '.join(sorted(files))}")
    record = _record(files[RECORD], manifest)
    support = None
    if EXAMPLES in files:
        *rows, end = files[EXAMPLES].split(b"\n")
        if end or not files[SUPPORT].startswith(b"{"):
            raise TaskFileInvalid(_ALTERED)
        support = StoredSupport(tuple(rows), files[SUPPORT])
    return TaskFile(record, manifest.checkpoint, files[ADAPTER], files[WEIGHTS], support)


def _manifest(data: bytes) -> _Manifest:
    fields = _parsed(data, MANIFEST)
    if fields.get("format") != FORMAT:
        raise TaskFileInvalid(f"this is no exported task: its manifest does not say {FORMAT!r}")
    if fields.get("format_version") != FORMAT_VERSION:
        shown = str(fields.get("format_version"))[:20]
        raise TaskFileInvalid(
            f"the file has the format version {shown}, and this release of Handful reads version {FORMAT_VERSION}: "
            "import it with the release that exported it, or a later one"
        )
    try:
        manifest = _Manifest.model_validate(fields)
    except ValidationError as error:
        raise TaskFileInvalid(f"the file's {MANIFEST} is malformed: {_reason(error)}") from error
    if manifest.sealed() != manifest:
        raise TaskFileInvalid(_ALTERED)
    return manifest


def _record(data: bytes, manifest: _Manifest) -> Version:
    fields = _parsed(data, RECORD)
    identity = {"tenant": "", "task": manifest.task, "version": manifest.version, "adapter_id": ""}
    try:
        record = Version.from_json(json.dumps({**fields, **identity}).encode())
    except ValidationError as error:
        raise TaskFileInvalid(f"the file's {RECORD} is malformed: {_reason(error)}") from error
    unknown = fields.keys() - json.loads(record.to_json()).keys()
    if unknown:
        raise TaskFileInvalid(
            f"the version in the file has what this release of Handful does not know ({', '.join(sorted(unknown))}): "
            "import it with the release that exported it, or a later one"
        )
    if record.checkpoint != manifest.checkpoint.fingerprint:
        raise TaskFileInvalid(_ALTERED)
    return replace(record, support_kept=EXAMPLES in manifest.files)


def _parsed(data: bytes, name: str) -> dict[str, Any]:
    """The object in a JSON file; numbers are finite."""
    try:
        found = pydantic_core.from_json(data, allow_inf_nan=False)
        json.dumps(found, allow_nan=False)  # 1e999 is infinite, too
    except ValueError as error:
        raise TaskFileInvalid(f"the file's {name} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise TaskFileInvalid(f"the file's {name} holds no JSON object")
    return found


def _reason(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def _json(fields: Mapping[str, Any]) -> bytes:
    """Readable JSON that follows from the fields alone."""
    return json.dumps(fields, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
