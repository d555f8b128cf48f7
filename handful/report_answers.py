"""The answers of the HTTP API with evidence about a task: its report, and the examples behind a prediction."""

from pydantic import BaseModel, Field

from handful.report_kinds import FigureOnNewTexts, LeftOutScore
from handful.wire_kinds import TaskKind

Interval = tuple[float, float]
"""Lower and upper end."""


class ExampleText(BaseModel):
    """An example of the support set."""

    id: str
    label: str = Field(description="Its label; its labels or its score, in words, where the task has those.")
    text: str
    text_pair: str | None = None


class NearExample(ExampleText):
    """An example of the support set that is similar to a query."""

    similarity: float = Field(description="Cosine of the features, beside what all examples have in common.")


class Suspect(ExampleText):
    """An example whose label may be wrong."""

    reads_as: str = Field(
        description="The label that classifiers without this example predict; its labels with the most doubtful one "
        "more or less; or the predicted score."
    )
    confidence: float = Field(
        description="The probability of that label; of several labels, 0.5 at the threshold; of a score, the share of "
        "a normal distribution that lies nearer to the prediction."
    )
    of_label: float = Field(description="The probability of its own label; of the other kinds, 1 less `confidence`.")


class AccuracyOnNewTexts(BaseModel):
    """An estimate of the accuracy on new texts, from examples that were left out."""

    value: float = Field(
        description="The estimate: `right` of `asked`, corrected for the examples that the classifiers had less."
    )
    interval: Interval = Field(description="95 % interval of the estimate.")
    asked: int = Field(description="Examples that were left out. The only example of its class never is.")
    right: int = Field(description="Those that were classified correctly without themselves.")
    folds: int = Field(description="A fold leaves out one example of each class, or several of many.")
    draws: int = Field(description="How often the folds were drawn; answers are means over the draws.")


class Baselines(BaseModel):
    """Accuracies of simpler classifiers on the same examples that were left out."""

    majority: float = Field(description="Share of the most frequent class: always answering it is as good.")
    ridge: float = Field(description="Ridge regression on the same features, without meta-training or label texts.")


class ClassReport(BaseModel):
    """The figures of a class."""

    label: str
    examples: int
    asked: int = Field(description="Examples of the class that were left out.")
    right: int = Field(description="Those that were classified correctly.")
    predicted: int = Field(description="Examples of any class that were classified as this one.")
    recall: float | None = Field(description="`right` of `asked`; null where none was asked.")
    precision: float | None = Field(description="`right` of `predicted`; null where there is none.")


class ConfusablePair(BaseModel):
    """Two classes that are taken for each other."""

    labels: tuple[str, str] = Field(description="The class that is misread more often comes first.")
    counts: tuple[int, int] = Field(description="Examples of the first that read as the second, and the other way.")
    shown: tuple[ExampleText, ExampleText] = Field(
        description="The misread example of the highest confidence, and the example of the other class most like it."
    )


class Contradiction(BaseModel):
    """A text that stands under more than one label."""

    examples: list[ExampleText]


class NearDuplicate(BaseModel):
    """Two examples whose texts are the same or nearly so."""

    examples: tuple[ExampleText, ExampleText]
    similarity: float


class Abstention(BaseModel):
    """The answers to examples that were left out, under the checkpoint's abstention threshold."""

    threshold: float
    asked: int
    answered: int
    right: int
    coverage: float = Field(description="`answered` of `asked`.")
    accuracy: float | None = Field(description="`right` of `answered`; null where none is answered.")


class CurvePoint(BaseModel):
    """The accuracy that a part of the examples reaches on the other examples."""

    examples_per_class: float
    accuracy: float


class TwiceTheExamples(BaseModel):
    """The accuracy that twice the examples of each class would bring, from the gain of the last doubling."""

    accuracy: float = Field(description="A cautious estimate.")
    interval: Interval = Field(description="From no gain to the gain of the last doubling.")


class NextToLabel(BaseModel):
    """An unlabelled text whose label would teach much."""

    index: int = Field(description="Its place in `unlabelled`.")
    text: str
    text_pair: str | None = None
    labels: tuple[str, str] = Field(description="The two most probable classes.")
    probabilities: tuple[float, float]
    nearest: str = Field(description="The label of the most similar example.")
    similarity: float = Field(description="The similarity of that example.")
    reason: str


class ReportResponse(BaseModel):
    """The evidence about a version of a task. Lists hold the first entries; the counts are of all."""

    task: str
    version: int
    kind: TaskKind = "single_label"
    checkpoint: str = Field(description="Fingerprint of the checkpoint.")
    examples: int
    out_of_scope: int = Field(0, description="Out-of-scope examples. The other figures are of the labels' examples.")
    without_effect: int = Field(0, description="Examples of weight 0, which are in no other figure.")
    sampled: int = Field(description="Examples that the report is computed on: all, or a sample of a large number.")
    labels: list[str]
    findings: list[str] = Field(description="What the report says, and what to do next, in sentences.")
    accuracy: AccuracyOnNewTexts | None = Field(
        description="null where no class has two different texts, and where a text has several labels or a score."
    )
    baselines: Baselines | None
    figures: list[FigureOnNewTexts] | None = Field(
        None,
        description="Where the task has several labels, scores or an order: F1, or rank correlation and mean absolute "
        "error. Empty where the learner leaves no example out.",
        exclude_if=lambda figures: figures is None,
    )
    scores: list[LeftOutScore] | None = Field(
        None,
        description="Of scores and ordered classes: the first 500 examples beside their predictions.",
        exclude_if=lambda scores: scores is None,
    )
    classes: list[ClassReport]
    confusable: list[ConfusablePair]
    n_confusable: int
    suspects: list[Suspect]
    n_suspects: int
    contradictions: list[Contradiction]
    n_contradictions: int
    near_duplicates: list[NearDuplicate]
    n_near_duplicates: int
    few_examples: list[str] = Field(description="Classes with fewer than five examples.")
    abstention: Abstention | None
    learning_curve: list[CurvePoint] = Field(description="The fewest examples first.")
    twice_the_examples: TwiceTheExamples | None
    cut: list[str] = Field(description="Ids of examples that are longer than the encoder reads.")
    unreadable: list[str] = Field(description="Ids of examples of which the encoder knows half of the tokens or fewer.")
    next_to_label: list[NextToLabel] = Field(description="Of the unlabelled texts of the request.")
    elapsed_ms: float
