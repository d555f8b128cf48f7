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
