"""``Idempotency-Key``: the same key and body give the same answer; the answer is committed with the version itself."""

import hashlib
import json
from dataclasses import dataclass

from fastapi import Request
from pydantic import BaseModel
from starlette.responses import Response

from model_store.records import IdempotentAnswer
from service.errors import ApiError, FieldError
from service.routes.request import request_digest
from service.store_access import StoreAccess

_HEADER = "Idempotency-Key"
_MAX_CHARS = 255
_TTL_S = 24 * 3600


@dataclass(frozen=True, slots=True)
class IdempotentRequest:
    """A request that may have been answered before.

    Attributes:
        key: SHA-256 of the client's key, so that any key makes a safe name.
        digest: Of what was asked.
    """

    key: str
    digest: str

    @classmethod
    def of(cls, request: Request, body: BaseModel) -> "IdempotentRequest | None":
        """None where the client sent no key.

        Raises:
            ApiError: The key is empty or too long.
        """
        key = request.headers.get(_HEADER)
        if key is None:
            return None
        if not 0 < len(key) <= _MAX_CHARS:
            detail = f"an idempotency key has 1 to {_MAX_CHARS} characters"
            raise ApiError(422, "invalid_idempotency_key", detail, errors=[FieldError(f"header/{_HEADER}", detail)])
        return cls(hashlib.sha256(key.encode()).hexdigest(), request_digest(request, body))

    def answer(self, body: BaseModel) -> IdempotentAnswer:
        """What to commit together with the version."""
        kept = json.dumps({"digest": self.digest, "body": body.model_dump_json()})
        return IdempotentAnswer(self.key, kept.encode(), _TTL_S)

    def replay(self, kept: bytes) -> Response:
        """The former answer.

        Raises:
            ApiError: The key was used for another request.
        """
        record = json.loads(kept)
        if record["digest"] != self.digest:
            detail = "the key was used for another request: take a new key for a new request"
            raise ApiError(422, "idempotency_key_reused", detail, errors=[FieldError(f"header/{_HEADER}", detail)])
        return Response(record["body"], media_type="application/json", headers={"Idempotent-Replayed": "true"})


async def replayed(access: StoreAccess, tenant: str, request: IdempotentRequest | None) -> Response | None:
    """The former answer to a repeated request; None where it is new.

    Raises:
        ApiError: The key was used for another request.
    """
    if request is None:
        return None
    kept = await access.call(access.store.idempotent_answer, tenant, request.key)
    return None if kept is None else request.replay(kept)
