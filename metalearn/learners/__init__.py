"""The learner families, behind one interface and one registry."""

from collections.abc import Callable, Mapping

from metalearn.errors import InvalidModel, UnknownLearner
from metalearn.learners import attention, closed_form, memory, metric, optimization, ridge_cv, softmax_regression
from metalearn.learners.interface import Learner, LearnerOptions

LEARNERS: Mapping[str, Callable[[LearnerOptions], Learner]] = {
    "maml": optimization.maml,
    "fomaml": optimization.first_order_maml,
    "reptile": optimization.reptile,
    "anil": optimization.anil,
    "metasgd": optimization.meta_sgd,
    "protomaml": optimization.proto_maml,
    "prototypical": lambda _: metric.Prototypical(),
    "prototypical_cosine": lambda _: metric.PrototypicalCosine(),
    "matching": lambda _: metric.Matching(),
    "ridge": lambda _: closed_form.Ridge(),
    "ridge_cv": lambda _: ridge_cv.RidgeCV(),
    "softmax_regression": lambda _: softmax_regression.SoftmaxRegression(),
    "memory": lambda _: memory.Memory(),
    "attention": lambda _: attention.Attention(),
}
"""Learners by name. A learner that descends on nothing ignores the options."""


def make_learner(name: str, options: LearnerOptions | None = None) -> Learner:
    """The learner registered as ``name``.

    Raises:
        UnknownLearner: There is none; the message lists those that there are.
        UnknownUpdateRule: The options name an update rule that does not exist.
        InvalidModel: Options were given that the learner has no use for.
    """
    if name not in LEARNERS:
        raise UnknownLearner(f"there is no learner {name[:64]!r}; there are: {', '.join(sorted(LEARNERS))}")
    learner = LEARNERS[name](options or LearnerOptions())
    if not learner.descends and options is not None and options != LearnerOptions():
        raise InvalidModel(f"the learner {name} takes no inner steps: rates, update rule and order mean nothing to it")
    return learner
