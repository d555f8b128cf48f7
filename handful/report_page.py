"""A report as one HTML page that needs nothing else: no script, no font, no network."""

from collections.abc import Sequence
from html import escape

from handful.report_answers import ExampleText, Interval, ReportResponse

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --ink: #2563eb; --soft: #2563eb44; --bad: #dc2626 }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  overflow-wrap: anywhere }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; border-bottom: 1px solid var(--line);
  overflow-wrap: break-word }
.number { text-align: right; white-space: nowrap }
.id { opacity: .75; font-size: .8em }
.wide { overflow-x: auto }
svg { max-width: 100%; height: auto }
svg text { font: 12px system-ui, sans-serif; fill: currentColor }
@media (max-width: 40rem) { svg text { font-size: 15px } }
@media (prefers-color-scheme: dark) { :root { --ink: #60a5fa; --soft: #60a5fa55; --bad: #f87171 } }
"""
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 560, 240, 60, 40


def report_page(report: ReportResponse) -> str:
    """The page. Texts and labels are escaped, since anybody may have written them."""
    title = f"Report on {report.task}, version {report.version}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{report.examples} examples of {len(report.labels)} classes; checkpoint "
        f"{escape(report.checkpoint[:12])}.</p>",
        _list(report.findings),
        _accuracy(report),
        _curve(report),
        _classes(report),
        _suspects(report),
        _confusable(report),
        _same_texts(report),
        _next_to_label(report),
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_STYLE}</style>"
    )
    body = "\n".join(part for part in parts if part)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body><main>\n{body}\n</main></body></html>\n'


def _accuracy(report: ReportResponse) -> str:
    found, baselines = report.accuracy, report.baselines
    if found is None or baselines is None:
        return ""
    rows: list[tuple[str, float, Interval | None]] = [
        ("this classifier", found.value, found.interval),
        ("ridge regression", baselines.ridge, None),
        ("most frequent class", baselines.majority, None),
    ]
    bars = []
    for i, (name, value, interval) in enumerate(rows):
        y = 10 + 30 * i
        bars.append(f'<text x="165" y="{y + 15}" text-anchor="end">{name}</text>')
        bars.append(f'<rect x="175" y="{y}" width="{325 * value:.1f}" height="20" fill="var(--soft)"/>')
        bars.append(f'<text x="{_WIDTH - 5}" y="{y + 15}" text-anchor="end">{_percent(value)}</text>')
        if interval is not None:
            low, high = (175 + 325 * end for end in interval)
            line = f'x1="{low:.1f}" x2="{high:.1f}" y1="{y + 10}" y2="{y + 10}"'
            bars.append(f'<line {line} stroke="var(--ink)" stroke-width="3"/>')
    rest = (
        f"<p>{found.right} of {found.asked} examples are classified correctly without themselves; the line is the "
        "95 % interval of the accuracy on new texts.</p>"
    )
    sure = report.abstention
    if sure is not None:
        right = "" if sure.accuracy is None else f", {sure.right} of them right"
        rest += (
            f"<p>With abstention below a confidence of {sure.threshold:.2f}, {sure.answered} of {sure.asked} are "
            f"answered{right}.</p>"
        )
    return f"<h2>Accuracy on new texts</h2>{_svg(100, bars, 'Accuracies')}{rest}"


def _curve(report: ReportResponse) -> str:
    points = [(point.examples_per_class, point.accuracy) for point in report.learning_curve]
    if len(points) < 2:
        return ""
    twice = report.twice_the_examples
    now = max(each for each, _ in points)
    most = now if twice is None else 2 * now
    plot_width, plot_height = _WIDTH - _LEFT - 20, _HEIGHT - _BOTTOM - 10

    def place(examples: float, accuracy: float) -> tuple[float, float]:
        return _LEFT + plot_width * examples / most, 10 + plot_height * (1 - accuracy)

    marks = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        _, y = place(0, share)
        marks.append(f'<line x1="{_LEFT}" x2="{_WIDTH - 20}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--line)"/>')
        marks.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_percent(share)}</text>')
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
    marks.append(f'<polyline points="{line}" fill="none" stroke="var(--ink)" stroke-width="2"/>')
    for examples, accuracy in points:
        x, y = place(examples, accuracy)
        marks.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="var(--ink)"/>')
        marks.append(f'<text x="{x:.1f}" y="{_HEIGHT - 22}" text-anchor="middle">{examples:g}</text>')
    if twice is not None:
        x, low = place(most, twice.interval[0])
        _, high = place(most, twice.interval[1])
        _, expected = place(most, twice.accuracy)
        marks.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}" stroke="var(--soft)" stroke-width="8"/>'
        )
        marks.append(f'<circle cx="{x:.1f}" cy="{expected:.1f}" r="4" fill="none" stroke="var(--ink)"/>')
        marks.append(f'<text x="{x:.1f}" y="{_HEIGHT - 22}" text-anchor="middle">{most:g}</text>')
    marks.append(f'<text x="{_LEFT + plot_width / 2}" y="{_HEIGHT - 4}" text-anchor="middle">examples per class</text>')
    return f"<h2>Accuracy by the number of examples</h2>{_svg(_HEIGHT, marks, 'Learning curve')}"


def _classes(report: ReportResponse) -> str:
    rows = [
        (
            escape(each.label),
            _number(each.examples),
            _number(f"{each.right} of {each.asked}"),
            _number("" if each.recall is None else _percent(each.recall)),
            _number(f"{each.right} of {each.predicted}"),
            _number("" if each.precision is None else _percent(each.precision)),
        )
        for each in report.classes
    ]
    header = ("class", "examples", "found", "recall", "right when answered", "precision")
    return "<h2>Classes</h2>" + _table(header, rows)


def _suspects(report: ReportResponse) -> str:
    if not report.suspects:
        return ""
    rows = [
        (_text(each), escape(each.label), escape(each.reads_as), _number(f"{each.confidence:.2f}"))
        for each in report.suspects
    ]
    return "<h2>Labels that may be wrong</h2>" + _table(("text", "label", "reads as", "confidence"), rows)


def _confusable(report: ReportResponse) -> str:
    if not report.confusable:
        return ""
    rows = [
        (
            f"{escape(pair.labels[0])} ({pair.counts[0]})<br>{escape(pair.labels[1])} ({pair.counts[1]})",
            *(f"{_text(shown)}<br>labelled {escape(shown.label)}" for shown in pair.shown),
        )
        for pair in report.confusable
    ]
    return "<h2>Confusable classes</h2>" + _table(("classes (misread)", "misread", "most like it"), rows)


def _same_texts(report: ReportResponse) -> str:
    rows = [
        ("contradiction", "<br>".join(f"{_text(each)} labelled {escape(each.label)}" for each in group.examples))
        for group in report.contradictions
    ]
    rows += [
        (
            f"{pair.similarity:.2f}",
            "<br>".join(f"{_text(each)} labelled {escape(each.label)}" for each in pair.examples),
        )
        for pair in report.near_duplicates
    ]
    return "<h2>The same text again</h2>" + _table(("similarity", "examples"), rows) if rows else ""


def _next_to_label(report: ReportResponse) -> str:
    if not report.next_to_label:
        return ""
    rows = [
        (_joined(each.text, each.text_pair), escape(" or ".join(each.labels)), escape(each.reason))
        for each in report.next_to_label
    ]
    return "<h2>Label these next</h2>" + _table(("text", "undecided between", "why"), rows)


def _text(example: ExampleText) -> str:
    return f'{_joined(example.text, example.text_pair)} <span class="id">{escape(example.id)}</span>'


def _joined(text: str, text_pair: str | None) -> str:
    return escape(text) if text_pair is None else f"{escape(text)}<br>{escape(text_pair)}"


def _list(sentences: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences) + "</ul>"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; cells are HTML, and a cell that begins with a tag of its own keeps it."""
    body = "".join(
        "<tr>" + "".join(cell if cell.startswith("<td") else f"<td>{cell}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    numbers = {place for row in rows for place, cell in enumerate(row) if cell.startswith("<td")}
    kinds = [' class="number"' if place in numbers else "" for place in range(len(header))]
    head = "".join(f'<th scope="col"{kind}>{name}</th>' for kind, name in zip(kinds, header, strict=True))
    content = f"<table><tr>{head}</tr>{body}</table>"
    return f'<div class="wide" role="region" tabindex="0" aria-label="table: {header[0]}">{content}</div>'


def _number(value: object) -> str:
    return f'<td class="number">{value}</td>'


def _svg(height: int, marks: Sequence[str], title: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" role="img"><title>{title}</title>{"".join(marks)}</svg>'
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
