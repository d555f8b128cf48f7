"""Exports of annotation tools and chatbot platforms."""

import json
from typing import Any

import pytest

from handful.files import FileInvalid, read_queries, read_support
from tests.handful.files.conftest import Write

RASA = """version: "3.1"
nlu:
- intent: greet
  examples: |
    - hello
    # a comment

    - fly to [Berlin](city:berlin) or [Paris]{"entity": "city", "role": "to"} on [Monday][{"entity": "day"}]
- intent: no
  examples: |
    - yes
    - 1
- intent: faq/name
  examples:
  - text: |
      who are you
    metadata: {source: web}
  - text: "your name"
- synonym: card
  examples: |
    - visa
- lookup: city
  examples: |
    - Rome
"""


def rows(source: str) -> list[tuple[int, str, str | None]]:
    """Line, text and label of each example."""
    return [(row.line, row.text, row.label) for row in read_support(source).rows]


def refused(source: str) -> str:
    """The message of a refusal."""
    with pytest.raises(FileInvalid) as caught:
        read_support(source)
    return str(caught.value)


@pytest.mark.parametrize("name", ["nlu.yml", "nlu.yaml", "-"])
def test_rasa(write: Write, name: str) -> None:
    read = read_support(write(name, RASA))
    assert [(row.line, row.text, row.label) for row in read.rows] == [
        (5, "hello", "greet"),
        (8, "fly to Berlin or Paris on Monday", "greet"),
        (11, "yes", "no"),
        (12, "1", "no"),
        (16, "who are you", "faq/name"),
        (18, "your name", "faq/name"),
    ]
    assert "Rasa YAML, 2 sections skipped (synonym, lookup)" in read.found


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("nlu:\n- intent: a\n  examples: |\n    - x\n    oops\n", "line 5: an example of an intent starts with '- '"),
        ("nlu:\n- intent: a\n  examples: >\n    - x\n    - y\n", "line 4: 'examples: >' joins the lines"),
        ("version: '3.1'\nstories:\n- story: a\n", "line 1: this Rasa file has no 'nlu' section"),
        ("nlu:\n- intent: a\n  examples: [\n", "line 4: this is not YAML"),
        ("nlu:\n- lookup: a\n  examples: |\n    - x\n", "0 rows read"),
    ],
)
def test_rasa_that_cannot_be_read(write: Write, content: str, reason: str) -> None:
    assert reason in refused(write("nlu.yml", content))


def test_rasa_of_before(write: Write) -> None:
    markdown = "<!-- mine -->\n## intent:greet\n- hello\n- fly to [Berlin](city)\n\n## synonym:x\n- y\n"
    markdown += "\n## intent: bye\n* bye\n"
    assert rows(write("nlu.md", markdown)) == [
        (3, "hello", "greet"),
        (4, "fly to Berlin", "greet"),
        (10, "bye", "bye"),
    ]
    assert "line 2" in refused(write("nlu.md", "## intent:greet\nhello\n"))
    common = {"rasa_nlu_data": {"common_examples": [{"text": "hi", "intent": "greet", "entities": []}]}}
    assert rows(write("nlu.json", json.dumps(common, indent=1))) == [(4, "hi", "greet")]


@pytest.mark.parametrize(
    "document",
    [
        {
            "luis_schema_version": "7.0.0",
            "intents": [{"name": "None"}],
            "utterances": [{"text": "hi", "intent": "None", "entities": []}],
        },
        {"projectKind": "Conversation", "assets": {"utterances": [{"text": "hi", "language": "en", "intent": "None"}]}},
        {"intents": [{"intent": "None", "examples": [{"text": "hi"}], "description": ""}], "entities": []},
        {"intents": [{"tag": "None", "patterns": ["hi"], "responses": ["hello"]}]},
        {"interactionModel": {"languageModel": {"intents": [{"name": "None", "samples": ["hi"], "slots": []}]}}},
        [{"text": "hi", "intent": "None", "entities": []}],
        [{"id": 3, "data": {"text": "hi"}, "annotations": [{"result": [{"value": {"choices": ["None"]}}]}]}],
        [{"id": 3, "data": {"body": "hi"}, "completions": [{"result": [{"value": {"choices": ["None"]}}]}]}],
        [
            {
                "text": "hi",
                "id": 3,
                "mood": "None",
                "annotator": 1,
                "annotation_id": 3,
                "created_at": "",
                "lead_time": 2.5,
            }
        ],
        [{"text": "hi", "cats": {"None": 1.0, "Greet": 0.0}}],
        [{"text": "hi", "accept": ["None"], "answer": "accept", "_task_hash": 1}],
        [{"id": 1, "data": "hi", "label": ["None"]}],
        [{"id": 1, "text": "hi", "label": ["None"], "Comments": []}],
    ],
)
def test_one_example_of_each_tool(write: Write, document: Any) -> None:
    for content in (json.dumps(document), json.dumps(document, indent=2)):
        found = rows(write("a.json", content))
        assert [(text, label) for _, text, label in found] == [("hi", "None")]
        assert found[0][0] >= 1
    if isinstance(document, list):
        assert rows(write("a.jsonl", json.dumps(document[0]) + "\n")) == [(1, "hi", "None")]


def test_label_studio(write: Write) -> None:
    def task(number: int, *choices: list[str], cancelled: bool = False) -> dict[str, Any]:
        annotations = [
            {"result": [{"type": "choices", "value": {"choices": chosen}}], "was_cancelled": cancelled}
            for chosen in choices
        ]
        return {"id": number, "data": {"text": f"t{number}"}, "annotations": annotations}

    tasks = [task(1, ["good"]), task(2), task(3, ["bad"], ["bad"]), task(4, ["bad"], cancelled=True)]
    source = write("a.json", json.dumps(tasks))
    read = read_support(source)
    assert [(row.text, row.label, row.id) for row in read.rows] == [("t1", "good", "1"), ("t3", "bad", "3")]
    assert "Label Studio JSON, 2 tasks without annotation skipped" in read.found
    assert [row.text for row in read_queries(source).rows] == ["t1", "t2", "t3", "t4"]
    assert "disagree" in refused(write("b.json", json.dumps([task(1, ["good"], ["bad"])])))
    assert "a list of several" in refused(write("c.json", json.dumps([task(1, ["good", "bad"])])))


def test_label_studio_with_two_questions_is_refused(write: Write) -> None:
    def task(question: str, choice: str) -> dict[str, Any]:
        result = {"from_name": question, "to_name": "t", "type": "choices", "value": {"choices": [choice]}}
        return {"data": {"text": "a card"}, "annotations": [{"result": [result]}]}

    read = read_support(write("a.json", json.dumps([task("urgency", "low"), task("urgency", "high")])))
    assert [row.label for row in read.rows] == ["low", "high"]
    with pytest.raises(FileInvalid, match="choices of 'sentiment' and of 'urgency'"):
        read_support(write("b.json", json.dumps([task("sentiment", "bad"), task("urgency", "high")])))


def test_label_studio_csv(write: Write) -> None:
    header = "annotation_id,annotator,created_at,id,lead_time,mood,text,updated_at\n"
    read = read_support(write("a.csv", header + "1,1,2024,7,2.3,good,hi there,2024\n"))
    assert [(row.text, row.label, row.id) for row in read.rows] == [("hi there", "good", "7")]
    several = '1,1,2024,7,2.3,"{""choices"": [""a"",""b""]}",hi there,2024\n'
    assert 'line 2: the label {"choices": ["a","b"]} is a list' in refused(write("b.csv", header + several))


def test_doccano_csv_and_watson_csv(write: Write) -> None:
    assert rows(write("a.csv", "id,data,label\n1,hello,a\n")) == [(2, "hello", "a")]
    watson = "tell me the weather,weather\nis it raining,weather\nhello there,greet\nhi you,greet\n"
    assert rows(write("b.csv", watson))[:2] == [(1, "tell me the weather", "weather"), (2, "is it raining", "weather")]


def test_rejected_examples_of_prodigy_are_skipped(write: Write) -> None:
    records = [
        {"text": answer, "label": "x", "answer": answer, "_task_hash": 1} for answer in ("accept", "reject", "ignore")
    ]
    read = read_support(write("a.jsonl", "".join(json.dumps(record) + "\n" for record in records)))
    assert [row.text for row in read.rows] == ["accept"]
    assert "2 rejected or ignored records skipped" in read.found


ARGILLA = [
    {"id": "a1", "fields": {"ticket": "hello"}, "suggestions": {"intent": {"value": "bye"}},
     "responses": {"intent": [{"value": "greet", "user_id": "1"}, {"value": "greet", "user_id": "2"}]}},
    {"id": "a2", "fields": {"ticket": "see you"}, "responses": {"intent": [{"value": "bye", "user_id": "1"}]}},
    {"id": "a3", "fields": {"ticket": "later"}, "responses": {}},
]  # fmt: skip


def test_argilla(write: Write) -> None:
    read = read_support(write("a.json", json.dumps(ARGILLA, indent=1)))
    assert [(row.text, row.label, row.id) for row in read.rows] == [("hello", "greet", "a1"), ("see you", "bye", "a2")]
    assert (
        read.found
        == "2 rows; text from 'text', label from 'label'; Argilla JSON, 1 record without response skipped, UTF-8"
    )
    assert [row.text for row in read_queries("a.json").rows] == ["hello", "see you", "later"]


def test_flat_argilla(write: Write) -> None:
    records = [
        {"id": "1", "status": "completed", "_server_id": "x", "text": "hello", "source": "mail",
         "intent.responses": ["greet", "bye"], "intent.responses.users": ["1", "2"],
         "intent.responses.status": ["submitted", "draft"], "intent.suggestion": "bye"},
        {"id": "2", "status": "pending", "text": "bye", "source": "mail", "intent.suggestion": "bye"},
    ]  # fmt: skip
    content = "".join(json.dumps(record) + "\n" for record in records)
    assert rows(write("a.jsonl", content)) == [(1, "hello", "greet")]


def test_kinds_of_argilla(write: Write) -> None:
    def of(*values: Any) -> str:
        records = [{"fields": {"t": "in Rome"}, "responses": {"q": [{"value": value}]}} for value in values]
        return write("a.json", json.dumps(records))

    assert [row.labels for row in read_support(of(["x", "y"], ["x"], [])).rows] == [("x", "y"), ("x",), ()]
    span = {"start": 3, "end": 7, "label": "city"}
    tagged = read_support(of([{**span, "score": None}], [span])).rows[0].tagged
    assert tagged == {"text": "in Rome", "spans": [span]}
    assert rows(of(1, 2)) == [(1, "in Rome", "1"), (1, "in Rome", "2")]


@pytest.mark.parametrize(
    ("responses", "reason"),
    [
        ({"q": [{"value": "x"}, {"value": "y"}]}, "annotations of this task disagree: ['x', 'y']"),
        (
            {"q": [{"value": "x"}], "p": [{"value": "y"}]},
            "the file has answers to 'q' and to 'p'",
        ),
    ],
)
def test_argilla_that_cannot_be_read(write: Write, responses: Any, reason: str) -> None:
    records = [{"fields": {"t": "a"}, "responses": responses}, {"fields": {"t": "b"}, "responses": responses}]
    assert reason in refused(write("a.json", json.dumps(records)))


def _conversation(*said: tuple[str, str]) -> str:
    return json.dumps({"messages": [{"role": role, "content": content} for role, content in said]}) + "\n"


def test_conversations(write: Write) -> None:
    lines = [
        _conversation(("system", "Classify."), ("user", "my money"), ("assistant", "refund")),
        _conversation(("user", "where is it"), ("assistant", "delivery")),
    ]
    read = read_support(write("a.jsonl", "".join(lines)))
    assert [(row.line, row.text, row.label) for row in read.rows] == [
        (1, "my money", "refund"),
        (2, "where is it", "delivery"),
    ]
    assert "1 system message skipped" in read.found
    queries = "".join(_conversation(("system", "Classify."), ("user", text)) for text in "ab")
    assert [row.text for row in read_queries(write("q.jsonl", queries)).rows] == ["a", "b"]


def test_a_conversation_of_several_turns_is_no_example(write: Write) -> None:
    one = _conversation(("user", "a"), ("assistant", "x"))
    several = _conversation(("user", "a"), ("assistant", "x"), ("user", "b"), ("assistant", "y"))
    message = refused(write("a.jsonl", one + several))
    assert "line 2: 2 messages of the user and 2 of the assistant: an example has one of each" in message
    assert "line 2: 1 messages of the user and 0" in refused(write("a.jsonl", one + _conversation(("user", "a"))))


@pytest.mark.parametrize("name", ["a.txt", "a.train", "-"])
def test_fasttext(write: Write, name: str) -> None:
    lines = "__label__refund my  money back\n\n__label__late,no where is it __label__x1\n"
    read = read_support(write(name, lines.replace(" __label__x1", "")))
    assert [(row.line, row.text, row.label) for row in read.rows] == [
        (1, "my  money back", "refund"),
        (3, "where is it", "late,no"),
    ]
    assert "fastText lines" in read.found
    assert [row.labels for row in read_support(write(name, lines)).rows] == [("refund",), ("late,no", "x1")]
    assert [row.text for row in read_queries(write(name, lines)).rows] == ["my  money back", "where is it"]


def test_fasttext_that_cannot_be_read(write: Write) -> None:
    assert "line 2: no label" in refused(write("a.txt", "__label__a one\ntwo\n"))
    assert "line 2: no text" in refused(write("a.txt", "__label__a one\n__label__b\n"))


def test_lex(write: Write) -> None:
    intents = [{"name": "Order", "sampleUtterances": ["buy roses"]}, {"name": "Bye", "sampleUtterances": ["bye"]}]
    document = {"metadata": {"schemaVersion": "1.0"}, "resource": {"name": "bot", "intents": intents}}
    assert [(text, label) for _, text, label in rows(write("a.json", json.dumps(document)))] == [
        ("buy roses", "Order"),
        ("bye", "Bye"),
    ]
