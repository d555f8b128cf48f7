"""The marker of a Redis store, a key of its own in a slot of its own."""

from typing import Any

from model_store.records import StoreMarker

_KEY = "handful:store"


def read_marker(redis: Any) -> StoreMarker | None:
    """The marker; None where there is none."""
    found = redis.get(_KEY)
    return None if found is None else StoreMarker.from_json(found)


def write_first_marker(redis: Any) -> StoreMarker:
    """Writes a marker unless there is one, and returns the one that stands."""
    made = StoreMarker.new()
    while not redis.set(_KEY, made.to_json(), nx=True):
        found = read_marker(redis)
        if found is not None:
            return found
    return made


def accept_loss(redis: Any, lost_id: str) -> StoreMarker:
    """Lets this store stand in for a lost one; repeated where somebody else changes the marker meanwhile."""

    def change(pipeline: Any) -> StoreMarker:
        changed = (read_marker(pipeline) or StoreMarker.new()).replacing(lost_id)
        pipeline.multi()
        pipeline.set(_KEY, changed.to_json())
        return changed

    changed: StoreMarker = redis.transaction(change, _KEY, value_from_callable=True)
    return changed
