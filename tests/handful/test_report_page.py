"""The page of a report: whole, self-contained, and without the markup of untrusted texts."""

from html.parser import HTMLParser
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from handful.report_answers import ReportResponse
from handful.report_page import report_page

VOID = {"meta", "br", "rect", "line", "circle", "polyline"}
TEXT = st.one_of(st.text(max_size=30), st.sampled_from(["<script>alert(1)</script>", "a & b", '"><img src=x>', "<td"]))


class Page(HTMLParser):
    """The tags and the text of a page; every tag is closed."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def report_with(text: str, label: str = "fee", **fields: Any) -> ReportResponse:
    """A report whose every list has an entry with the text and the label."""
    example = {"id": "a", "label": label, "text": text, "text_pair": text}
    return ReportResponse.model_validate(
        {
            "task": "bank",
            "version": 3,
            "checkpoint": "0123456789abcdef",
            "examples": 10,
            "sampled": 10,
            "labels": [label, "other"],
            "findings": [f"first of all {text}"],
            "accuracy": {"value": 0.8, "interval": (0.6, 0.9), "asked": 10, "right": 8, "folds": 5, "draws": 2},
            "baselines": {"majority": 0.5, "ridge": 0.7},
            "classes": [
                {
                    "label": label,
                    "examples": 5,
                    "asked": 5,
                    "right": 4,
                    "predicted": 5,
                    "recall": 0.8,
                    "precision": 0.8,
                },
                {
                    "label": "other",
                    "examples": 1,
                    "asked": 0,
                    "right": 0,
                    "predicted": 0,
                    "recall": None,
                    "precision": None,
                },
            ],
            "confusable": [{"labels": (label, "other"), "counts": (1, 1), "shown": (example, example)}],
            "n_confusable": 1,
            "suspects": [{**example, "reads_as": label, "confidence": 0.9, "of_label": 0.01}],
            "n_suspects": 1,
            "contradictions": [{"examples": [example, example]}],
            "n_contradictions": 1,
            "near_duplicates": [{"examples": (example, example), "similarity": 0.99}],
            "n_near_duplicates": 1,
            "few_examples": [label],
            "abstention": {"threshold": 0.67, "asked": 10, "answered": 6, "right": 6, "coverage": 0.6, "accuracy": 1.0},
            "learning_curve": [{"examples_per_class": n, "accuracy": n / 10} for n in (1, 2, 4)],
            "twice_the_examples": {"accuracy": 0.85, "interval": (0.8, 1.0)},
            "cut": [],
            "unreadable": [],
            "next_to_label": [
                {
                    "index": 0,
                    "text": text,
                    "labels": (label, "other"),
                    "probabilities": (0.5, 0.4),
                    "nearest": label,
                    "similarity": 0.3,
                    "reason": text,
                }
            ],
            "elapsed_ms": 1.0,
            **fields,
        }
    )


@given(text=TEXT, label=TEXT)
def test_no_text_becomes_markup(text: str, label: str) -> None:
    page, plain = Page(report_page(report_with(text, label))), Page(report_page(report_with("x", "y")))
    assert page.open == []
    assert page.tags == plain.tags
    assert len(page.attributes) == len(plain.attributes)
    assert not {name for name, _ in page.attributes} & {"src", "href", "onload", "onerror"}
    if text.isalnum():
        assert page.text.count(text) >= 12


def test_the_page_shows_figures_and_plots_and_needs_nothing_else() -> None:
    page = report_page(report_with("where is my card"))
    shown = Page(page)
    for part in ("80 %", "8 of 10", "where is my card", "Confusable classes", "Label these next", "examples per class"):
        assert part in shown.text
    assert page.count("<svg") == 2
    assert "://" not in page
    assert "<script" not in page


def test_a_report_without_an_accuracy_has_a_page() -> None:
    empty: dict[str, Any] = {name: [] for name in ("confusable", "suspects", "contradictions", "near_duplicates")}
    empty |= {"accuracy": None, "baselines": None, "abstention": None, "twice_the_examples": None}
    shown = Page(report_page(report_with("a", learning_curve=[], next_to_label=[], **empty)))
    assert "Accuracy" not in shown.text
    assert "Classes" in shown.text
