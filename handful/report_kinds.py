"""The parts of a report that tasks of several labels, of scores and of ordered classes have."""

from typing import Literal

from pydantic import BaseModel, Field

FigureName = Literal["micro_f1", "macro_f1", "spearman", "mae"]
"""A figure of answers: F1 over all labels or as the mean over labels, of entities where words are tagged; rank
correlation; mean absolute error."""


class FigureOnNewTexts(BaseModel):
    """An estimate of a figure on new texts, from examples that were left out one at a time."""

    name: FigureName
    value: float
    interval: tuple[float, float] = Field(description="95 % interval, by resampling the examples.")
    baselines: dict[str, float] = Field(
        description="The same figure of simpler answers: `most_frequent_label` or `mean`, which know nothing of the "
        "text, `ridge`, ridge regression on the same features with a fixed regulariser, and `known_words`, the label "
        "that each word mostly has in other examples."
    )


class LeftOutScore(BaseModel):
    """The score of an example, or the place of its class, beside the prediction without the example."""

    id: str
    score: float
    predicted: float
