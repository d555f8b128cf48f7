"""Tags of sentences by heads without them."""

import torch

from metalearn.body import MlpBody
from metalearn.learners import make_learner
from metalearn.meta_model import MetaModel
from metalearn.options import AdaptOptions
from metalearn.placement import HeadOnly
from metalearn.tokens.left_out import TaggedSentence, entities, tags_left_out


def test_heads_pause_between_the_steps_of_their_regression() -> None:
    model = MetaModel(MlpBody((4,)), HeadOnly(), make_learner("softmax_regression"))
    words = torch.eye(4)
    sentences = [TaggedSentence(words[[0, i]], ("O", "city")) for i in (1, 2, 3)]
    slow = model.initial_slow_weights(steps=0)
    slices = tags_left_out(model, slow, sentences, ("O", "city"), AdaptOptions(), default_steps=0)
    pauses = 0
    while True:
        try:
            next(slices)
            pauses += 1
        except StopIteration as done:
            found = done.value
            break
    assert pauses > 10 * len(sentences)
    assert [each.tags[0] for each in found] == [0, 0, 0]
    assert len(found) == 3


def test_entities_are_runs_of_one_label() -> None:
    assert entities(["O", "a", "a", "b", "O", "a"]) == {(1, 3, "a"), (3, 4, "b"), (5, 6, "a")}
    assert entities([]) == set()
