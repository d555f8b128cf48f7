"""Key -> tenant. Keys are random, so a plain SHA-256 of one is as hard to turn back as the key is to guess."""

import hashlib
import logging
import secrets
import time

from model_store.records import ApiKeyRecord
from service.errors import ApiError, FieldError
from service.store_access import StoreAccess

log = logging.getLogger("handful")

OPEN_TENANT = "default"
_PREFIX = "handful_"
_HINT_CHARS = len(_PREFIX) + 4


def new_key(tenant: str) -> tuple[str, ApiKeyRecord]:
    """A fresh key, to be shown once, and what is stored of it."""
    key = _PREFIX + secrets.token_urlsafe(32)
    return key, ApiKeyRecord(key_digest(key), tenant, key[:_HINT_CHARS], time.time())


def key_digest(key: str) -> str:
    """What is stored in place of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


_MOST_KNOWN = 20_000
"""Keys that are remembered; some 8 MB of them. Others are looked up again."""


class Authenticator:
    """Finds the tenant of a request. Lives on the event loop.

    As long as the store holds no key at all, and where the server may be open, everybody is the tenant ``default``.
    Once a key was seen the server stays closed, even if the store should lose its keys.
    """

    def __init__(self, access: StoreAccess, *, may_be_open: bool, trusted: bool, cache_s: float) -> None:
        """Prepares an authenticator.

        Args:
            access: Where the keys are.
            may_be_open: Whether to answer without a key while there is none.
            trusted: Whether whoever asks is let in: for a caller in the same process, who could read the store itself.
            cache_s: How long a key that was found, or that there is none, is believed.
        """
        self._access = access
        self._may_be_open = may_be_open
        self._trusted = trusted
        self._cache_s = cache_s
        self._known: dict[str, tuple[str, float]] = {}
        self._open_until = 0.0

    async def tenant(self, authorization: str | None) -> str:
        """The tenant that an Authorization header speaks for.

        Raises:
            ApiError: 401, the key is missing or unknown.
            StoreUnavailable: The store does not answer.
        """
        now = time.monotonic()
        if await self._is_open(now):
            return OPEN_TENANT
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise _unauthorized("send your API key as: Authorization: Bearer KEY")
        digest = key_digest(key.strip())
        tenant, until = self._known.get(digest, ("", 0.0))
        if now < until:
            return tenant
        found = await self._access.tenant_of_key(digest)
        if found is None:
            self._known.pop(digest, None)
            raise _unauthorized("the API key is unknown: `handful keys create TENANT` makes one")
        self._known.pop(digest, None)  # so that the one found last stands last
        self._known[digest] = (found, now + self._cache_s)
        if len(self._known) > _MOST_KNOWN:
            del self._known[next(iter(self._known))]
        return found

    async def _is_open(self, now: float) -> bool:
        if self._trusted:
            return True
        if not self._may_be_open:
            return False
        if now < self._open_until:
            return True
        if await self._access.call(self._access.store.has_keys):
            log.info("an API key exists: requests need one from now on")
            self._may_be_open = False
            return False
        self._open_until = now + self._cache_s
        return True


def _unauthorized(detail: str) -> ApiError:
    return ApiError(
        401,
        "unauthorized",
        detail,
        errors=[FieldError("header/Authorization", detail)],
        headers={"WWW-Authenticate": "Bearer"},
    )
