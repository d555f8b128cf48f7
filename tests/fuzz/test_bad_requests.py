"""Bad requests, one by one: each gets a 4xx problem that names the culprit, and changes nothing."""

import json
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.conftest import SUPPORT
from tests.fuzz.conftest import LIMITS
from tests.waiting import LIMIT_S

ADAPT, PREDICT, CLASSIFY = "/v1/tasks/bank/adapt", "/v1/tasks/bank/predict", "/v1/classify"
ROLLBACK = "/v1/tasks/bank/rollback"
EXAMPLES = "/v1/tasks/bank/examples"
JSON = {"Content-Type": "application/json"}
MEGABYTE = b"x" * 2**20
MAX_ANSWER_BYTES = 5000
"""Most bytes of a problem, since a large value is not sent back."""

FIRST: dict[str, Any] = SUPPORT[0]
GOOD_BODIES: dict[str, dict[str, Any]] = {
    ADAPT: {"support": SUPPORT},
    PREDICT: {"queries": ["where is my card"]},
    CLASSIFY: {"support": SUPPORT, "queries": ["where is my card"]},
    ROLLBACK: {"version": 1},
    EXAMPLES: {"examples": SUPPORT},
}


@dataclass(frozen=True)
class Bad:
    """A request that has to be refused.

    Attributes:
        name: The test's name.
        path: The route and the query.
        body: The body as sent.
        pointer: The pointer to the fault.
        status: The status of the refusal.
        method: The HTTP method.
        headers: The headers of the request.
        code: The problem's code, where it is documented.
    """

    name: str
    path: str
    body: bytes | None
    pointer: str
    status: int = 422
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=lambda: dict(JSON))
    code: str | None = None


def with_field(path: str, name: str, value: object) -> bytes:
    """The good body of a route, with one field put in place."""
    return json.dumps({**GOOD_BODIES[path], name: value}).encode()


def raw_field(path: str, name: str, value: str) -> bytes:
    """The good body of a route, with one field as raw JSON that Python's ``json`` does not write."""
    rest = {key: good for key, good in GOOD_BODIES[path].items() if key != name}
    inner = json.dumps(rest)[1:-1]
    return f'{{"{name}": {value}{", " if inner else ""}{inner}}}'.encode()


def with_example(example: object, path: str = ADAPT) -> bytes:
    """The good body of a route, with another example in place of the second."""
    return with_field(path, "support", [FIRST, example, *SUPPORT[2:]])


def many_classes(n: int) -> list[dict[str, str]]:
    """A support set of ``n`` classes."""
    return [{"text": f"text {i}", "label": f"label {i}"} for i in range(n)]


def not_objects() -> Iterator[Bad]:
    """Bodies that are not JSON, or not an object."""
    bodies = {
        "empty": b"",
        "blank": b"  \n",
        "not-json": b"support=1",
        "cut": json.dumps(GOOD_BODIES[ADAPT]).encode()[:-1],
        "two-values": b"{}{}",
        "trailing-comma": b'{"support": [],}',
        "single-quotes": b"{'support': []}",
        "scalar": b"5",
        "string": b'"support"',
        "true": b"true",
        "null": b"null",
        "array": b"[]",
        "nan": b"NaN",
        "infinity": b"-Infinity",
        "huge-number": b"9" * 5000,
        "binary": bytes(range(256)),
        "invalid-utf8": b'{"support": [{"text": "\xff\xfe", "label": "a"}]}',
        "cut-utf8": b'{"support": [{"text": "\xe2\x82", "label": "a"}]}',
        "surrogate-as-utf8": b'{"support": [{"text": "\xed\xa0\x80", "label": "a"}]}',
        "utf16": json.dumps(GOOD_BODIES[ADAPT]).encode("utf-16"),
        "nul-bytes": b"\0" * 100,
        "gzip": b"\x1f\x8b\x08\x00" + b"\x00" * 40,
        "deep-arrays": b"[" * 50_000 + b"]" * 50_000,
        "deep-objects": b'{"support":' * 9_000 + b"1" + b"}" * 9_000,
        "deep-unclosed": b"[" * 100_000,
    }
    for name, body in bodies.items():
        yield Bad(f"adapt-body-{name}", ADAPT, body, "#")
    for name in ("empty", "null", "array", "nan", "binary", "deep-arrays"):
        yield Bad(f"predict-body-{name}", PREDICT, bodies[name], "#")
        yield Bad(f"classify-body-{name}", CLASSIFY, bodies[name], "#")
        yield Bad(f"rollback-body-{name}", ROLLBACK, bodies[name], "#")


def bad_json_values() -> Iterator[Bad]:
    """Values that FastAPI's own handling answers 500 to."""
    for path, name in (
        (ADAPT, "learning_rate"),
        (CLASSIFY, "learning_rate"),
        (PREDICT, "abstain"),
        (CLASSIFY, "abstain"),
    ):
        for value in ("1e999", "-1e999"):
            yield Bad(f"{name}-{value}-{path}", path, raw_field(path, name, value), f"#/{name}")
        for value in ("NaN", "Infinity", "-Infinity"):
            # Not JSON; a parser that reads them all the same has to refuse the field
            yield Bad(f"{name}-{value}-{path}", path, raw_field(path, name, value), f"#/{name}")
    surrogate = '"\\ud800"'
    yield Bad("surrogate-in-text", ADAPT, raw_field(ADAPT, "support", f'[{{"text": {surrogate}, "label": "a"}}]'), "#")
    yield Bad("surrogate-in-label", ADAPT, raw_field(ADAPT, "support", f'[{{"text": "a", "label": {surrogate}}}]'), "#")
    yield Bad("surrogate-in-key", ADAPT, raw_field(ADAPT, "\\ud800", "1"), "#")
    yield Bad("surrogate-in-label-key", ADAPT, raw_field(ADAPT, "labels", '{"\\udfff": "words"}'), "#")
    yield Bad("surrogate-in-query", PREDICT, raw_field(PREDICT, "queries", f"[{surrogate}]"), "#")
    yield Bad("reversed-surrogates", PREDICT, raw_field(PREDICT, "queries", '["\\ude00\\ud83d"]'), "#")
    huge = "1" + "0" * 400
    for path, name in ((ADAPT, "steps"), (ADAPT, "seed"), (ADAPT, "ttl_seconds"), (CLASSIFY, "steps")):
        yield Bad(f"huge-{name}-{path}", path, raw_field(path, name, huge), f"#/{name}")
        yield Bad(f"huge-negative-{name}-{path}", path, raw_field(path, name, "-" + huge), f"#/{name}")
    yield Bad("huge-learning-rate", ADAPT, raw_field(ADAPT, "learning_rate", huge), "#/learning_rate")
    yield Bad("tiny-learning-rate", ADAPT, raw_field(ADAPT, "learning_rate", "1e-400"), "#/learning_rate")
    yield Bad("seed-2**63", ADAPT, with_field(ADAPT, "seed", 2**63), "#/seed")
    yield Bad("deep-value", ADAPT, raw_field(ADAPT, "labels", '{"a":' * 9_000 + '""' + "}" * 9_000), "#")


def wrong_types() -> Iterator[Bad]:
    """A value of another type at every field of every body."""
    support_fields = {
        "support": (None, "text", 5, {}, True),
        "steps": ("5", 2.5, True, [], {}),
        "learning_rate": ("0.1", True, [], {}),
        "learner": (5, True, [], {}),
        "labels": ("a", 5, [], True),
        "use_label_text": (None, "true", 1, 0, []),
        "seed": (None, "1", 1.5, True, []),
    }
    query_fields = {
        "queries": (None, "text", 5, {}, True),
        "top_k": ("1", 1.5, True, []),
        "abstain": ("true", []),
    }
    fields: dict[str, dict[str, tuple[object, ...]]] = {
        ADAPT: {
            **support_fields,
            "keep_support": (None, "false", 0, []),
            "ttl_seconds": ("60", 1.5, True, []),
        },
        CLASSIFY: {**support_fields, **query_fields},
        PREDICT: {**query_fields, "version": ("1", 1.5, True, [])},
        ROLLBACK: {"version": (None, "1", 1.5, True, [], {})},
    }
    for path, values in fields.items():
        for name, wrong in values.items():
            for value in wrong:
                yield Bad(f"type-{name}-{json.dumps(value)}-{path}", path, with_field(path, name, value), f"#/{name}")
    for path in (PREDICT, CLASSIFY):
        yield Bad(f"type-threshold-{path}", path, with_field(path, "abstain", {"a": "0.5"}), "#/abstain/a")
    example_fields = {
        "text": (None, 5, True, [], {}),
        "label": (5, True, ["a"], {}),
        "text_pair": (5, True, [], {}),
        "id": (5, True, [], {}),
    }
    for name, wrong in example_fields.items():
        for value in wrong:
            body = with_example({**FIRST, name: value})
            yield Bad(f"type-example-{name}-{json.dumps(value)}", ADAPT, body, f"#/support/1/{name}")
    for value in (None, "text", 5, []):
        yield Bad(f"type-example-{json.dumps(value)}", ADAPT, with_example(value), "#/support/1")
        yield Bad(f"type-example-classify-{json.dumps(value)}", CLASSIFY, with_example(value, CLASSIFY), "#/support/1")
    for value in (None, 5, True, []):
        queries = ["fine", value]
        yield Bad(f"type-query-{json.dumps(value)}", PREDICT, with_field(PREDICT, "queries", queries), "#/queries/1")
        queries = ["fine", {"text": value}]
        body = with_field(PREDICT, "queries", queries)
        yield Bad(f"type-query-text-{json.dumps(value)}", PREDICT, body, "#/queries/1/text")
    for value in (5, True, [], {}):
        body = with_field(PREDICT, "queries", [{"text": "fine", "text_pair": value}])
        yield Bad(f"type-query-text-pair-{json.dumps(value)}", PREDICT, body, "#/queries/0/text_pair")
    for value in (None, 5, True, []):
        body = with_field(ADAPT, "labels", {"refund": value})
        yield Bad(f"type-description-{json.dumps(value)}", ADAPT, body, "#/labels/refund")
    body = with_field(ADAPT, "labels", {"<b>": 5})
    yield Bad("type-description-of-label-in-angle-brackets", ADAPT, body, "#/labels/<b>")


def missing_and_unknown_fields() -> Iterator[Bad]:
    """Missing fields and unknown fields."""
    yield Bad("adapt-without-support", ADAPT, b"{}", "#/support")
    yield Bad("classify-without-support", CLASSIFY, b'{"queries": ["a"]}', "#/support")
    yield Bad("classify-without-queries", CLASSIFY, json.dumps({"support": SUPPORT}).encode(), "#/queries")
    yield Bad("predict-without-queries", PREDICT, b"{}", "#/queries")
    yield Bad("rollback-without-version", ROLLBACK, b"{}", "#/version")
    yield Bad("no-list-of-examples", EXAMPLES, b"{}", "#/examples")
    yield Bad("example-without-text", ADAPT, with_example({"label": "a"}), "#/support/1/text")
    yield Bad("example-without-label", ADAPT, with_example({"text": "a"}), "#/support/1/label")
    yield Bad("query-without-text", PREDICT, with_field(PREDICT, "queries", [{"text_pair": "a"}]), "#/queries/0/text")
    for path in GOOD_BODIES:
        yield Bad(f"unknown-field-{path}", path, with_field(path, "lerning_rate", 1), "#/lerning_rate")
    yield Bad("unknown-field-of-another-route", PREDICT, with_field(PREDICT, "steps", 1), "#/steps")
    yield Bad("classify-keeps-nothing", CLASSIFY, with_field(CLASSIFY, "ttl_seconds", 1), "#/ttl_seconds")
    yield Bad("unknown-field-in-example", ADAPT, with_example({**FIRST, "lable": "a"}), "#/support/1/lable")
    yield Bad(
        "unknown-field-in-query",
        PREDICT,
        with_field(PREDICT, "queries", [{"text": "a", "label": "b"}]),
        "#/queries/0/label",
    )
    yield Bad("unknown-field-with-slash", PREDICT, with_field(PREDICT, "a/b~c", 1), "#/a~1b~0c")
    yield Bad("prototype-pollution", PREDICT, with_field(PREDICT, "__proto__", {}), "#/__proto__")


def bad_content() -> Iterator[Bad]:
    """Well-formed bodies that no learner can use, or that pass a limit."""
    yield Bad("empty-support", ADAPT, with_field(ADAPT, "support", []), "#/support", code="empty_support")
    yield Bad("empty-support-classify", CLASSIFY, with_field(CLASSIFY, "support", []), "#/support")
    yield Bad("one-example", ADAPT, with_field(ADAPT, "support", [FIRST]), "#/support", code="too_few_classes")
    yield Bad("one-class", ADAPT, with_field(ADAPT, "support", [FIRST, SUPPORT[1]]), "#/support")
    same_id = [{**example, "id": "same" if i in {1, 4} else f"id{i}"} for i, example in enumerate(SUPPORT)]
    yield Bad("duplicate-id", ADAPT, with_field(ADAPT, "support", same_id), "#/support/4/id", code="duplicate_id")
    for name, bad_id in {
        "empty": "",
        "slash": "a/b",
        "dots": "..",
        "newline": "a\n",
        "long": "a" * 65,
        "unicode": "é",
    }.items():
        yield Bad(f"id-{name}", ADAPT, with_example({**FIRST, "id": bad_id}), "#/support/1/id")
    long_text = "word " * 10_000
    empty = {"empty": "", "space": " ", "whitespace": "\n\t \u3000\u00a0"}
    for name, text in empty.items():
        yield Bad(f"text-{name}", ADAPT, with_example({**FIRST, "text": text}), "#/support/1/text")
        pair = with_example({**FIRST, "text_pair": text})
        yield Bad(f"text-pair-{name}", ADAPT, pair, "#/support/1/text_pair")
        yield Bad(f"query-{name}", PREDICT, with_field(PREDICT, "queries", ["fine", text]), "#/queries/1")
        queries: list[object] = [{"text": text}]
        yield Bad(f"query-text-{name}", PREDICT, with_field(PREDICT, "queries", queries), "#/queries/0/text")
        queries = [{"text": "fine", "text_pair": text}]
        yield Bad(f"query-text-pair-{name}", PREDICT, with_field(PREDICT, "queries", queries), "#/queries/0/text_pair")
        yield Bad(f"classify-query-{name}", CLASSIFY, with_field(CLASSIFY, "queries", [text]), "#/queries/0")
    for name, text in {**empty, "long": long_text}.items():
        body = with_field(ADAPT, "labels", {"refund": text})
        yield Bad(f"description-{name}", ADAPT, body, "#/labels/refund")
    for name, label in {
        "empty": "",
        "whitespace": " \n\t",
        "invisible": "\u200b\ufeff",
        "10kB": "label " * 2_000,
        "one-over": "l" * (LIMITS["max_label_chars"] + 1),
    }.items():
        yield Bad(f"label-{name}", ADAPT, with_example({**FIRST, "label": label}), "#/support/1/label")
    yield Bad("description-of-empty-label", ADAPT, with_field(ADAPT, "labels", {"": "words"}), "#/labels/")
    yield Bad(
        "too-many-examples",
        ADAPT,
        with_field(ADAPT, "support", SUPPORT * 4),
        "#/support",
        code="too_many_examples",
    )
    yield Bad("too-many-classes", ADAPT, with_field(ADAPT, "support", many_classes(6)), "#/support")
    descriptions = {f"label {i}": "words" for i in range(6)}
    yield Bad("too-many-described", ADAPT, with_field(ADAPT, "labels", descriptions), "#/support")
    yield Bad("no-queries", PREDICT, with_field(PREDICT, "queries", []), "#/queries", code="no_queries")
    yield Bad("no-queries-classify", CLASSIFY, with_field(CLASSIFY, "queries", []), "#/queries")
    yield Bad("too-many-queries", PREDICT, with_field(PREDICT, "queries", ["a"] * 11), "#/queries")
    yield Bad("too-many-queries-classify", CLASSIFY, with_field(CLASSIFY, "queries", ["a"] * 11), "#/queries")
    unused = json.dumps({"support": SUPPORT, "labels": {"refund": "money back"}, "use_label_text": False}).encode()
    yield Bad("description-alone-but-unused", ADAPT, unused, "#/labels/refund", code="class_without_examples")


def out_of_range() -> Iterator[Bad]:
    """Numbers and names of the right type and the wrong size."""
    table: dict[str, dict[str, tuple[object, ...]]] = {
        ADAPT: {
            "steps": (-1, 31, 2**31),
            "learning_rate": (0, -0.0, -1, 1000.5, 1e308),
            "seed": (-1,),
            "ttl_seconds": (0, -1, 10 * 366 * 86400 + 1),
            "learner": ("", "svm", "ProtoMAML", "../protomaml", "protomaml\n"),
        },
        CLASSIFY: {"steps": (-1, 31), "learning_rate": (0, -1), "learner": ("svm",), "top_k": (0, -1)},
        PREDICT: {"top_k": (0, -1, -(2**70)), "abstain": (-0.1, 1.1, 2, -1), "version": (0, -1, -(2**70))},
        ROLLBACK: {"version": (0, -1, -(2**70))},
    }
    for path, fields in table.items():
        for name, values in fields.items():
            for value in values:
                yield Bad(f"{name}={value!r}-{path}", path, with_field(path, name, value), f"#/{name}")


def large_values() -> Iterator[Bad]:
    """Values that must not come back in the answer."""
    long = "x" * 50_000
    yield Bad("long-unknown-field", ADAPT, with_field(ADAPT, long, 1), "#/…")
    yield Bad("long-unknown-field-in-example", ADAPT, with_example({**FIRST, long: "a"}), "#/support/1/…")
    yield Bad("long-learner", ADAPT, with_field(ADAPT, "learner", long), "#/learner")
    yield Bad("long-described-label", ADAPT, with_field(ADAPT, "labels", {long: "words"}), "#/labels/…")
    yield Bad("long-label-empty-description", ADAPT, with_field(ADAPT, "labels", {long: ""}), "#/labels/…")
    yield Bad("long-label-wrong-description", ADAPT, with_field(ADAPT, "labels", {long: 5}), "#/labels/…")
    yield Bad("long-id", ADAPT, with_example({**FIRST, "id": long}), "#/support/1/id")
    yield Bad("long-steps", ADAPT, with_field(ADAPT, "steps", long), "#/steps")
    many = [{"text": "", "label": ""}] * 20
    yield Bad("many-faults", ADAPT, with_field(ADAPT, "support", many), "#/support/0/text")
    for n, pointer in ((500, "#/unknown0"), (5000, "#")):  # so many are not listed one by one
        unknown = json.dumps({**GOOD_BODIES[ADAPT], **{f"unknown{i}": i for i in range(n)}}).encode()
        yield Bad(f"{n}-unknown-fields", ADAPT, unknown, pointer)
    yield Bad("long-query-value", "/v1/tasks?limit=" + "9" * 5000, None, "query/limit", method="GET")
    yield Bad("long-after", "/v1/tasks?after=" + "a" * 5000, None, "query/after", method="GET")


def bad_names() -> Iterator[Bad]:
    """Names that no task can have, in every route that takes one."""
    names = {
        "dot": "%2e",
        "dots": "%2e%2e",
        "nul": "%00",
        "nul-inside": "bank%00",
        "newline": "bank%0a",
        "newline-first": "%0abank",
        "carriage-return": "bank%0d%0aX-Injected:%201",
        "leading-dot": ".bank",
        "leading-dash": "-bank",
        "leading-underscore": "_bank",
        "129-characters": "a" * 129,
        "very-long": "a" * 10_000,
        "unicode": "b%C3%A4nk",
        "wide-digits": "%EF%BC%91",
        "overlong-slash": "%C0%AF",
        "invalid-utf8": "%ff%fe",
        "space": "my%20bank",
        "trailing-space": "bank%20",
        "braces": "%7Bbank%7D",
        "colon": "a:b",
        "star": "*",
        "backslash": "..%5C..",
        "quote": "'%20OR%201=1--",
        "percent": "%25",
        "encoded-twice": "%252e%252e",
    }
    for name, task in names.items():
        yield Bad(f"name-{name}-adapt", f"/v1/tasks/{task}/adapt", json.dumps(GOOD_BODIES[ADAPT]).encode(), "path/task")
    for name in ("dots", "newline", "129-characters", "nul", "braces"):
        task = names[name]
        yield Bad(f"name-{name}-predict", f"/v1/tasks/{task}/predict", b'{"queries": ["a"]}', "path/task")
        yield Bad(f"name-{name}-rollback", f"/v1/tasks/{task}/rollback", b'{"version": 1}', "path/task")
        yield Bad(f"name-{name}-show", f"/v1/tasks/{task}", None, "path/task", method="GET")
        yield Bad(f"name-{name}-delete", f"/v1/tasks/{task}", None, "path/task", method="DELETE")
        yield Bad(f"name-{name}-versions", f"/v1/tasks/{task}/versions", None, "path/task", method="GET")
    for name, path in {
        "slash": "/v1/tasks/a%2Fb/adapt",
        "climbing": "/v1/tasks/..%2F..%2Fetc%2Fpasswd/adapt",
        "empty": "/v1/tasks//adapt",
    }.items():
        body = json.dumps(GOOD_BODIES[ADAPT]).encode()
        yield Bad(f"name-{name}", path, body, "path", status=404, code="not_found")


def bad_queries() -> Iterator[Bad]:
    """Parameters of lists."""
    for limit in ("0", "-1", "abc", "1001", "1.5", "", "NaN", "9" * 30, "%00"):
        yield Bad(f"tasks-limit-{limit}", f"/v1/tasks?limit={limit}", None, "query/limit", method="GET")
        yield Bad(
            f"versions-limit-{limit}", f"/v1/tasks/bank/versions?limit={limit}", None, "query/limit", method="GET"
        )
    for before in ("-1", "0", "abc", "1.5", "", str(2**63), "9" * 30):
        path = f"/v1/tasks/bank/versions?before={before}"
        yield Bad(f"before-{before}", path, None, "query/before", method="GET")
    for after in ("../", "%2e%2e", "%00", "a%0a", "a" * 129, "{a}", "*", ""):
        yield Bad(f"after-{after}", f"/v1/tasks?after={after}", None, "query/after", method="GET")


def bad_headers() -> Iterator[Bad]:
    """Headers with wrong values."""
    good = json.dumps(GOOD_BODIES[ADAPT]).encode()
    for name, key in {"empty": "", "300-characters": "k" * 300, "256-characters": "k" * 256}.items():
        headers = {**JSON, "Idempotency-Key": key}
        yield Bad(f"idempotency-key-{name}", ADAPT, good, "header/Idempotency-Key", headers=headers)
        body = b'{"version": 1}'
        yield Bad(f"idempotency-key-{name}-rollback", ROLLBACK, body, "header/Idempotency-Key", headers=headers)
    for media_type in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonp",
        "",
        ";",
        "json",
    ):
        headers = {"Content-Type": media_type}
        yield Bad(f"content-type-{media_type}", ADAPT, good, "header/Content-Type", status=415, headers=headers)
    for path, body in GOOD_BODIES.items():
        content = json.dumps(body).encode()
        yield Bad(f"no-content-type-{path}", path, content, "header/Content-Type", status=415, headers={})


def bad_methods_and_routes() -> Iterator[Bad]:
    """Verbs and paths that do not exist."""
    for method, path in (
        ("GET", ADAPT),
        ("PUT", ADAPT),
        ("PATCH", "/v1/tasks/bank"),
        ("POST", "/v1/tasks/bank"),
        ("POST", "/v1/tasks"),
        ("DELETE", "/v1/tasks"),
        ("GET", CLASSIFY),
        ("GET", ROLLBACK),
        ("DELETE", "/v1/tasks/bank/versions"),
        ("DELETE", EXAMPLES),
        ("PUT", "/v1/tasks/bank/versions/1"),
        ("GET", f"{EXAMPLES}/any"),
        ("TRACE", PREDICT),
        ("BREW", PREDICT),
        ("POST", "/v1/checkpoint"),
        ("POST", "/livez"),
        ("DELETE", "/metrics"),
    ):
        yield Bad(f"method-{method}-{path}", path, None, "method", 405, method, code="method_not_allowed")
    for path in (
        "/nothing",
        "/v1",
        "/v1/",
        "/v2/tasks",
        "/V1/tasks",
        "/v1/tasks/",
        "/v1/tasks/bank/",
        "/v1/tasks/bank/nothing",
        "/v1/tasks/bank/adapt/",
        "/v1/classify/",
        "/v1//tasks",
        "/v1/tasks/bank/versions/1/2",
        "/.env",
        "/v1/%00",
        "/..%2f..%2fetc/passwd",
    ):
        yield Bad(f"route-{path}", path, None, "path", status=404, method="GET", code="not_found")


def too_large() -> Iterator[Bad]:
    """More bytes than the limit."""
    over = LIMITS["max_body_bytes"] + 1
    for path in GOOD_BODIES:
        yield Bad(f"body-over-limit-{path}", path, b" " * over, "#", status=413, code="body_too_large")
    headers = {**JSON, "Content-Length": "9" * 18}
    yield Bad("content-length-over-limit", ADAPT, b"{}", "#", 413, headers=headers, code="body_too_large")


CASES = [
    case
    for group in (
        not_objects,
        bad_json_values,
        wrong_types,
        missing_and_unknown_fields,
        bad_content,
        out_of_range,
        large_values,
        bad_names,
        bad_queries,
        bad_headers,
        bad_methods_and_routes,
        too_large,
    )
    for case in group()
]


def raw_exchange(url: str, request: bytes) -> bytes:
    """A server's answer to bytes that no client library would send."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port or 80), timeout=LIMIT_S) as connection:
        connection.sendall(request)
        answer = b""
        while part := connection.recv(2**16):
            answer += part
    return answer


@dataclass(frozen=True)
class State:
    """The stored data that a tenant sees."""

    tasks: Any
    predictions: Any


def stored_state(client: httpx.Client) -> State:
    """The stored data that must not change."""
    tasks = client.get("/v1/tasks").json()
    answer = client.post(PREDICT, json={"queries": [example["text"] for example in SUPPORT]})
    assert answer.status_code == 200
    return State(tasks, answer.json())


@pytest.fixture(scope="module")
def state_before(limited_service: httpx.Client) -> State:
    """The tenant's view before any bad request."""
    state = stored_state(limited_service)
    assert [task["task"] for task in state.tasks["tasks"]] == ["bank"]
    assert state.predictions["version"] == 1
    return state


def send(client: httpx.Client, case: Bad) -> httpx.Response:
    """Sends a bad request unchanged."""
    return client.request(case.method, case.path, content=case.body, headers=case.headers)


def check_problem(response: httpx.Response, *, fields_expected: bool = True) -> dict[str, Any]:
    """Checks the documented form of a refusal."""
    assert 400 <= response.status_code < 500, response.text[:500]
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"]
    assert "queue;dur=" in response.headers["server-timing"]
    assert "x-injected" not in response.headers
    assert len(response.content) < MAX_ANSWER_BYTES, "a large value came back"
    problem: dict[str, Any] = response.json()
    assert set(problem) - {"errors"} == {"type", "title", "status", "code", "detail"}
    assert problem["status"] == response.status_code
    assert problem["code"]
    assert problem["code"] in problem["type"]
    assert problem["title"]
    assert problem["detail"]
    if fields_expected:
        assert problem["errors"]
        assert all(set(error) == {"pointer", "detail"} for error in problem["errors"])
        assert all(error["pointer"] and error["detail"] for error in problem["errors"])
    return problem


def test_the_table_is_large_and_its_names_are_unique() -> None:
    assert len(CASES) >= 80
    names = Counter(case.name for case in CASES)
    assert max(names.values()) == 1, names.most_common(3)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name[:80])
def test_a_bad_request_is_refused_and_changes_nothing(
    limited_service: httpx.Client, state_before: State, case: Bad
) -> None:
    response = send(limited_service, case)
    problem = check_problem(response)
    assert response.status_code == case.status, response.text
    pointers = [error["pointer"] for error in problem["errors"]]
    if case.pointer.endswith("…"):  # a long name, cut somewhere
        assert any(pointer.startswith(case.pointer[:-1]) for pointer in pointers), pointers
    else:
        assert case.pointer in pointers
    if case.code:
        assert problem["code"] == case.code
    # Whoever changes a task makes a version; predictions are compared once after all requests
    assert limited_service.get("/v1/tasks").json() == state_before.tasks


@pytest.mark.parametrize("version", [2**31, 2**63, 10**30, 10**400], ids=["2**31", "2**63", "10**30", "10**400"])
@pytest.mark.parametrize("path", [PREDICT, ROLLBACK, "/v1/tasks/absent/predict", "/v1/tasks/absent/rollback"])
def test_a_version_beyond_any_store_is_absent_or_refused(
    limited_service: httpx.Client, state_before: State, path: str, version: int
) -> None:
    body = {"version": version} if path.endswith("rollback") else {"version": version, "queries": ["where is it"]}
    response = limited_service.post(path, content=json.dumps(body), headers=JSON)
    assert response.status_code in {404, 422}
    problem = check_problem(response, fields_expected=response.status_code == 422)
    if response.status_code == 422:
        assert problem["errors"][0]["pointer"] == "#/version"
    assert stored_state(limited_service) == state_before


def test_bad_requests_all_at_once_change_nothing(limited_service: httpx.Client, state_before: State) -> None:
    with ThreadPoolExecutor(16) as threads:
        responses = list(threads.map(lambda case: send(limited_service, case), CASES))
    wrong = [
        (case.name, case.status, response.status_code)
        for case, response in zip(CASES, responses, strict=True)
        if response.status_code != case.status
    ]
    assert not wrong
    assert stored_state(limited_service) == state_before


@pytest.mark.parametrize("name", ["..", ".", "../..", "..;", "%2e%2e", "%2E%2e%2f..", "%00", "\\..\\", "a%0d%0ab"])
def test_a_path_that_climbs_is_refused_as_it_stands(limited_server: str, name: str) -> None:
    request = f"GET /v1/tasks/{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    head, _, content = raw_exchange(limited_server, request.encode()).partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 422 ", b"HTTP/1.1 404 ")), head[:100]
    assert b"content-type: application/problem+json" in head.lower()
    assert json.loads(content)["code"] in {"invalid_request", "not_found"}


def test_a_large_body_with_its_length_is_refused(limited_server: str) -> None:
    with httpx.Client(base_url=limited_server) as client:
        response = client.post(ADAPT, content=MEGABYTE * 10, headers=JSON)
    assert response.status_code == 413
    assert check_problem(response)["code"] == "body_too_large"


def test_a_large_chunked_body_is_refused_before_its_end(limited_server: str) -> None:
    address = urlsplit(limited_server)
    head = f"POST {ADAPT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    part = MEGABYTE[: 2**16]
    with socket.create_connection((address.hostname, address.port or 80), timeout=LIMIT_S) as connection:
        connection.sendall(head.encode())
        for _ in range(LIMITS["max_body_bytes"] // len(part) + 1):
            connection.sendall(b"%x\r\n%s\r\n" % (len(part), part))
        # The body goes on, but no more of it comes: a server that read on would never answer
        answer = connection.recv(2**16)
    assert answer.startswith(b"HTTP/1.1 413 "), answer[:200]
    assert b"application/problem+json" in answer


def test_a_large_chunked_body_through_a_client_is_refused(limited_server: str) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(10):
            yield MEGABYTE

    with httpx.Client(base_url=limited_server) as client:
        response = client.post(ADAPT, content=parts(), headers=JSON)
    assert response.status_code == 413
    check_problem(response)


def test_a_client_that_leaves_inside_its_body_is_no_server_error(limited_server: str) -> None:
    address = urlsplit(limited_server)
    head = f"POST {ADAPT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{"
    for _ in range(3):
        with socket.create_connection((address.hostname, address.port or 80), timeout=LIMIT_S) as connection:
            connection.sendall(head.encode())
    # The answers to requests that nobody waits for are counted soon after
    with httpx.Client(base_url=limited_server) as client:
        for _ in range(50):
            shown = client.get("/metrics").text
            counted = [line for line in shown.splitlines() if line.startswith("handful_requests_total{")]
            left = [line for line in counted if 'route="/v1/tasks/{task}/adapt"' in line and 'status="413"' not in line]
            if left and sum(float(line.rsplit(" ", 1)[1]) for line in left) >= 3:
                break
        assert not [line for line in counted if 'status="5' in line]
        assert client.get("/livez").status_code == 200
