"""What a call to a server can end in."""

from collections.abc import Mapping, Sequence


class HandfulError(Exception):
    """The server refused, or could not be reached.

    Attributes:
        status: HTTP status; 0 where there was no answer.
        code: Stable reason, such as ``task_not_found``.
        errors: Parts of the request at fault: pointer and detail of each.
        request_id: Finds the request in the server's log.
    """

    def __init__(
        self, detail: str, *, status: int, code: str, errors: Sequence[Mapping[str, str]] = (), request_id: str = ""
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.errors = errors
        self.request_id = request_id
