"""The error of a call to a server."""

from collections.abc import Mapping, Sequence


class HandfulError(Exception):
    """The server refused, or could not be reached.

    Attributes:
        status: The HTTP status; 0 where there was no answer.
        code: A stable reason, such as ``task_not_found``.
        errors: The pointer and the detail of each part of the request at fault.
        request_id: The id of the request in the server's log.
    """

    def __init__(
        self, detail: str, *, status: int, code: str, errors: Sequence[Mapping[str, str]] = (), request_id: str = ""
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.errors = errors
        self.request_id = request_id
