"""Key -> tenant. Keys are random, so a plain SHA-256 of one is as hard to turn back as the key is to guess."""

import asyncio
import contextlib
import hashlib
import logging
import math
import secrets
import time
from contextvars import Context
from dataclasses import dataclass

from model_store.errors import StoreUnavailable
from model_store.records import ApiKeyRecord
from service.store_access import StoreAccess

log = logging.getLogger("handful")

OPEN_TENANT = "default"
_PREFIX = "handful_"
_HINT_CHARS = len(_PREFIX) + 4


def new_key(tenant: str) -> tuple[str, ApiKeyRecord]:
    """A fresh key, to be shown once, and the record that is stored of it."""
    key = _PREFIX + secrets.token_urlsafe(32)
    return key, ApiKeyRecord(key_digest(key), tenant, key[:_HINT_CHARS], time.time())


def key_digest(key: str) -> str:
    """The digest that is stored in place of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def hint_of_key(authorization: str | None) -> str | None:
    """The first characters of the key in an Authorization header, as its record has them; None without a key."""
    key = (authorization or "").partition(" ")[2].strip()
    return key[:_HINT_CHARS] if key.startswith(_PREFIX) else None


_MOST_KNOWN = 20_000
"""Most keys in memory, some 8 MB. Other keys are looked up again."""
_LOOK_FOR_KEYS_EVERY_S = 1.0
"""Least seconds between two looks for a first key, so that refused callers do not load the store."""


class Unauthorized(Exception):
    """A key is missing or unknown; the message explains what to send."""


@dataclass(frozen=True, slots=True)
class _KnownKey:
    """The tenant of a key, and the time of the store's answer."""

    tenant: str
    found_at: float


class Authenticator:
    """Finds the tenant of a request. Lives on the event loop.

    As long as the store never held a key, and where the server may be open, callers without a key are the tenant
    ``default``. Once a key was seen the server stays closed, even if the store should lose its keys.
    """

    def __init__(
        self,
        access: StoreAccess,
        *,
        may_be_open: bool,
        trusted: bool,
        cache_s: float,
        stale_if_error_s: float = 0,
        how_to_make_a_key: str | None = None,
    ) -> None:
        """Prepares an authenticator.

        Args:
            access: The store of the keys.
            may_be_open: Whether to answer without a key while no key exists.
            trusted: Whether callers need no key: for a caller in the same process, who could read the store itself.
            cache_s: Seconds for which the store's answer on a key is reused.
            stale_if_error_s: Seconds for which that answer is reused while the store is away.
            how_to_make_a_key: The command that a refusal names while no key exists; None does not check for keys.
        """
        self._access = access
        self._may_be_open = may_be_open
        self._trusted = trusted
        self._cache_s = cache_s
        self._stale_if_error_s = stale_if_error_s
        self._how_to_make_a_key = how_to_make_a_key
        # Ordered by the time of the look-up. Keys stay here beyond ``cache_s``: they are of use while the store is away
        self._known: dict[str, _KnownKey] = {}
        self._found_open_at = -math.inf
        self._saw_keys = False
        self._noting: asyncio.Task[None] | None = None
        self._no_key = False
        self._looked_for_keys_at = -math.inf

    async def tenant(self, authorization: str | None) -> str:
        """The tenant of an Authorization header.

        Raises:
            Unauthorized: The key is missing or unknown.
            StoreUnavailable: The store does not answer.
        """
        now = time.monotonic()
        scheme, _, key = (authorization or "").partition(" ")
        key = key.strip()
        is_open = await self._is_open(now)
        # Checked also where no key is needed: a caller who sends a key expects to be its tenant
        if is_open and (self._trusted or scheme.lower() != "bearer"):
            return OPEN_TENANT
        if scheme.lower() != "bearer" or not key:
            raise await self._refusal(now, "send your API key as: Authorization: Bearer KEY")
        digest = key_digest(key)
        known = self._known.get(digest)
        if known is not None and now < known.found_at + self._cache_s:
            return known.tenant
        stale = known
        if not self._stale_if_error_s or stale is None or now > stale.found_at + self._stale_if_error_s:
            stale = None
        if stale is not None and self._access.state.trouble is not None:
            return stale.tenant
        try:
            found = await self._access.tenant_of_key(digest)
        except StoreUnavailable:
            if stale is None:
                raise
            return stale.tenant
        self._known.pop(digest, None)
        if found is None:
            detail = "the API key is unknown: `handful keys create TENANT` makes one"
            raise await self._refusal(now, detail, is_open=is_open)
        self._may_be_open, self._saw_keys = False, True
        self._known[digest] = _KnownKey(found, now)
        if len(self._known) > _MOST_KNOWN:
            del self._known[next(iter(self._known))]
        return found

    def store_replaced(self) -> None:
        """Forgets the keys of the former store. If callers needed a key, they need one with the new store, too."""
        self._known.clear()
        self._found_open_at = self._looked_for_keys_at = -math.inf
        if self._saw_keys:
            self._noting = asyncio.get_running_loop().create_task(self._note_keys_needed(), context=Context())

    async def _note_keys_needed(self) -> None:
        try:
            await self._access.call(self._access.store.set_needs_keys, True)
        except StoreUnavailable as error:
            log.error("store: it could not be noted that callers need a key: %s", error)

    async def _is_open(self, now: float) -> bool:
        if self._trusted or not self._may_be_open:
            return self._trusted
        if now < self._found_open_at + self._cache_s:
            return True
        stays_open = now < self._found_open_at + self._stale_if_error_s
        if stays_open and self._access.state.trouble is not None:
            return True
        try:
            await self._look_for_keys()
        except StoreUnavailable:
            if not stays_open:
                raise
        else:
            self._found_open_at = now
        return self._may_be_open

    async def _look_for_keys(self) -> None:
        """Requires keys from now on if a key exists or has existed."""
        store = self._access.store
        has_keys = await self._access.call(store.has_keys)
        if has_keys or await self._access.call(store.needs_keys):
            log.warning(
                "an API key exists: from now on every request needs one; callers without one get 401"
                if has_keys
                else "all API keys were revoked: every request is refused until there is one"
            )
            self._may_be_open, self._saw_keys = False, True

    async def _refusal(self, now: float, detail: str, *, is_open: bool = False) -> Unauthorized:
        """The refusal of a caller; where no key exists, the message names the command that makes one."""
        if is_open:
            return Unauthorized(f"{detail}; this server answers without a key, too: leave the header out")
        if self._how_to_make_a_key is None:
            return Unauthorized(detail)
        looked = now < self._looked_for_keys_at + max(self._cache_s, _LOOK_FOR_KEYS_EVERY_S)
        if not looked and self._access.state.trouble is None:
            self._looked_for_keys_at = now
            with contextlib.suppress(StoreUnavailable):
                self._no_key = not await self._access.call(self._access.store.has_keys)
        if self._no_key:
            detail = f"there is no API key, and this server needs one: `{self._how_to_make_a_key}` makes one"
        return Unauthorized(detail)
