"""The look of plots: SVG that follows the reader's light or dark scheme, with text as text."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, PAPER, LINE = "#1f2328", "#ffffff", "#d0d7de"
COLORS = ("#0969da", "#bc4c00", "#1a7f37", "#8250df", "#bf3989", "#57606a", "#1b7c83", "#9a6700")
"""Colours of series; each has a marker of its own, for eyes that do not tell colours apart."""
MARKERS = "os^vDPX<"

_DARK = {
    **{INK: "#e6edf3", PAPER: "#0d1117", LINE: "#30363d"},
    **dict(
        zip(
            COLORS,
            ("#58a6ff", "#f0883e", "#3fb950", "#bc8cff", "#f778ba", "#8b949e", "#39c5cf", "#d29922"),
            strict=True,
        )
    ),
}
"""Light -> dark. Every colour of a plot is one of these."""


def new_figure(width: float, height: float, title: str, source: str) -> "Figure":
    """An empty figure.

    Args:
        width: Inches.
        height: Inches.
        title: What it shows.
        source: What was measured, and with which command; it stands below.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor=PAPER)
    figure.suptitle(title, color=INK, size=12)
    figure.supxlabel(source, color=INK, size=8)
    return figure


def new_axes(figure: "Figure", rows: int = 1, columns: int = 1, **options: Any) -> "Sequence[Axes]":
    """Axes in rows and columns, in the plots' look."""
    every: list[Axes] = list(figure.subplots(rows, columns, squeeze=False, **options).flat)
    for axes in every:
        axes.set_facecolor(PAPER)
        axes.grid(color=LINE, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(colors=INK, labelsize=9)
        for side in axes.spines.values():
            side.set_color(LINE)
        for label in (axes.xaxis.label, axes.yaxis.label, axes.title):
            label.set_color(INK)
    return every


def add_legend(axes: "Axes", *, above: bool = False) -> None:
    """A legend without a frame: inside, or in a row above, where marks may be anywhere inside."""
    place: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1), "ncols": 4} if above else {}
    axes.legend(fontsize=8, frameon=False, labelcolor=INK, **place)


def as_svg(figure: "Figure") -> bytes:
    """The figure as SVG; the same figure gives the same bytes."""
    import matplotlib as mpl

    file = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "handful", "font.family": ["sans-serif"]}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None}, facecolor=PAPER)
    text = file.getvalue().decode()
    for light in _DARK:
        text = text.replace(light, f"var(--c{light[1:]})")
    light_values = ";".join(f"--c{light[1:]}:{light}" for light in _DARK)
    dark_values = ";".join(f"--c{light[1:]}:{dark}" for light, dark in _DARK.items())
    style = (
        f"<style>svg{{{light_values};font-family:system-ui,sans-serif}}"
        f"@media (prefers-color-scheme:dark){{svg{{{dark_values}}}}}</style>"
    )
    head, tag, rest = text.partition("<defs>")
    return f"{head}{style}{tag}{rest}".encode()
