"""A typed client: ``from handful import Client``."""

from collections.abc import Iterator
from functools import partial
from typing import Unpack

from handful import calls
from handful.call_options import (
    AdaptOptions,
    ClassifyOptions,
    FileOptions,
    PredictOptions,
    ReadaptOptions,
    ReportOptions,
)
from handful.checkpoint_answers import CheckpointResponse
from handful.connection import Connection
from handful.forms import Examples, Queries, Query
from handful.report_answers import ReportResponse
from handful.wire import (
    AdaptResponse,
    ClassifyResponse,
    PredictResponse,
    TaskResponse,
    VersionResponse,
)
from handful.wire_examples import AddExamplesResponse, EraseResponse, StoredExample, VersionDetail, VersionDiff
from handful.wire_feedback import DriftResponse, FeedbackResponse
from handful.wire_moving import ImportResponse
from handful.wire_playground import MapResponse, ReadExamplesResponse
from handful.wire_readapt import ReadaptPreview, ReadaptResponse


class Client(Connection):
    """Talks to a Handful server; a context manager.

    A call is sent again when the server is busy or away, after the time of its ``Retry-After``. Writes have an
    idempotency key, so that a repeated write counts once. Errors are subclasses of ``HandfulError`` by meaning, such
    as ``NotFound``. Servers on this machine are reached without a proxy; for others the usual variables count
    (``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY``, ``NO_PROXY``, ``SSL_CERT_FILE``, ``SSL_CERT_DIR``).
    """

    def adapt(self, task: str, support: Examples, **options: Unpack[AdaptOptions]) -> AdaptResponse:
        """Adapts a task on exactly this support set.

        Args:
            task: The task's name.
            support: Examples: mappings with ``text``, ``label``, and where wanted ``text_pair``, ``id`` and
                ``weight``; pairs ``(text, label)``; or the texts of each label, ``{"billing": ["…", "…"]}``.
            options: Further fields of the request, such as ``steps``, ``ttl_seconds``, or ``checkpoint``: the name of
                a loaded checkpoint, or ``auto``.

        Raises:
            HandfulError: The server refused or is away.
            TypeError: The support set has another form.
        """
        return self._answer(calls.adapt(task, support, options))

    def predict(self, task: str, queries: Queries, **options: Unpack[PredictOptions]) -> PredictResponse:
        """Classifies texts.

        Args:
            task: The task's name.
            queries: One text or many; a pair of texts is ``{"text", "text_pair"}``.
            options: Further fields of the request, such as ``top_k`` or ``abstain``.

        Returns:
            A prediction for each query, in the queries' order; a single prediction for a single text.

        Raises:
            HandfulError: The server refused or is away.
            TypeError: The queries have another form.
        """
        return self._answer(calls.predict(task, queries, options))

    def classify(self, support: Examples, queries: Queries, **options: Unpack[ClassifyOptions]) -> ClassifyResponse:
        """Adapts and classifies at once; the server stores nothing.

        Args:
            support: Examples, as for ``adapt``.
            queries: Texts, as for ``predict``.
            options: Further fields of the request.

        Raises:
            HandfulError: The server refused or is away.
            TypeError: The support set or the queries have another form.
        """
        return self._answer(calls.classify(support, queries, options))

    def tasks(self) -> Iterator[TaskResponse]:
        """All tasks, by name, a page at a time.

        Raises:
            HandfulError: The server refused or is away.
        """
        for page in self._pages(calls.tasks):
            yield from page.tasks

    def task(self, task: str) -> TaskResponse:
        """One task.

        Raises:
            HandfulError: There is none, or the server is away.
        """
        return self._answer(calls.task(task))

    def versions(self, task: str) -> Iterator[VersionResponse]:
        """All versions, newest first, a page at a time.

        Raises:
            HandfulError: There is no such task, or the server is away.
        """
        for page in self._pages(partial(calls.versions, task)):
            yield from page.versions

    def version(self, task: str, version: int) -> VersionDetail:
        """One version of a task: who asked for it, when and with which options, and the digests of its examples.

        Raises:
            HandfulError: There is no such task or version, or the server is away.
        """
        return self._answer(calls.version(task, version))

    def rollback(self, task: str, version: int) -> VersionResponse:
        """Brings a version back under a new number.

        Raises:
            HandfulError: There is no such version, or the server is away.
        """
        return self._answer(calls.rollback(task, version))

    def readapt(self, task: str, **options: Unpack[ReadaptOptions]) -> ReadaptResponse:
        """Adapts a task again on its stored support set, from the server's default checkpoint unless another is named.

        Args:
            task: The task's name.
            options: Further fields of the request, such as ``version``, ``checkpoint`` or ``unless_worse``.

        Raises:
            HandfulError: There is no such task, its support set was not kept, or the server is away.
        """
        return self._answer(calls.readapt(task, options))

    def preview_readapt(
        self, task: str, *, version: int | None = None, checkpoint: str | None = None
    ) -> ReadaptPreview:
        """The version that a readapt would make, compared with the one that has the support set; stores nothing.

        Args:
            task: The task's name.
            version: The version whose support set to take; the newest by default.
            checkpoint: The checkpoint to adapt from; the server's default one by default.

        Raises:
            HandfulError: There is no such task, its support set was not kept, or the server is away.
        """
        return self._answer(calls.preview_readapt(task, version, checkpoint))

    def examples(
        self,
        task: str,
        *,
        label: str | None = None,
        source: str | None = None,
        state: str | None = None,
        text: str | None = None,
    ) -> Iterator[StoredExample]:
        """The examples of a task's newest version, by id, a page at a time.

        Args:
            task: The task's name.
            label: Those of this class.
            source: Those that this call brought: ``adapt``, ``examples`` or ``feedback``.
            state: Those in this state: ``adapted``, ``pending`` or ``outweighed``.
            text: Those with this in their text, whatever its case.

        Raises:
            HandfulError: There is no such task, its support set was not kept, or the server is away.
        """
        filters = {"label": label, "source": source, "state": state, "text": text}
        for page in self._pages(partial(calls.examples, task, filters)):
            yield from page.examples

    def add_examples(self, task: str, examples: Examples) -> AddExamplesResponse:
        """Appends examples to a task and adapts on all of them. Tried again where another commit came first.

        Args:
            task: The task's name.
            examples: Examples, as for ``adapt``; their labels may be new ones.

        Raises:
            HandfulError: There is no such task, its support set was not kept, or the server refused or is away.
            TypeError: The examples have another form.
        """
        return self._answer(calls.add_examples(task, examples))

    def erase_example(self, task: str, example_id: str) -> EraseResponse:
        """Adapts a task without an example and removes all that was derived from it. Tried again as ``add_examples``.

        Raises:
            HandfulError: There is no such example, nothing to adapt on would be left, or the server is away.
        """
        return self._answer(calls.erase_example(task, example_id))

    def feedback(
        self,
        task: str,
        label: calls.RightAnswer,
        *,
        text: Query | None = None,
        id: str | None = None,  # noqa: A002 - the field's name
        force: bool = False,
    ) -> FeedbackResponse:
        """Corrects an answer of a task: the text becomes an example, unless the task's other examples would suffer.

        Tried again as ``add_examples``.

        Args:
            task: The task's name.
            label: The right label, one of the task's; a list in a multi-label task, a number in a regression,
                ``{"spans": […]}`` or, with tokens, ``{"tags": […]}`` where words are tagged.
            text: The text; a pair of texts is ``{"text", "text_pair"}``, tokens are ``{"tokens"}``.
            id: In place of the text, the id of its prediction, which ``predict`` gives with ``ids=True``.
            force: Adapt on the example also where the check fails, or where the task has it already.

        Raises:
            HandfulError: There is no such task or label, its support set was not kept, or the server is away.
            TypeError: Neither the text nor an id is given, or both are.
        """
        return self._answer(calls.feedback(task, label, text, id, force=force))

    def drift(self, task: str) -> DriftResponse:
        """The differences of a task's recent queries from its examples, and from earlier queries.

        Raises:
            HandfulError: There is no such task, or the server is away.
        """
        return self._answer(calls.drift(task))

    def diff_versions(self, task: str, version: int, other: int) -> VersionDiff:
        """The examples and labels that a version has and another one lacks, and the other way round.

        Raises:
            HandfulError: There is no such task or version, the examples of one were not kept, or the server is away.
        """
        return self._answer(calls.diff_versions(task, version, other))

    def map_task(
        self, task: str, queries: Queries = (), *, version: int | None = None, examples: bool = True
    ) -> MapResponse:
        """The places of a task's examples, and of texts, on a plane where similar texts are near each other.

        Args:
            task: The task's name.
            queries: Texts to place among the examples.
            version: The newest version where it is None.
            examples: Whether the answer has the examples.

        Raises:
            HandfulError: There is no such task, its support set was not kept, or the server is away.
            TypeError: The queries have another form.
        """
        return self._answer(calls.map_task(task, queries, version, examples=examples))

    def read_examples(self, content: bytes, name: str = "", **options: Unpack[FileOptions]) -> ReadExamplesResponse:
        """Reads labelled examples from a file as the command line does; stores nothing.

        Args:
            content: The bytes of the file.
            name: The file's name, whose ending tells the format.
            options: ``text_column``, ``label_column``, ``delimiter`` and ``encoding``, where the guess is wrong.

        Raises:
            HandfulError: The file cannot be read, or the server refused or is away.
        """
        return self._answer(calls.read_examples(content, name, options))

    def delete_version(self, task: str, version: int) -> None:
        """Removes a version that is not the newest.

        Raises:
            HandfulError: There is no such version, it is the newest, or the server is away.
        """
        self._answer(calls.delete_version(task, version))

    def export_task(self, task: str, version: int | None = None) -> bytes:
        """A version of a task as one file, which holds its weights and, where they were kept, its examples.

        Args:
            task: The task's name.
            version: The newest version where it is None.

        Raises:
            HandfulError: There is no such task or version, or the server is away.
        """
        return self._answer(calls.export_task(task, version)).content

    def import_task(
        self, task: str, content: bytes, *, readapt: bool = False, ttl_seconds: int | None = None
    ) -> ImportResponse:
        """Makes the version in a file the newest version of a task.

        Args:
            task: The task's name.
            content: The bytes of the file, as ``export_task`` gave them.
            readapt: Adapt on the file's examples where the server has not loaded the checkpoint that made it.
            ttl_seconds: The task's time to live; None for no limit.

        Raises:
            HandfulError: The file was altered, its checkpoint is not loaded, or the server refused or is away.
        """
        return self._answer(calls.import_task(task, content, readapt=readapt, ttl_seconds=ttl_seconds))

    def report(self, task: str, unlabelled: Queries | None = None, **options: Unpack[ReportOptions]) -> ReportResponse:
        """Reports on a task: how accurate it is on new texts, which labels may be wrong, and what to do next.

        Args:
            task: The task's name.
            unlabelled: Texts to choose the next to label from.
            options: Further fields of the request: ``version``, and ``next`` for the number of texts to choose.

        Raises:
            HandfulError: There is no such task, its support set was not kept, or the server is away.
            TypeError: The texts have another form.
        """
        return self._answer(calls.report(task, unlabelled, options))

    def delete(self, task: str) -> None:
        """Removes a task with all it has.

        Raises:
            HandfulError: There is none, or the server is away.
        """
        self._answer(calls.delete(task))

    def checkpoint(self) -> CheckpointResponse:
        """The server's default checkpoint.

        Raises:
            HandfulError: The server refused or is away.
        """
        return self._answer(calls.checkpoint())

    def checkpoints(self) -> list[CheckpointResponse]:
        """All checkpoints that the server has loaded, the default one first.

        Raises:
            HandfulError: The server refused or is away.
        """
        return self._answer(calls.checkpoints()).checkpoints
