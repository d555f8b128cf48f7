"""The errors of checkpoints, records and stores."""

from collections.abc import Collection


class ModelStoreError(Exception):
    """Root of this package's errors."""


class CheckpointInvalid(ModelStoreError):
    """A checkpoint folder that is incomplete, altered, or made for another version of this program."""


class TrainingRunInvalid(ModelStoreError):
    """A folder of meta-training that cannot be begun in, or gone on with."""


class AdapterCorrupt(ModelStoreError):
    """Stored bytes that are not the adapter that was written, or not the one that was asked for."""


class TaskFileInvalid(ModelStoreError):
    """A file that is no exported task, was altered, or cannot be used here."""


class NotExportable(ModelStoreError):
    """A task that the format of another program cannot hold; the message has the reason and another way."""


class UnknownCheckpoint(ModelStoreError):
    """A name or fingerprint that is not that of one loaded checkpoint."""


class StaleAdapter(ModelStoreError):
    """An adapter made from a checkpoint that is not loaded.

    Attributes:
        made_from: Fingerprint of the checkpoint that the adapter was made from.
        task: Its task.
        version: Its version.
        advice: What to do; empty where the support set may be stored, and a readapt may do.
    """

    def __init__(self, made_from: str, loaded: Collection[str], *, task: str, version: int, advice: str = "") -> None:
        shown = ", ".join(fingerprint[:12] for fingerprint in loaded)
        super().__init__(
            f"version {version} of task {task!r} was made from checkpoint {made_from[:12]}, "
            f"loaded {'is' if len(loaded) == 1 else 'are'} {shown}"
        )
        self.made_from = made_from
        self.task = task
        self.version = version
        self.advice = advice


class StoreUnavailable(ModelStoreError):
    """The store does not answer, or refuses to write; nothing was committed as far as is known.

    Attributes:
        may_be_done: Whether a change was under way that the store may have made without an answer.
    """

    may_be_done = False


class StoreFull(StoreUnavailable):
    """The store answers and has no room for a write; reads still work."""


class StoreEmptied(StoreUnavailable):
    """The store answers, and is not the one that this program has used so far: its data was lost or exchanged.

    Attributes:
        known_id: Id of the store that was used so far.
        found_id: Id of the store that answers; None where it has none.
    """

    def __init__(self, known_id: str, found_id: str | None) -> None:
        found = "has no id: it was emptied, or is a new one" if found_id is None else f"is {found_id}"
        super().__init__(
            f"this server knows the store {known_id}, and the one that answers {found}. Bring the data back, or, if the"
            f" loss is meant, run `handful store accept {known_id}`"
        )
        self.known_id = known_id
        self.found_id = found_id


class StoreAbsent(StoreUnavailable):
    """There is no store where one was looked for; nothing was made."""


class VersionConflict(ModelStoreError):
    """Another commit came first.

    Attributes:
        current_version: The task's newest version now; 0 where the task does not exist.
    """

    def __init__(self, current_version: int) -> None:
        super().__init__(f"the task's newest version is {current_version} by now")
        self.current_version = current_version


class IdempotencyReplay(ModelStoreError):
    """The idempotency key was used before; nothing was committed.

    Attributes:
        answer: The answer under the key.
    """

    def __init__(self, answer: bytes) -> None:
        super().__init__("this idempotency key was used before")
        self.answer = answer
