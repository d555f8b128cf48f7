"""The findings of a report in sentences: how good the classifier is, and what to do next."""

from collections.abc import Iterator

from handful.report_answers import ReportResponse

_MOST_NAMED = 5
_WORTH_MORE_EXAMPLES = 0.02
_NO_BETTER = 0.02


def sentences_of(report: ReportResponse) -> list[str]:
    """The findings, the most important first."""
    if report.figures is not None:
        return [sentence for part in (_figures, _labels, _classes, _texts) for sentence in part(report)]
    return [sentence for part in (_accuracy, _labels, _classes, _more, _texts) for sentence in part(report)]


def _accuracy(report: ReportResponse) -> Iterator[str]:
    if report.sampled < report.examples:
        yield f"The report is computed on a sample of {report.sampled} of {report.examples} examples."
    found, baselines = report.accuracy, report.baselines
    if found is None or baselines is None:
        yield (
            "No class has two different texts, so no example can be left out and the accuracy is not known: give each "
            "class a second example."
        )
        return
    low, high = found.interval
    yield (
        f"The accuracy on new texts is about {_percent(found.value)}, and probably between {_percent(low)} and "
        f"{_percent(high)}: {found.right} of {found.asked} examples are classified correctly without themselves."
    )
    if found.value <= baselines.majority + _NO_BETTER:
        yield (
            f"Always answering the most frequent class is right in {_percent(baselines.majority)} of the examples: the "
            "classifier is hardly better. Check whether the labels can be recognised from the texts alone."
        )
    elif found.right / found.asked < baselines.ridge - _NO_BETTER:
        yield (
            f"Ridge regression on the same features classifies {_percent(baselines.ridge)} correctly, which is more: "
            "check whether the label names mislead (use_label_text: false)."
        )


def _figures(report: ReportResponse) -> Iterator[str]:
    if report.sampled < report.examples:
        yield (
            f"The report is computed on {report.sampled} of {report.examples} examples: copies count once, and of many "
            "examples a sample is taken."
        )
    if not report.figures:
        takes = (
            "two examples"
            if report.kind == "tokens"
            else "three examples, and the learner ridge_cv, which is the default"
        )
        yield f"No example was left out, so no figure of new texts is known: that takes {takes}."
    for figure in report.figures or ():
        low, high = figure.interval
        others = ", ".join(f"{value:.2f} by {_METHODS[name]}" for name, value in figure.baselines.items())
        between = f"and probably between {low:.2f} and {high:.2f}"
        yield f"{_FIGURES[figure.name]} is about {figure.value:.2f}, {between}; {others}."
    first = next(iter(report.figures or ()), None)
    if first is None:
        return
    if report.accuracy is not None and report.baselines is not None:
        yield (
            f"{report.accuracy.right} of {report.accuracy.asked} examples get their own class without themselves; "
            f"always answering the most frequent class is right in {_percent(report.baselines.majority)} of them."
        )
    if first.name == "spearman" and first.interval[0] <= 0:
        yield (
            "It is not certain that anything was learned: the interval of the rank correlation holds 0. Give more "
            "examples, or check whether the score can be told from the text alone."
        )
    elif first.name == "micro_f1" and first.value <= first.baselines.get("most_frequent_label", -1.0) + _NO_BETTER:
        yield (
            "Always answering the most frequent label is hardly worse. Check whether the labels can be recognised from "
            "the texts alone."
        )


_FIGURES = {
    "micro_f1": "Micro F1 on new texts",
    "macro_f1": "Macro F1, in which each label counts alike,",
    "spearman": "Spearman's rank correlation of predictions with scores of new texts",
    "mae": "The mean absolute error",
}
_METHODS = {
    "most_frequent_label": "always answering the most frequent label",
    "mean": "always answering the mean",
    "ridge": "ridge regression with a fixed regulariser",
    "known_words": "the label that each word mostly has in other examples",
}


def _labels(report: ReportResponse) -> Iterator[str]:
    if report.n_contradictions:
        several = "with more than one answer" if report.figures is not None else "under more than one label"
        yield f"{_counted(report.n_contradictions, 'text stands', 'texts stand')} {several}: keep one."
    if report.n_suspects:
        first = report.suspects[0]
        what = ("score", "scores") if report.kind == "regression" else ("label", "labels")
        yield (
            f"{_counted(report.n_suspects, *what)} may be wrong, first of all {_short(first.text)}: it is "
            f"labelled {first.label!r} and reads as {first.reads_as!r} ({first.confidence:.2f}). Look at these first."
        )


def _classes(report: ReportResponse) -> Iterator[str]:
    if report.confusable:
        pair = report.confusable[0]
        yield (
            f"{pair.labels[0]!r} and {pair.labels[1]!r} are taken for each other most often, "
            f"{_counted(sum(pair.counts), 'time', 'times')}: add examples that show the difference, or merge them."
        )
    if report.few_examples:
        named = ", ".join(map(repr, report.few_examples[:_MOST_NAMED]))
        more = f" and {len(report.few_examples) - _MOST_NAMED} more" if len(report.few_examples) > _MOST_NAMED else ""
        yield f"Classes with fewer than five examples: {named}{more}. Further examples help most there."


def _more(report: ReportResponse) -> Iterator[str]:
    twice, now = report.twice_the_examples, report.accuracy
    if twice is None or now is None:
        return
    gain, most = twice.accuracy - now.value, twice.interval[1] - now.value
    if most >= _WORTH_MORE_EXAMPLES:
        yield (
            f"Twice the examples would bring some {100 * gain:.0f} points of accuracy, and {100 * most:.0f} at most if "
            "the last doubling is a guide."
        )
    else:
        yield "The last doubling of the examples brought little: more of the same kind will hardly help."


def _texts(report: ReportResponse) -> Iterator[str]:
    if report.n_near_duplicates:
        yield (
            f"{_counted(report.n_near_duplicates, 'pair', 'pairs')} of examples are nearly the same text: other texts "
            "would teach more."
        )
    if report.cut:
        yield f"{_counted(len(report.cut), 'example is', 'examples are')} longer than the encoder reads and cut."
    if report.unreadable:
        yield (
            f"{_counted(len(report.unreadable), 'example', 'examples')} cannot be read: half or more of the tokens are "
            "unknown to the encoder. Use a checkpoint for the language of the texts."
        )
    if report.next_to_label:
        yield f"Label {_short(report.next_to_label[0].text)} next: {report.next_to_label[0].reason}."


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")


def _counted(count: int, one: str, more: str) -> str:
    return f"{count} {one if count == 1 else more}"
