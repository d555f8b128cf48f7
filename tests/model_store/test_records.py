"""Stored records of this release and of others."""

import json
from dataclasses import replace

from metalearn.options import AdaptOptions
from metalearn.types import Example, SupportSet, TextInput
from model_store.digests import support_digests
from model_store.records import Version
from tests.model_store.conftest import new_version

OF_0_1_0 = b"""{"tenant":"acme","task":"bank","version":2,"adapter_id":"a1","labels":["card","fee"],"n_support":6,
"learner":"ridge","steps":0,"learning_rate":0.5,"use_label_text":false,"checkpoint":"97b2cd13","support_accuracy":1.0,
"size_bytes":7,"support_kept":true,"source":"readapt","copied_from":null,"created_at":1000.5,
"leave_one_out_accuracy":0.75,"steps_asked":3,"learner_asked":"ridge","seed":7}"""


def test_a_record_loads_as_it_was_written() -> None:
    options = AdaptOptions(steps=3, learning_rate=0.5, learner="ridge", use_label_text=False, seed=7)
    version = replace(new_version().version, options=options)
    assert Version.from_json(version.to_json()) == version


def test_a_record_of_the_release_before_loads() -> None:
    version = Version.from_json(OF_0_1_0)
    assert version.options == AdaptOptions(3, 0.5, "ridge", use_label_text=False, seed=7)
    assert (version.steps, version.learner, version.labels) == (0, "ridge", ("card", "fee"))
    assert version.support_digests is None


def test_a_record_of_this_release_has_all_that_the_release_before_reads() -> None:
    written = json.loads(Version.from_json(OF_0_1_0).to_json())
    assert written == {**written, **json.loads(OF_0_1_0)}


def test_a_record_from_before_options_were_recorded_has_their_defaults() -> None:
    stored = json.loads(OF_0_1_0)
    kept = {name: stored[name] for name in stored if name not in {"steps_asked", "learner_asked", "seed"}}
    assert Version.from_json(json.dumps(kept).encode()).options == AdaptOptions(None, 0.5, None, use_label_text=False)


def test_a_record_with_fields_of_a_newer_release_loads() -> None:
    version = new_version().version
    newer = json.dumps({**json.loads(version.to_json()), "brand_new": [1, 2]}).encode()
    assert Version.from_json(newer) == version


def test_digests_separate_examples_and_descriptions() -> None:
    inputs = (TextInput("a"), TextInput("b"), TextInput("a", "b"), TextInput("a", "c"))
    examples = tuple(Example(each, label) for each in inputs for label in ("x", "y"))
    support = SupportSet(examples, {"y": "a", "x": "b"})
    digests = support_digests(support)
    assert len(set(digests)) == len(examples) + 2
    assert support_digests(SupportSet(examples[::-1], {"x": "b", "y": "a"})) == (*digests[:8][::-1], *digests[8:])
    renamed = SupportSet(tuple(replace(example, id="given") for example in examples[:1]) + examples[1:])
    assert support_digests(renamed) == digests[:8], "an example's id is not its content"
