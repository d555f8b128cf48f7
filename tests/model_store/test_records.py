"""Stored records of other releases."""

import json

from model_store.records import Version
from tests.model_store.conftest import new_version

NEW_FIELDS = ("steps_asked", "learner_asked", "seed")


def test_a_record_from_before_a_field_was_added_loads() -> None:
    stored = json.loads(new_version().version.to_json())
    old = Version.from_json(json.dumps({name: stored[name] for name in stored if name not in NEW_FIELDS}).encode())
    assert (old.steps_asked, old.learner_asked, old.seed) == (None, None, 0)
    assert old == Version(**{**stored, "labels": tuple(stored["labels"])})


def test_a_record_with_fields_of_a_newer_release_loads() -> None:
    version = new_version().version
    newer = json.dumps({**json.loads(version.to_json()), "brand_new": [1, 2]}).encode()
    assert Version.from_json(newer) == version
