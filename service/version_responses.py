"""Stored records as the answers of the HTTP API."""

from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Any

from handful.wire import TaskResponse, VersionResponse
from model_store.records import TaskRecord, Version


def version_response(version: Version) -> VersionResponse:
    """The answer for one stored version."""
    return VersionResponse(**_version_fields(version))


def task_response(record: TaskRecord) -> TaskResponse:
    """The answer for a task and its newest version."""
    return TaskResponse(
        **_version_fields(record.current),
        task_created_at=_moment(record.created_at),
        expires_at=None if record.expires_at is None else _moment(record.expires_at),
    )


def _version_fields(version: Version) -> dict[str, Any]:
    names = {field.name for field in fields(Version)} & set(VersionResponse.model_fields) - {"created_at"}
    asked = asdict(version.options)
    return {
        # An answer's steps and learner are those of the version, and what was asked for stands under asked
        **{name: value for name, value in asked.items() if name in VersionResponse.model_fields},
        **{name: getattr(version, name) for name in names},
        "asked": asked,
        "labels": list(version.labels),
        "bytes": version.size_bytes,
        "created_at": _moment(version.created_at),
    }


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
