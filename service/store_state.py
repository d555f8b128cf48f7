"""The state of the store: whether it is the known one, and whether it answers."""

import asyncio
import logging
from collections.abc import Callable

from prometheus_client import Gauge

from model_store.errors import StoreEmptied, StoreFull, StoreUnavailable
from model_store.records import StoreMarker

log = logging.getLogger("handful")


class StoreState:
    """Follows the store through outages. Lives on the event loop.

    Attributes:
        known_id: The id of the store that this server uses; None until a marker was seen.
        trouble: The error that makes the store unusable now; None while it is usable.
        troubled: Set while there is trouble.
    """

    def __init__(self, known_id: str | None, emptied: Gauge) -> None:
        """Prepares a state.

        Args:
            known_id: The id of the only store to accept; None accepts the first store that is seen.
            emptied: A gauge that is 1 while the store is not the known one.
        """
        self.known_id = known_id
        self.trouble: StoreUnavailable | None = None
        self.troubled = asyncio.Event()
        self._emptied = emptied
        self._when_replaced: list[Callable[[], None]] = []

    def when_replaced(self, act: Callable[[], None]) -> None:
        """Registers a call for the moment when an operator has accepted another store in place of the known one."""
        self._when_replaced.append(act)

    def raise_if_emptied(self) -> None:
        """Refuses to go on with the wrong store.

        Raises:
            StoreEmptied: The last marker was not the known store's.
        """
        if isinstance(self.trouble, StoreEmptied):
            # A new one each time: a traceback grows with each raise
            raise StoreEmptied(self.trouble.known_id, self.trouble.found_id)

    def answered(self) -> None:
        """Notes that the store answers. Only its marker shows whether it is the known one."""
        if self.trouble is not None and not isinstance(self.trouble, StoreEmptied):
            log.warning("store: it answers again")
            self._clear()

    def failed(self, error: StoreUnavailable) -> None:
        """Notes that the store does not answer."""
        if isinstance(error, StoreFull | StoreEmptied) or self.trouble is not None:
            return
        log.error("store: it does not answer: %s", error)
        self.trouble = error
        self.troubled.set()

    def judge(self, marker: StoreMarker | None) -> None:
        """Compares the store's marker with the known one.

        Raises:
            StoreEmptied: The store is not the known one, and no operator has accepted it in its place.
        """
        found_id = marker.store_id if marker else None
        if marker is None or (self.known_id not in {None, found_id} and self.known_id not in marker.replaces):
            error = StoreEmptied(self.known_id or "", found_id)
            if not isinstance(self.trouble, StoreEmptied):
                log.critical("store: it has lost its data or is another one: %s", error)
            self.trouble = error
            self.troubled.set()
            self._emptied.set(1)
            raise error
        if self.known_id is None:
            log.info("the store's id is %s: HANDFUL_STORE_ID=%s refuses any other one", found_id, found_id)
        elif self.known_id != found_id:
            log.warning("store: %s stands in for the lost store %s from now on", found_id, self.known_id)
            for act in self._when_replaced:
                act()
        self.known_id = found_id
        self._emptied.set(0)
        self._clear()

    def _clear(self) -> None:
        self.trouble = None
        self.troubled.clear()
