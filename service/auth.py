"""Key -> tenant. Keys are random, so a plain SHA-256 of one is as hard to turn back as the key is to guess."""

import asyncio
import hashlib
import logging
import secrets
import time
from contextvars import Context
from dataclasses import dataclass

from model_store.errors import StoreUnavailable
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
_MOST_AT_ONCE = 256
_STALE, _FRESH = 0.75, 0.25
"""Of ``cache_s``. A request with a key that was found longer ago than the first share has all keys looked up again that
were found longer ago than the second: few round trips do for all, and nobody waits for them."""
_FORGOTTEN_AFTER = 4
"""Times ``cache_s`` without a request, after which a key is not looked up until it is asked for."""


@dataclass(slots=True)
class _KnownKey:
    """What the store said of a key, when it was looked up, and when a request last came with it."""

    tenant: str
    found_at: float
    asked_at: float


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
        self._known: dict[str, _KnownKey] = {}  # the one found first stands first
        self._renewing: asyncio.Task[None] | None = None
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
        known = self._known.get(digest)
        if known is not None and now < known.found_at + self._cache_s:
            known.asked_at = now
            if now > known.found_at + _STALE * self._cache_s and self._renewing is None:
                # In a context of its own: what it does is not this request's
                self._renewing = asyncio.get_running_loop().create_task(self._renew(), context=Context())
            return known.tenant
        found = await self._access.tenant_of_key(digest)
        self._known.pop(digest, None)
        if found is None:
            raise _unauthorized("the API key is unknown: `handful keys create TENANT` makes one")
        self._known[digest] = _KnownKey(found, now, now)
        if len(self._known) > _MOST_KNOWN:
            del self._known[next(iter(self._known))]
        return found

    async def _renew(self) -> None:
        """Looks up all keys that are in use and were not found just now; where that fails they lapse."""
        try:
            found_before = time.monotonic() - _FRESH * self._cache_s
            while due := self._due(found_before):
                now = time.monotonic()
                tenants = await self._access.tenants_of_keys(list(due))
                for (digest, known), tenant in zip(due.items(), tenants, strict=True):
                    if self._known.get(digest) is not known:
                        continue  # a request has looked it up meanwhile
                    del self._known[digest]
                    if isinstance(tenant, str):
                        known.tenant, known.found_at = tenant, now
                        self._known[digest] = known
        except StoreUnavailable:
            pass
        finally:
            self._renewing = None

    def _due(self, found_before: float) -> dict[str, _KnownKey]:
        """Some of the keys to be looked up; forgets those that no request came with for long."""
        asked_after = time.monotonic() - _FORGOTTEN_AFTER * self._cache_s
        due: dict[str, _KnownKey] = {}
        forgotten: list[str] = []
        for digest, known in self._known.items():
            if known.found_at > found_before or len(due) == _MOST_AT_ONCE:
                break
            if known.asked_at > asked_after:
                due[digest] = known
            else:
                forgotten.append(digest)
        for digest in forgotten:
            del self._known[digest]
        return due

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
