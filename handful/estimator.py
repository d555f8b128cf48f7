"""A scikit-learn classifier of texts whose fit is an adaptation: ``from handful import HandfulClassifier``."""

import functools
import os
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from handful import environment
from handful.client import Client
from handful.errors import Invalid, NotFound
from handful.forms import Query
from handful.in_process import in_process_client
from handful.target_labels import label_names, label_of, labelled, union_of
from handful.text_columns import as_queries
from handful.wire import AdaptResponse

_TASK_SECONDS = 86_400
"""The time to live of a task that the estimator names itself. Where it is over, the estimator brings the task back."""

_BEST = "auto"
"""The checkpoint that stands for the best of all that are loaded."""

_USUAL_WARNING = "few_examples"
"""Few examples are what the estimator is for; ``answer_.warnings`` has this warning, too."""

_QUERIES_AT_ONCE = 250
_CHARS_AT_ONCE = 500_000

Answer = TypeVar("Answer")


class SupportSetWarning(UserWarning):
    """A possible mistake in the examples of a fit, such as two labels that look alike."""


class HandfulClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A few-shot text classifier; fitting it adapts a task of Handful on the texts and their classes.

    ``X`` is a list, an array or a column of texts, or two columns where pairs of texts are classified. ``y`` has one
    class for each: strings, whose words help, or numbers.

    Without ``url`` it computes in this process, which needs ``handful[server]``; the first fit loads the checkpoint.
    With ``url`` a server computes. Without ``task`` the server holds the fitted task under a random name for a day;
    the estimator has a copy of it, as has a pickle, and brings it back where it is gone.

    Args:
        url: The server's address; None to compute in this process.
        api_key: The API key; None for ``HANDFUL_API_KEY``, which neither ``repr`` nor a pickle shows.
        task: On a server, the name of the task that fitting makes a new version of. The estimator answers with that
            version, whatever versions come later.
        checkpoint: The checkpoint to adapt from. In this process a folder, or the name of a shipped one; on a server
            the name of a loaded one, or ``auto``.
        descriptions: Descriptions of classes. A class that stands only here starts from its description alone.
        steps: Inner steps; None for the checkpoint's own number.
        learning_rate: Inner learning rate of the head; None for the checkpoint's own.
        learner: Learner; None for the checkpoint's own.
        use_label_text: Whether the words of class names and descriptions count as a prior.
        seed: Seed of update rules that draw random numbers.
        timeout_s: The timeout of each call to a server.

    Attributes:
        classes_: The classes in order.
        answer_: The answer of the adaptation: its version, accuracy estimate and warnings.
    """

    classes_: NDArray[Any]
    answer_: AdaptResponse

    def __init__(
        self,
        *,
        url: str | None = None,
        api_key: str | None = None,
        task: str | None = None,
        checkpoint: str | None = None,
        descriptions: Mapping[Any, str] | None = None,
        steps: int | None = None,
        learning_rate: float | None = None,
        learner: str | None = None,
        use_label_text: bool = True,
        seed: int = 0,
        timeout_s: float = 120.0,
    ) -> None:
        self.url = url
        self.api_key = api_key
        self.task = task
        self.checkpoint = checkpoint
        self.descriptions = descriptions
        self.steps = steps
        self.learning_rate = learning_rate
        self.learner = learner
        self.use_label_text = use_label_text
        self.seed = seed
        self.timeout_s = timeout_s

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:  # noqa: N803
        """Adapts on exactly these examples.

        Args:
            X: ``n`` texts, or ``n`` pairs of texts in two columns.
            y: The class of each; two classes at least.
            sample_weight: How much each example counts, from 0 to 10; 2 does what giving it twice does.

        Raises:
            ValueError: The texts, the classes or an option cannot be used.
            HandfulError: The server refused or is away.
        """
        texts, targets, weights = self._checked(X, y, sample_weight)
        described = list(self.descriptions or ())
        counted = union_of(targets if weights is None else targets[weights > 0], described)
        if len(counted) < 2:
            raise ValueError(f"there are examples of one class alone, {counted.tolist()}: give some of another class")
        classes = union_of(targets, described)
        options = {
            "labels": {label_of(each): text for each, text in (self.descriptions or {}).items()} or None,
            "steps": self.steps,
            "learning_rate": self.learning_rate,
            "learner": self.learner,
            "use_label_text": self.use_label_text,
            "seed": self.seed,
            "checkpoint": self.checkpoint if self.url is not None or self.checkpoint == _BEST else None,
        }
        task = self.task
        if task is None:
            task = _new_name()
            options["ttl_seconds"] = _TASK_SECONDS
        elif self.url is None:
            raise ValueError("task names a task on a server: give the server's url, too, or leave task out")
        given: Any = {name: value for name, value in options.items() if value is not None}
        examples = labelled(texts, targets, weights)
        self._keep(self._client().adapt(task, examples, **given), task, classes, examples)
        return self

    def partial_fit(
        self,
        X: ArrayLike,  # noqa: N803
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Appends examples to those of the fit and adapts on all of them; the first call is a fit.

        The classes may be new ones. On a named task the examples are appended to those of its newest version.

        Args:
            X: Texts, or pairs of texts, as for ``fit``; of two classes at least in the first call.
            y: The class of each.
            classes: All classes that will come. One without an example yet has the probability 0.
            sample_weight: How much each example counts, as for ``fit``.

        Raises:
            ValueError: The texts or the classes cannot be used.
            HandfulError: The server refused or is away.
        """
        declared = [] if classes is None else np.asarray(classes).tolist()
        if declared and not set(np.asarray(y).ravel().tolist()) <= set(declared):
            raise ValueError("y has classes that are not in the list of classes")
        if not hasattr(self, "classes_"):
            HandfulClassifier.fit(self, X, y, sample_weight)
        else:
            texts, targets, weights = self._checked(X, y, sample_weight)
            examples = labelled(texts, targets, weights)
            answer, task = self._on_task(lambda client, task, _: (client.add_examples(task, examples), task))
            self._keep(answer, task, union_of(self.classes_, targets.tolist()), examples)
        self.classes_ = union_of(self.classes_, declared)
        label_names(self.classes_)
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:  # noqa: N803
        """The probability of each class for each text.

        Args:
            X: Texts, or pairs of texts, as for ``fit``.

        Returns:
            A row for each text, a column for each of ``classes_``.

        Raises:
            NotFittedError: It was not fitted.
            ValueError: The texts cannot be used.
            HandfulError: The server refused or is away, or the fitted version of a named task was removed.
        """
        check_is_fitted(self)
        texts = as_queries(X)
        column = {name: i for i, name in enumerate(label_names(self.classes_))}
        shares: NDArray[np.float64] = np.zeros((len(texts), len(column)))
        for start, part in _parts(texts):
            for i, scores in enumerate(self._scores(start, part), start):
                for label, share in scores.items():
                    shares[i, column[label]] = share
        shares /= shares.sum(axis=1, keepdims=True)  # scores are rounded
        return shares

    def predict(self, X: ArrayLike) -> NDArray[Any]:  # noqa: N803
        """The most probable class of each text; see ``predict_proba``."""
        best = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[best])

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        # Two columns are pairs of texts, but no check of scikit-learn has texts
        tags.input_tags.two_d_array = False
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """The state without the place of a task that the estimator named itself: a copy has a task of its own."""
        state: dict[str, Any] = super().__getstate__()
        return state | {"_place": None} if state.get("_file") else state

    def _checked(
        self, texts: ArrayLike, targets: ArrayLike, weights: ArrayLike | None
    ) -> tuple[list[Query], NDArray[Any], NDArray[Any] | None]:
        queries = as_queries(texts)
        checked = validate_data(self, y=targets)
        check_classification_targets(checked)
        check_consistent_length(queries, checked)
        counts = None if weights is None else _check_sample_weight(weights, queries, ensure_non_negative=True)
        return queries, checked, counts

    def _client(self) -> Client:
        if self.url is None:
            return in_process_client(None if self.checkpoint == _BEST else self.checkpoint)
        key = environment.value_of(environment.API_KEY) if self.api_key is None else self.api_key
        return _remote_client(self.url, key, self.timeout_s, os.getpid())

    def _keep(
        self, answer: AdaptResponse, task: str, classes: NDArray[Any], examples: Sequence[Mapping[str, Any]]
    ) -> None:
        """Makes the answer of an adaptation on some examples, or on more of them, the fitted state."""
        names = set(label_names(classes))
        lost = {example["label"] for example in examples}.difference(answer.labels)
        if lost:
            raise ValueError(f"classes have invisible characters at an end: {sorted(map(ascii, lost))}")
        others = sorted(set(answer.labels) - names)  # those that other clients of a named task added
        if others and not all(isinstance(each, str) for each in classes.tolist()):
            raise ValueError(f"the task {task} has labels that are no class of y: {', '.join(others)}")
        self.classes_ = union_of(classes, others)
        self.answer_ = answer
        self._place: tuple[str, int] | None = (task, answer.version)
        self._file = self._client().export_task(task, answer.version) if self.task is None else None
        for warning in answer.warnings:
            if warning.code != _USUAL_WARNING:
                warnings.warn(f"{warning.code}: {warning.detail}", SupportSetWarning, stacklevel=3)

    def _scores(self, start: int, part: list[Query]) -> list[dict[str, float]]:
        """The scores of some texts, by label."""
        try:
            answer = self._on_task(
                lambda client, task, version: client.predict(task, part, version=version, abstain=False)
            )
        except Invalid as error:
            if start:
                error.add_note(f"#/queries/0 is X[{start}]")
            raise
        return [prediction.scores for prediction in answer.predictions]

    def _on_task(self, call: Callable[[Client, str, int], Answer]) -> Answer:
        """What a call on the fitted version gives; brings a task back that the estimator has a copy of."""
        client = self._client()
        if self._place is not None:
            try:
                return call(client, *self._place)
            except NotFound as error:
                if self._file is None or error.code != "task_not_found":
                    raise
        task = _new_name()
        self._place = (task, client.import_task(task, self._file or b"", ttl_seconds=_TASK_SECONDS).version)
        return call(client, *self._place)


@functools.lru_cache(maxsize=16)
def _remote_client(url: str, key: str | None, timeout_s: float, _process: int) -> Client:
    """A client for all estimators of a server; connections cannot be pickled, and are no part of an estimator."""
    return Client(url, api_key=key, timeout_s=timeout_s)


def _new_name() -> str:
    return f"sklearn-{uuid.uuid4().hex}"


def _parts(texts: list[Query]) -> Iterator[tuple[int, list[Query]]]:
    """The queries of each request, with the number of those before."""
    start = chars = 0
    for i, text in enumerate(texts):
        length = len(text) if isinstance(text, str) else sum(map(len, text.values()))
        if i > start and (i - start >= _QUERIES_AT_ONCE or chars + length > _CHARS_AT_ONCE):
            yield start, texts[start:i]
            start, chars = i, 0
        chars += length
    yield start, texts[start:]
