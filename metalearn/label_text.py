"""What a label's name says about its class."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from metalearn.types import SlowWeights, SupportSet, TextInput

_CAMEL_CASE = re.compile(r"(?<=[a-z])(?=[A-Z])")
_SEPARATORS = re.compile(r"[\W_]+")
_OPAQUE = re.compile(r"[a-z]{0,2}\d*|(?:class|label|cat|category|type|group|intent|topic|tag|cluster|item|lbl)\d+")

_FEWEST_TO_JUDGE_BY = 4
"""Examples without which names are believed."""


def label_words(label: str) -> str | None:
    """The words that a label is made of, or None where it carries none.

    ``card_arrival`` and ``cardArrival`` give "card arrival"; ``c17``, ``3``, ``label_2`` and ``A`` give None.
    """
    words = _SEPARATORS.sub(" ", _CAMEL_CASE.sub(" ", label)).strip()
    if _OPAQUE.fullmatch(words.replace(" ", "").lower()):
        return None
    return words


def label_texts(support: SupportSet) -> dict[int, TextInput]:
    """Class index -> the text that stands for the class: its description, else the words of its name."""
    pairs = any(example.input.text_pair is not None for example in support.examples)
    return words_of_labels(support.labels, support.descriptions, pairs=pairs)


def words_of_labels(
    labels: Sequence[str], descriptions: Mapping[str, str] | None = None, *, pairs: bool = False
) -> dict[int, TextInput]:
    """Class index -> the text that stands for the class, for the classes that have one.

    Args:
        labels: Names of the classes.
        descriptions: What goes before a name, by name.
        pairs: Whether the task's texts are pairs. Then a label's text is one with itself: what a pair's second text
            says can be compared, and what sets the two apart is nothing, for every label alike.
    """
    texts = {}
    for index, label in enumerate(labels):
        words = (descriptions or {}).get(label) or label_words(label)
        if words:
            texts[index] = TextInput(words, words if pairs else None)
    return texts


@dataclass(frozen=True, slots=True)
class LabelTextPrior:
    """What the text of a label counts where an example counts 1: w / (1 + n)^f beside n examples of its class.

    Weight w and fade f are meta-learned. Even without fade its share in a class, w / (w + n), shrinks as examples are
    added.

    Attributes:
        weight: Where w starts. Chosen on validation tasks for a stock encoder, with f = 0; see docs/log.md.
    """

    weight: float = 2.0

    def initial_slow_weights(self) -> dict[str, Tensor]:
        """Weight, as a logarithm, and fade."""
        return {"log_weight": torch.tensor(self.weight).log(), "fade": torch.zeros(())}

    def weights(self, slow: SlowWeights, n_examples: Float[Tensor, " classes"]) -> Float[Tensor, " classes"]:
        """What the text of each class's label counts."""
        return slow["log_weight"].exp() * (1 + n_examples) ** -slow["fade"]


def names_mislead(
    examples: Float[Tensor, "examples dim"],
    classes: Int[Tensor, " examples"],
    labels: Float[Tensor, "labels dim"],
    classes_of_labels: Int[Tensor, " labels"],
) -> Bool[Tensor, ""]:
    """Whether the texts of labels tell the examples apart worse than chance, as where two names were swapped.

    An example is told by the label that it is most similar to, beside how similar all examples are to that label. Few
    examples are told wrong by chance, right as their names are: fewer than four accuse nobody; see docs/log.md.

    Args:
        examples: Features of the examples.
        classes: Their classes.
        labels: Features of the texts.
        classes_of_labels: Their classes, each once.
    """
    similarity = examples @ labels.T
    nearest = classes_of_labels[(similarity - similarity.mean(dim=0)).argmax(dim=1)]
    told = torch.isin(classes, classes_of_labels)
    right, asked = ((nearest == classes) & told).sum(), told.sum()
    return (right * classes_of_labels.shape[0] < asked) & (asked >= _FEWEST_TO_JUDGE_BY)


def among_examples(
    examples: Float[Tensor, "examples dim"],
    classes: Int[Tensor, " examples"],
    labels: Float[Tensor, "labels dim"],
    classes_of_labels: Int[Tensor, " labels"],
    n_classes: int,
) -> Float[Tensor, "labels dim"]:
    """Features of the texts of labels, moved to where the examples are.

    A name of two words differs from the sentences of its class as all names do, which tells nothing of a class: what
    they differ by in the mean is added to each. The mean of few says less, and the more of what it says is of the
    classes themselves: n classes count 1 - 2/n, and two count nothing; see docs/log.md.

    Args:
        examples: Features of the examples.
        classes: Their classes.
        labels: Features of the texts.
        classes_of_labels: Their classes, each once.
        n_classes: How many classes there are.
    """
    members = one_hot(classes, n_classes).to(examples.dtype)
    counts = members.sum(dim=0)
    means = (members.T @ examples) / counts.clamp_min(1).unsqueeze(1)
    both = (counts[classes_of_labels] > 0).to(examples.dtype)
    n_both = both.sum()
    difference = both @ (means[classes_of_labels] - labels) / n_both.clamp_min(1)
    return labels + (1 - 2 / n_both.clamp_min(2)) * difference
