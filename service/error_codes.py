"""The codes of errors and warnings, with their causes and remedies. The documentation's tables are made of them."""

from collections.abc import Mapping
from typing import NamedTuple


class ErrorCode(NamedTuple):
    """An error as the documentation explains it.

    Attributes:
        status: HTTP status of the answer.
        cause: The fault.
        remedy: The next step of the caller or the operator.
    """

    status: int
    cause: str
    remedy: str


ERROR_CODES: Mapping[str, ErrorCode] = {
    # The protocol's
    "malformed_request": ErrorCode(400, "not HTTP/1.1 as RFC 9112 has it; the connection is closed", "send HTTP/1.1"),
    "https_on_http_port": ErrorCode(400, "TLS on the port of plain HTTP", "use `http://`, or the proxy that has TLS"),
    "method_not_allowed": ErrorCode(405, "the route has other methods", "use one that `Allow` lists"),
    "body_too_large": ErrorCode(413, "the body passes `max_body_bytes`", "send fewer examples or queries at once"),
    "unsupported_media_type": ErrorCode(415, "content type, coding or encoding", "send JSON in UTF-8"),
    "request_header_fields_too_large": ErrorCode(431, "more than 64 KiB of headers", "send fewer headers"),
    "http_version_not_supported": ErrorCode(505, "another version than HTTP/1.1", "send HTTP/1.1"),
    "not_found": ErrorCode(404, "there is no such route", "see `/docs`"),
    # The key's
    "origin_refused": ErrorCode(403, "`/mcp`: a page of another origin", "call it from a program, or the same origin"),
    "unauthorized": ErrorCode(401, "no key, or an unknown one", "send `Authorization: Bearer KEY`"),
    # Of things that are not there
    "task_not_found": ErrorCode(404, "absent, expired, or another tenant's: the answers are the same", "adapt it"),
    "version_not_found": ErrorCode(404, "the task is there, the version is not", "list its versions"),
    "example_not_found": ErrorCode(404, "the newest version has no example with this id", "list its examples"),
    # Of the state of a task
    "stale_adapter": ErrorCode(
        409, "made from a checkpoint that is not loaded, and nothing can answer in its place", "readapt, or adapt"
    ),
    "readapt_refused": ErrorCode(409, "the new version would be worse", "readapt without `unless_worse`"),
    "support_not_kept": ErrorCode(409, "the version was made with `keep_support: false`", "adapt with the examples"),
    "version_conflict": ErrorCode(409, "another commit or a deletion came first", "send the request again"),
    "checkpoint_not_loaded": ErrorCode(409, "an imported file's checkpoint is not loaded", "import with `readapt`"),
    "example_needed": ErrorCode(409, "without the example nothing is left to adapt on", "add others first"),
    "newest_version": ErrorCode(409, "the newest version answers and cannot be removed alone", "adapt or roll back"),
    "kind_not_served": ErrorCode(409, "the API of this door has no answer for such a task", "use `/v1/tasks`"),
    # Of the content of a request
    "invalid_request": ErrorCode(422, "a field is missing, unknown or of the wrong form", "see `errors`"),
    "empty_support": ErrorCode(422, "neither examples nor descriptions", "give two classes"),
    "too_few_classes": ErrorCode(422, "fewer than two classes", "give examples of a second one"),
    "too_many_classes": ErrorCode(422, "more than `max_classes`", "merge or split, or raise the setting"),
    "too_many_examples": ErrorCode(422, "more than `max_support_examples`", "send fewer, or raise the setting"),
    "no_examples": ErrorCode(422, "a request to add examples has none", "give at least one"),
    "too_many_tokens": ErrorCode(422, "more than `max_deep_tokens`", "fewer or shorter examples"),
    "too_many_queries": ErrorCode(422, "more than `max_queries`", "send several requests"),
    "no_queries": ErrorCode(422, "a request to classify has no text", "give at least one"),
    "empty_text": ErrorCode(422, "white space, control or invisible characters alone", "give a text, or leave it out"),
    "text_pair_missing": ErrorCode(422, "a single text where the others are pairs", "give `text_pair`"),
    "text_pair_unexpected": ErrorCode(422, "a pair where the others are single texts", "leave `text_pair` out"),
    "empty_label": ErrorCode(422, "the label has no visible character", "name it; `null` means out of scope"),
    "label_too_long": ErrorCode(422, "more than `max_label_chars`", "shorten it, and describe it in `labels`"),
    "empty_description": ErrorCode(422, "a description in `labels` is empty", "write it, or leave it out"),
    "description_too_long": ErrorCode(422, "more than `max_description_chars`", "shorten it"),
    "duplicate_description": ErrorCode(422, "two keys of `labels` are one label", "keep one"),
    "duplicate_id": ErrorCode(422, "two examples have one id", "give another id, or none"),
    "duplicate_label": ErrorCode(422, "a label stands twice in `labels` or `order`", "give it once"),
    "duplicate_threshold": ErrorCode(422, "two thresholds of one label", "keep one"),
    "class_without_examples": ErrorCode(422, "a described class, where descriptions are not used", "give an example"),
    "mixed_kinds": ErrorCode(422, "examples of two forms in one task", "give all the same answer field"),
    "too_few_scores": ErrorCode(
        422, "all scores of a regression are equal, or equal as 32-bit numbers", "give examples with another score"
    ),
    "descriptions_unexpected": ErrorCode(422, "descriptions for a kind that uses none", "leave `labels` out"),
    "order_missing": ErrorCode(422, "an ordinal task whose labels are no numbers", "give `order`"),
    "order_unexpected": ErrorCode(422, "an order for a task that is not ordinal", "leave it out, or set `kind`"),
    "label_not_in_order": ErrorCode(422, "an example's label is not in `order`", "add it there"),
    "tags_unequal": ErrorCode(422, "not one tag for each token", "give as many tags as tokens"),
    "span_empty": ErrorCode(422, "a span ends where it begins", "`end` is the character after the last one"),
    "span_outside": ErrorCode(422, "a span ends outside the text", "count characters (code points) from 0"),
    "spans_overlap": ErrorCode(422, "two spans share a character", "keep one: a word has one label"),
    "label_reserved": ErrorCode(422, "the label `O` marks words without a label", "take another name"),
    "tokens_unexpected": ErrorCode(422, "a query of tokens for a task that tags no words", "send a text"),
    "option_unsupported": ErrorCode(422, "an option that this kind of task does not have yet", "leave it out"),
    "too_many_steps": ErrorCode(422, "more than `max_steps`", "ask for fewer"),
    "unknown_learner": ErrorCode(422, "there is no such learner", "take one that the detail names"),
    "unknown_checkpoint": ErrorCode(
        422, "the checkpoint is not loaded, or its name is not unique", "name a loaded one"
    ),
    "unsupported_objective": ErrorCode(422, "the learner cannot do this kind of task", "take another, or none"),
    "adaptation_diverged": ErrorCode(
        422,
        "the learning rate or the scores are too large for these examples",
        "the detail names which, and the remedy",
    ),
    "unknown_label": ErrorCode(422, "the task does not have the label", "check its spelling against the task's labels"),
    "unknown_answer_id": ErrorCode(422, "an id of another task or secret, or too old", "send the text"),
    "invalid_task_file": ErrorCode(422, "the file was altered, cut off, or is of a later release", "export it again"),
    "file_unreadable": ErrorCode(422, "no examples could be read", "the detail names line, fault and remedy"),
    "invalid_idempotency_key": ErrorCode(422, "not 1 to 255 characters", "send another key"),
    "idempotency_key_reused": ErrorCode(422, "the key was used with another request", "take a new key"),
    "task_needed": ErrorCode(
        422, "[a door](doors.md#which-task-answers): several tasks, and none is named", "name one"
    ),
    "text_too_long": ErrorCode(422, "a door: too long, and the request forbids to cut", "shorten it, or allow it"),
    # The server's
    "extra_missing": ErrorCode(
        501, "`/mcp`: the server is installed without `handful[mcp]`", "`pip install 'handful[mcp]'`"
    ),
    "adapter_corrupt": ErrorCode(500, "the stored version is damaged", "roll back, or adapt again"),
    "internal_error": ErrorCode(500, "an error of the server", "its log has it under `X-Request-Id`"),
    "server_busy": ErrorCode(503, "queue full, or too many requests at once", "wait for `Retry-After`"),
    "server_stopping": ErrorCode(503, "it stops, or its compute thread has", "retry on another replica"),
    "store_unavailable": ErrorCode(503, "the store does not answer", "wait for `Retry-After`"),
    "store_full": ErrorCode(503, "the store has no room left", "the operator makes room"),
    "store_emptied": ErrorCode(
        503, "the store has [lost its data](operations.md#the-store-has-lost-its-data)", "the operator brings it back"
    ),
}
"""Code -> the error. 499 ``client_closed_request``, which no client reads, is left out."""

WARNING_CODES: Mapping[str, str] = {
    "labels_look_alike": "labels that differ by case, white space, word separators, Unicode form or invisible "
    "characters alone; a description without examples whose label is one character off a label that has examples",
    "contradicting_examples": "the same text under two labels or more. Case, white space and Unicode form do not count",
    "duplicate_examples": "the same text and label again",
    "few_examples": "classes with fewer than five examples",
    "spans_side_by_side": "two spans of one label without a word between them, which answers have as one",
    "truncated_text": "texts or descriptions that were cut",
    "unreadable_text": "texts or descriptions of which the encoder knows half of the tokens or fewer, such as a "
    "language that it has not learned, or emoji",
    "label_text_ignored": "the label texts classify the examples worse than chance and were given no weight, as where "
    "two labels are swapped",
}
"""Code -> the finding that a warning reports."""
