"""Idempotency keys: the same key and body give the same answer, which is committed with the version itself."""

import json
from dataclasses import dataclass

from pydantic import BaseModel

from model_store.records import IdempotentAnswer
from service.store_access import StoreAccess
from service.tasks.errors import IdempotencyKeyReused

_TTL_S = 24 * 3600


@dataclass(frozen=True, slots=True)
class Committed:
    """The answer to a request that makes a version.

    Attributes:
        json: The wire model as text, since a repeated request gets the former answer byte for byte.
        replayed: Whether the answer is a former one.
    """

    json: str
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class IdempotentRequest:
    """A request that may have been answered before.

    Attributes:
        key: The SHA-256 of the client's key, so that any key makes a safe name.
        digest: The digest of the request.
    """

    key: str
    digest: str

    def kept(self, body: BaseModel) -> IdempotentAnswer:
        """The answer as it is committed together with the version."""
        kept = json.dumps({"digest": self.digest, "body": body.model_dump_json()})
        return IdempotentAnswer(self.key, kept.encode(), _TTL_S)

    def replay(self, kept: bytes) -> Committed:
        """The former answer.

        Raises:
            IdempotencyKeyReused: The stored answer belongs to another request.
        """
        record = json.loads(kept)
        if record["digest"] != self.digest:
            raise IdempotencyKeyReused
        return Committed(record["body"], replayed=True)


async def former_answer(access: StoreAccess, tenant: str, request: IdempotentRequest | None) -> Committed | None:
    """The former answer to a repeated request; None for a new one.

    Raises:
        IdempotencyKeyReused: The key came with another request.
        StoreUnavailable: The store does not answer.
    """
    if request is None:
        return None
    kept = await access.call(access.store.idempotent_answer, tenant, request.key)
    return None if kept is None else request.replay(kept)
