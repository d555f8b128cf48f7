"""The limits on the content of a request, and the check of its parts."""

from collections.abc import Mapping, Sequence

from metalearn.types import TextInput
from service.settings import PREFIX, Settings
from service.tasks.errors import Fault, InvalidContent
from service.tasks.labels import is_blank


class LimitChecker:
    """Checks what a request holds against the settings' limits and collects every fault."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._faults: list[Fault] = []
        self._first_code = ""

    def fault(self, code: str, message: str, *path: str | int) -> None:
        """Notes a fault."""
        self._first_code = self._first_code or code
        self._faults.append(Fault(path, message))

    def text(self, text: str, *path: str | int) -> None:
        """Checks that a text has a visible character."""
        if is_blank(text):
            self.fault("empty_text", "the text is empty", *path)

    def pair(self, text: str, text_pair: str, *path: str | int) -> None:
        """Checks that both texts of a pair are present; one of them may consist of invisible characters."""
        if not text.strip():
            self.fault("empty_text", "the text is empty", *path, "text")
        if not text_pair.strip():
            detail = "the second text of the pair is empty: give it, or leave text_pair out of every text of the task"
            self.fault("empty_text", detail, *path, "text_pair")

    def input(self, text: str, text_pair: str | None, *path: str | int) -> None:
        """Checks the text or the pair of an object of the request."""
        if text_pair is None:
            self.text(text, *path, "text")
        else:
            self.pair(text, text_pair, *path)

    def label(self, label: str, *path: str | int) -> bool:
        """Checks that a label has a name of bounded length; returns whether it has."""
        if is_blank(label):
            self.fault("empty_label", "the label is empty: it has no visible character", *path)
            return False
        return self.limit("label_too_long", len(label), "max_label_chars", "characters", *path)

    def description(self, description: str, *path: str | int) -> None:
        """Checks that a description has a visible character and a bounded length."""
        if not description.strip():
            self.fault("empty_description", "the description is empty", *path)
        else:
            self.limit("description_too_long", len(description), "max_description_chars", "characters", *path)

    def limit(self, code: str, found: int, setting: str, what: str, *path: str | int) -> bool:
        """Checks a number against a setting's limit, which the message names; returns whether it is within it."""
        limit: int = getattr(self._settings, setting)
        if found > limit:
            self.fault(code, over_limit(found, limit, what, setting), *path)
        return found <= limit

    def raise_faults(self) -> None:
        """Raises ``InvalidContent`` where there was a fault; its code is the first fault's."""
        if self._faults:
            raise InvalidContent(self._first_code, self._faults)


def over_limit(found: int, limit: int, what: str, setting: str) -> str:
    """The message for a number above a limit, with the setting that raises the limit."""
    return f"{found} {what}; at most {limit} are allowed ({PREFIX}{setting.upper()} on the server raises this limit)"


def limits_of(settings: Settings) -> Mapping[str, int]:
    """The limits, as ``GET /v1/checkpoint`` shows them."""
    names = ("max_body_bytes", "max_support_examples", "max_classes", "max_queries", "max_text_chars",
             "max_label_chars", "max_description_chars", "max_steps", "max_deep_tokens",
             "max_kept_texts")  # fmt: skip
    return {name: getattr(settings, name) for name in names}


def shortened_inputs(inputs: Sequence[TextInput], limit: int) -> tuple[list[TextInput], frozenset[int]]:
    """Shortens texts that are too long; returns all texts, and the indices of the shortened ones."""
    kept, shortened = list(inputs), []
    for i, each in enumerate(inputs):
        texts = (each.text, each.text_pair or "")
        if max(map(len, texts)) <= limit:
            continue
        kept[i] = TextInput(without_middle(each.text, limit), each.text_pair and without_middle(each.text_pair, limit))
        if any(len(text.strip()) > limit for text in texts):
            shortened.append(i)
    return kept, frozenset(shortened)


def without_middle(text: str, limit: int) -> str:
    """The beginning and the end of a text that has more characters than the limit; a shorter text as it is.

    The middle is cut since a letter's request stands in its last sentence as often as in its first. White space at the
    ends is left out before.
    """
    if len(text) > limit:
        text = text.strip()
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 2
    return f"{text[: limit - 1 - tail]} {text[len(text) - tail :]}" if tail else text[:limit]
