"""The answers of the HTTP API that are about tasks as files."""

from pydantic import BaseModel, Field, field_validator

from handful.wire import AdaptResponse

TASK_FILE_TYPE = "application/zip"
"""The content type of an exported task."""

_BEGIN = b"PK\x03\x04"


class ImportResponse(AdaptResponse):
    """The version that an import made."""

    losses: list[float] = Field(description="Those of `adapt` where it was adapted again; empty where it was not.")
    truncated: int = Field(description="As of `adapt` where it was adapted again; 0 where it was not.")
    readapted: bool = Field(
        description="Whether the version was adapted again on the file's examples; otherwise it has the file's weights."
    )


class TaskFile(BaseModel):
    """An exported task.

    Attributes:
        content: The bytes of the file.
    """

    content: bytes

    @field_validator("content")
    @classmethod
    def _is_a_file(cls, content: bytes) -> bytes:
        if not content.startswith(_BEGIN):
            raise ValueError("this is no exported task")
        return content
