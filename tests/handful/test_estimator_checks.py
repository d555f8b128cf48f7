"""scikit-learn's own checks of estimators.

Their data are numbers, and ``HandfulClassifier`` reads texts, so scikit-learn itself skips most of them, as it does for
its own ``CountVectorizer``. Here a subclass writes each row of numbers as a text, so that the checks reach the code.
"""

# ruff: noqa: N803, N806 - X is scikit-learn's name

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest
from sklearn.exceptions import SkipTestWarning
from sklearn.utils import Tags
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks
from sklearn.utils.validation import check_is_fitted, validate_data

from handful import HandfulClassifier, estimator
from handful.in_process import in_process_client


class RowsAsTexts(HandfulClassifier):
    """The estimator on rows of numbers, each written as a text."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fits on rows."""
        X, y = validate_data(self, X, y)
        return super().fit(_texts(X), y, sample_weight)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Appends rows."""
        X, y = validate_data(self, X, y, reset=not hasattr(self, "classes_"))
        return super().partial_fit(_texts(X), y, classes, sample_weight)

    def predict_proba(self, X: Any) -> Any:
        """Predicts rows."""
        check_is_fitted(self)
        return super().predict_proba(_texts(validate_data(self, X, reset=False)))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.one_d_array = False
        tags.input_tags.two_d_array = True
        tags.classifier_tags.poor_score = True  # the tests' encoder has random weights, and numbers are no words
        return tags


def _texts(rows: Any) -> list[str]:
    return [" ".join(f"{cell:.2f}" for cell in row) for row in rows]


EXPECTED_FAILURES: dict[str, str] = {}
"""Check -> the reason why it cannot hold."""


@pytest.fixture(autouse=True)
def tiny_by_default(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the tests' checkpoint where none is named, since checks make estimators without parameters."""
    monkeypatch.setattr(estimator, "in_process_client", lambda _: in_process_client(str(tiny_checkpoint)))


@pytest.mark.slow
@parametrize_with_checks([RowsAsTexts()], expected_failed_checks=lambda _: EXPECTED_FAILURES)
def test_the_checks_hold_on_rows_as_texts(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)


def test_the_checks_that_need_no_numbers_hold() -> None:
    with pytest.warns(SkipTestWarning, match="Can't test estimator"):
        check_estimator(HandfulClassifier())
