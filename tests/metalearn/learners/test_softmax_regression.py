"""Softmax regression by a fixed number of steps."""

import torch
from sklearn.linear_model import LogisticRegression

from metalearn.encoded_set import EncodedSet
from metalearn.fast_weights import HEAD_BIAS, HEAD_WEIGHT
from metalearn.learners.softmax_regression import SoftmaxRegression

C = torch.tensor(1.0)


def _words(seed: int = 0) -> EncodedSet:
    draw = torch.Generator().manual_seed(seed)
    centres = torch.randn(4, 12, generator=draw)
    targets = torch.randint(0, 4, (60,), generator=draw)
    features = torch.nn.functional.normalize(centres[targets] + 0.8 * torch.randn(60, 12, generator=draw), dim=1)
    return EncodedSet(features, targets, 0.5 + torch.rand(60, generator=draw), 4)


def test_it_answers_as_scikit_learn_does() -> None:
    words = _words()
    head = SoftmaxRegression().start({"log_c": C.log()}, words)
    theirs = LogisticRegression(C=float(C)).fit(words.features, words.targets, sample_weight=words.weights)
    ours = (words.features @ head[HEAD_WEIGHT].T + head[HEAD_BIAS]).softmax(dim=1)
    torch.testing.assert_close(ours.double(), torch.tensor(theirs.predict_proba(words.features)), atol=0.01, rtol=0)


def test_it_pauses_often_and_ends_with_the_same_bits() -> None:
    learner, words = SoftmaxRegression(), _words()
    slices, pauses = learner.start_slices({"log_c": C.log()}, words), 0
    while True:
        try:
            next(slices)
            pauses += 1
        except StopIteration as done:
            paused = done.value
            break
    assert pauses >= 10
    whole = learner.start({"log_c": C.log()}, words)
    assert all(torch.equal(paused[name], whole[name]) for name in whole)
