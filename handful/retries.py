"""The rules by which the clients send a call again."""

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from handful.calls import Call
from handful.network import is_permanent

_BACKOFF_S = 0.5
_RACES = 50
"""Most attempts of a call that builds on the newest version, where others come first."""
_RACE_PAUSE_S = 0.5
_MAX_RETRY_AFTER_S = 60.0
_BUSY = frozenset({429, 502, 503, 504})
"""The statuses of a server, or of a proxy before it, that may answer later."""


@dataclass(frozen=True, slots=True)
class Retries:
    """The rules by which a client sends a call again.

    Attributes:
        most: How often a call is sent again where the server is busy or away; 0 for never.
    """

    most: int = 2

    def pause_after_error_s(self, call: Call[Any], error: httpx.TransportError, attempt: int) -> float | None:
        """The pause before a retry when no answer came; None for no retry.

        Args:
            call: The call.
            error: The reason why no answer came.
            attempt: The number of attempts so far.
        """
        # A DELETE that was carried out but not answered would find nothing the second time
        if attempt > self.most or call.method == "DELETE" or is_permanent(error):
            return None
        return _backoff_s(attempt)

    def pause_after_response_s(self, call: Call[Any], response: httpx.Response, attempt: int) -> float | None:
        """The pause before a retry when the server is busy or another commit came first; None for an answer.

        Args:
            call: The call.
            response: The server's response.
            attempt: The number of attempts so far.
        """
        if call.builds_on_newest and response.status_code == httpx.codes.CONFLICT:
            if not self.most or attempt >= _RACES or _code(response) != "version_conflict":
                return None
            return random.uniform(0, _RACE_PAUSE_S)  # noqa: S311 - so that those who collided part
        if attempt > self.most or response.status_code not in _BUSY:
            return None
        if call.method == "DELETE" and response.status_code in {502, 504}:  # carried out or not: the proxy lost it
            return None
        wish_s = retry_after_s(response)
        if wish_s is None:
            return _backoff_s(attempt)
        # To ask before the time would only add to the load; to wait for longer is the caller's decision
        return wish_s if wish_s <= _MAX_RETRY_AFTER_S else None


def retry_after_s(response: httpx.Response) -> float | None:
    """The wish in a response's ``Retry-After``: seconds, or a date. None where there is none to be read.

    Source: RFC 9110, section 10.2.3.
    """
    value = response.headers.get("Retry-After", "")
    try:
        wish_s = float(value)
    except ValueError:
        try:
            at = parsedate_to_datetime(value)
        except ValueError:
            return None
        wish_s = max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    return wish_s if wish_s >= 0 else None


def _backoff_s(attempt: int) -> float:
    """Twice as long after each attempt, and not the same for all whom the server lost at once."""
    return _BACKOFF_S * 2.0 ** (attempt - 1) * random.uniform(0.75, 1.25)  # noqa: S311


def _code(response: httpx.Response) -> str | None:
    try:
        return str(response.json()["code"])
    except (ValueError, KeyError, TypeError):  # a proxy's answer
        return None
