"""The scikit-learn estimator: in this process, and on a server."""

import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import handful
from handful import Client, HandfulClassifier, HandfulError, NotFound
from handful.estimator import SupportSetWarning
from handful.in_process import in_process_client
from handful.text_columns import as_queries
from handful.wire import AdaptOptionFields
from tests.conftest import SUPPORT
from tests.light_install import ROOT
from tests.service.conftest import OTHER_SUPPORT
from tests.socket_server import SocketServer, socket_server
from tests.waiting import LIMIT_S

TEXTS = [example["text"] for example in (*SUPPORT, *OTHER_SUPPORT)]
LABELS = [example["label"] for example in (*SUPPORT, *OTHER_SUPPORT)]
QUERIES = ["where is my card", "a fee that I do not know", "boil an egg", "the plane to Rome"]


@pytest.fixture(scope="module")
def server(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SocketServer]:
    """A server on a socket."""
    with socket_server(tiny_checkpoint, f"sqlite:{tmp_path_factory.mktemp('store') / 'handful.db'}") as started:
        yield started


@pytest.fixture(params=["in-process", "server"])
def place(request: pytest.FixtureRequest, tiny_checkpoint: Path) -> dict[str, Any]:
    """The parameters of an estimator that computes here, and on a server."""
    if request.param == "in-process":
        return {"checkpoint": str(tiny_checkpoint)}
    return {"url": request.getfixturevalue("server").url}


def test_fit_and_predict(place: dict[str, Any]) -> None:
    classifier = HandfulClassifier(**place).fit(TEXTS, LABELS)
    assert classifier.classes_.tolist() == sorted(set(LABELS))
    shares = classifier.predict_proba(QUERIES)
    assert shares.shape == (len(QUERIES), len(set(LABELS)))
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert classifier.predict(QUERIES).tolist() == classifier.classes_[shares.argmax(axis=1)].tolist()
    assert classifier.score(TEXTS, LABELS) > 0.5
    assert classifier.answer_.n_support == len(TEXTS)
    assert classifier.fit(TEXTS, LABELS).predict_proba(QUERIES).tolist() == shares.tolist()


def test_it_answers_as_the_client_does(server: SocketServer) -> None:
    classifier = HandfulClassifier(url=server.url, task="as-client").fit(TEXTS, LABELS)
    with Client(server.url) as client:
        client.adapt("beside", zip(TEXTS, LABELS, strict=True))
        answers = client.predict("beside", QUERIES).predictions
        assert client.task("as-client").version == classifier.answer_.version
    assert classifier.predict(QUERIES).tolist() == [answer.label for answer in answers]
    shares = [[answer.scores[label] for label in classifier.classes_] for answer in answers]
    np.testing.assert_allclose(classifier.predict_proba(QUERIES), shares, atol=1e-5)


@pytest.mark.parametrize("targets", [range(5), [True, False], [-1, 1], [0.0, 1.0], ["b", "a"]], ids=str)
def test_classes_keep_their_type(targets: Any, place: dict[str, Any]) -> None:
    kinds = list(targets)
    y = np.asarray([kinds[i % len(kinds)] for i in range(len(TEXTS))])
    classifier = HandfulClassifier(**place).fit(TEXTS, y)
    assert classifier.classes_.tolist() == sorted(kinds)
    assert set(classifier.predict(QUERIES).tolist()) <= set(kinds)
    assert classifier.predict(QUERIES).dtype == y.dtype


class Frame:
    """A table as pandas and polars hand it to numpy, without either."""

    def __init__(self, *columns: list[str]) -> None:
        self._rows = np.asarray(list(zip(*columns, strict=True)), dtype=object)

    def __len__(self) -> int:
        return len(self._rows)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return self._rows if dtype is None else self._rows.astype(dtype)


PAIRS = [{"text": "a", "text_pair": "b"}, {"text": "c", "text_pair": "d"}]


@pytest.mark.parametrize(
    ("column", "queries"),
    [
        (["a", "b"], ["a", "b"]),
        (("a", "b"), ["a", "b"]),
        (np.asarray(["a", "b"]), ["a", "b"]),
        (np.asarray(["a", "b"], dtype=object), ["a", "b"]),
        (np.asarray([["a"], ["b"]]), ["a", "b"]),
        (iter(["a", "b"]), ["a", "b"]),
        (Frame(["a", "b"]), ["a", "b"]),
        (Frame(["a", "c"], ["b", "d"]), PAIRS),
        (np.asarray([["a", "b"], ["c", "d"]]), PAIRS),
        ([("a", "b"), ("c", "d")], PAIRS),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_forms_of_texts(column: Any, queries: list[Any]) -> None:
    found = as_queries(column)
    assert found == queries
    assert {type(text) for text in found} <= {str, dict}


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("a text", "not one text"),
        ([], "0 texts"),
        (np.zeros((3, 2)), r"X\[0\] is a float"),
        (["a", None], r"X\[1\] is a NoneType"),
        (["a", float("nan")], r"X\[1\] is a float"),
        (["a", b"b"], r"X\[1\] is a bytes"),
        (["a", " "], r"X\[1\] is an empty text"),
        ([("a", "b", "c")], r"shape \(1, 3\)"),
        ([("a", "b"), "c"], "X|shape"),
        (np.zeros((2, 2, 2)), r"shape \(2, 2, 2\)"),
        (5, "iterable|shape"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_column_of_texts_is_refused_with_its_place(column: Any, words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        as_queries(column)


def test_pairs_of_texts(place: dict[str, Any]) -> None:
    pairs = Frame(TEXTS, TEXTS[::-1])
    classifier = HandfulClassifier(**place).fit(pairs, LABELS)
    assert classifier.predict(pairs).shape == (len(TEXTS),)
    with pytest.raises(ValueError, match="pair"):
        classifier.predict(TEXTS)


def test_partial_fit_appends(place: dict[str, Any]) -> None:
    whole = HandfulClassifier(**place).fit(TEXTS, LABELS)
    parts = HandfulClassifier(**place)
    assert parts.partial_fit(TEXTS[:4], LABELS[:4]) is parts
    first = parts.predict_proba(QUERIES)
    parts.partial_fit(TEXTS[4:7], LABELS[4:7]).partial_fit(TEXTS[7:], LABELS[7:])
    assert parts.classes_.tolist() == whole.classes_.tolist()
    assert first.shape[1] == 2
    np.testing.assert_array_equal(parts.predict_proba(QUERIES), whole.predict_proba(QUERIES))
    assert parts.answer_.n_support == len(TEXTS)


def test_partial_fit_knows_the_classes_that_will_come(place: dict[str, Any]) -> None:
    y = np.unique(LABELS, return_inverse=True)[1]
    classifier = HandfulClassifier(**place).partial_fit(TEXTS[6:], y[6:], classes=range(5))
    assert classifier.classes_.tolist() == [0, 1, 2, 3, 4]
    shares = classifier.predict_proba(QUERIES)
    assert (shares > 0).any(axis=0).tolist() == [each in y[6:] for each in range(5)]
    classifier.partial_fit(TEXTS[:2], y[:2])
    assert classifier.predict_proba(QUERIES)[:, y[0]].all()
    with pytest.raises(ValueError, match="list of classes"):
        HandfulClassifier(**place).partial_fit(TEXTS, y, classes=[0, 1])


def test_a_weight_of_two_is_an_example_twice(place: dict[str, Any]) -> None:
    weights = [1 + (i % 2) for i in range(len(TEXTS))]
    weighted = HandfulClassifier(**place).fit(TEXTS, LABELS, sample_weight=weights)
    repeated = HandfulClassifier(**place).fit(np.repeat(TEXTS, weights), np.repeat(LABELS, weights))
    plain = HandfulClassifier(**place).fit(TEXTS, LABELS)
    np.testing.assert_allclose(weighted.predict_proba(QUERIES), repeated.predict_proba(QUERIES), atol=1e-4)
    assert np.abs(weighted.predict_proba(QUERIES) - plain.predict_proba(QUERIES)).max() > 1e-3


def test_a_copy_goes_its_own_way(place: dict[str, Any]) -> None:
    classifier = HandfulClassifier(**place).fit(TEXTS, LABELS)
    before = classifier.predict_proba(QUERIES)
    for copied in (lambda each: pickle.loads(pickle.dumps(each)), deepcopy):  # noqa: S301 - our own
        again = copied(classifier)
        np.testing.assert_array_equal(again.predict_proba(QUERIES), before)
        again.partial_fit(["a new class entirely"], ["new"])
        assert "new" in again.classes_
        np.testing.assert_array_equal(classifier.predict_proba(QUERIES), before)
        classifier.partial_fit(["a fee"], [LABELS[2]])
        before = classifier.predict_proba(QUERIES)
        assert "new" not in classifier.classes_


def test_a_task_that_ended_is_brought_back(server: SocketServer) -> None:
    classifier = HandfulClassifier(url=server.url).fit(TEXTS, LABELS)
    before = classifier.predict_proba(QUERIES)
    with Client(server.url) as client:
        client.delete(classifier._place[0])
        np.testing.assert_array_equal(classifier.predict_proba(QUERIES), before)
        client.delete(classifier._place[0])
        assert classifier.partial_fit(["more of it"], [LABELS[0]]).answer_.n_support == len(TEXTS) + 1
        assert client.task(classifier._place[0]).expires_at is not None


def test_a_named_task_is_the_servers(server: SocketServer) -> None:
    classifier = HandfulClassifier(url=server.url, task="mail").fit(TEXTS, LABELS)
    before = classifier.predict_proba(QUERIES)
    with Client(server.url) as client:
        client.adapt("mail", [("x", "one"), ("y", "two")])
        # The version that was fitted answers, whatever came later
        np.testing.assert_array_equal(classifier.predict_proba(QUERIES), before)
        again = pickle.loads(pickle.dumps(classifier))  # noqa: S301 - our own
        np.testing.assert_array_equal(again.predict_proba(QUERIES), before)
        # Appending builds on the newest one, with its labels
        classifier.partial_fit(["z"], ["three"])
        assert {"one", "two", "three"} <= set(classifier.classes_)
        assert classifier.predict(["x"]).shape == (1,)
        client.delete("mail")
        with pytest.raises(NotFound):
            classifier.predict(QUERIES)


def test_a_task_needs_a_server() -> None:
    with pytest.raises(ValueError, match="give the server's url"):
        HandfulClassifier(task="mail").fit(TEXTS, LABELS)


def test_descriptions_make_classes(place: dict[str, Any]) -> None:
    classifier = HandfulClassifier(**place, descriptions={"refund": "asks for money back"}).fit(TEXTS, LABELS)
    assert classifier.classes_.tolist() == sorted({*LABELS, "refund"})
    assert (classifier.predict_proba(QUERIES) > 0).all()


def test_what_the_server_refuses_is_a_value_error(place: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="steps"):
        HandfulClassifier(**place, steps=100_000).fit(TEXTS, LABELS)
    with pytest.raises(ValueError, match="one class alone"):
        HandfulClassifier(**place).fit(TEXTS, ["a"] * len(TEXTS))
    with pytest.raises(ValueError, match="white space"):
        HandfulClassifier(**place).fit(TEXTS[:2], ["a", "a "])
    with pytest.raises(ValueError, match="invisible"):
        HandfulClassifier(**place).fit(TEXTS[:2], ["a", "b\u200b"])
    with pytest.raises(ValueError, match="several types"):
        HandfulClassifier(**place, descriptions={"word": "a text"}).fit(TEXTS[:2], [1, 2])
    with pytest.raises(NotFittedError):
        HandfulClassifier(**place).predict(QUERIES)


def test_many_texts_are_asked_in_parts(place: dict[str, Any]) -> None:
    classifier = HandfulClassifier(**place).fit(TEXTS, LABELS)
    many = [f"{text} {i}" for i in range(70) for text in QUERIES]
    shares = classifier.predict_proba([*many, "x" * 8000])
    np.testing.assert_array_equal(shares[-1:], classifier.predict_proba(["x" * 8000]))
    np.testing.assert_array_equal(shares[250:280], classifier.predict_proba(many[250:280]))
    with pytest.raises(HandfulError) as caught:
        classifier.predict([*many, "\u200b"])
    assert caught.value.__notes__ == ["#/queries/0 is X[250]"]


def test_possible_mistakes_are_warnings(place: dict[str, Any]) -> None:
    with pytest.warns(SupportSetWarning, match="labels_look_alike"):
        HandfulClassifier(**place).fit(TEXTS[:4], ["card", "Card", "fee", "fee"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert HandfulClassifier(**place).fit(TEXTS, LABELS).answer_.warnings  # few_examples alone


def test_the_tools_of_scikit_learn_work(place: dict[str, Any]) -> None:
    texts, labels = TEXTS * 2, LABELS * 2
    search = GridSearchCV(HandfulClassifier(**place), {"steps": [0, 3]}, cv=2)
    search.fit(texts, labels)
    assert set(search.best_params_) == {"steps"}
    assert len(search.cv_results_["mean_test_score"]) == 2
    assert not np.isnan(search.cv_results_["mean_test_score"]).any()
    assert search.predict(QUERIES).shape == (len(QUERIES),)
    assert cross_val_score(HandfulClassifier(**place), texts, labels, cv=2).shape == (2,)
    lower = FunctionTransformer(lambda column: [text.lower() for text in column])
    pipeline = make_pipeline(lower, HandfulClassifier(**place)).fit(texts, labels)
    assert pipeline.set_params(handfulclassifier__steps=1).fit(texts, labels).predict(QUERIES).shape == (4,)
    assert pipeline[-1].answer_.steps == 1


def test_parameters() -> None:
    classifier = HandfulClassifier(url="http://127.0.0.1:9", steps=3, descriptions={"a": "b"})
    assert clone(classifier).get_params() == classifier.get_params()
    assert set(AdaptOptionFields.model_fields) <= set(classifier.get_params())
    assert "steps=3" in repr(classifier)
    assert classifier.set_params(steps=4).steps == 4


def test_a_key_of_the_environment_is_sent_and_not_kept(server: SocketServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDFUL_API_KEY", "secret-of-mine")
    classifier = HandfulClassifier(url=server.url)
    assert classifier._client()._server.key == "secret-of-mine"
    assert b"secret-of-mine" not in pickle.dumps(classifier)
    assert "secret-of-mine" not in repr(classifier)


def test_without_scikit_learn_the_error_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "handful.estimator")
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    with pytest.raises(ImportError, match=r"pip install 'handful\[sklearn\]'"):
        handful.HandfulClassifier  # noqa: B018


def test_without_the_server_part_the_error_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "service.settings", None)
    with pytest.raises(ImportError, match=r"pip install 'handful\[server\]', or name a running server by url="):
        in_process_client("a checkpoint that was not loaded before")


@pytest.mark.slow
def test_a_program_that_computes_in_its_process_ends(tiny_checkpoint: Path) -> None:
    script = f"""
import sys
from handful import HandfulClassifier
assert "torch" not in sys.modules
classifier = HandfulClassifier(checkpoint={str(tiny_checkpoint)!r})
print(classifier.fit(["a card", "a fee"], ["card", "fee"]).predict(["my card"]).shape)
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert (done.returncode, done.stdout, done.stderr) == (0, "(1,)\n", "")
