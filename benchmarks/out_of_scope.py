"""Abstention on out-of-scope texts: how well confidence separates them, without and with out-of-scope examples.

python -m benchmarks.out_of_scope --data FOLDER [--draws 6]

The folder holds clinc150 and its out-of-scope queries. Each draw has 10 classes of 10 examples, 20 queries of each
class, and out-of-scope queries; the second row has five out-of-scope examples, too. Features are those of the runtime
that serves.
"""

import argparse
import random
import statistics
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.episodes import Row, read_rows
from benchmarks.report import Head
from metalearn.adapting import adapt
from metalearn.label_text import words_of_labels
from metalearn.options import AdaptOptions
from metalearn.prepared import LabelTexts, PreparedSet
from metalearn.types import TextInput

_WAYS, _SHOTS, _QUERIES, _OUTSIDE_QUERIES, _OUTSIDE = 10, 10, 20, 400, 5


def auroc(inside: Tensor, outside: Tensor) -> float:
    """The probability that a query with a class has more confidence than an out-of-scope one; half where both tie."""
    apart = inside.double().unsqueeze(1) - outside.double()
    return float(((apart > 0).double() + 0.5 * (apart == 0).double()).mean())


def confidences(head: Head, examples: Tensor, classes: list[int], words: tuple[Tensor, list[int]], queries: Tensor,
                n_labels: int) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The probability of the most probable label for each query, and which it is."""
    targets = torch.tensor(classes)
    texts = LabelTexts(words[0], torch.tensor(words[1])) if words[1] else None
    support = PreparedSet(examples, targets, torch.ones(len(classes)), max(classes) + 1, label_texts=texts)
    own = adapt(head.model, head.models.of().slow_weights, support, AdaptOptions(), default_steps=head.steps)
    found = head.model.learner.logits(own.fast_weights, queries).softmax(dim=1)[:, :n_labels].max(dim=1)
    return found.values, found.indices


def main() -> None:
    """Prints one row without and one with out-of-scope examples."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with clinc150 and clinc150_oos")
    parser.add_argument("--draws", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_grad_enabled(False)
    head, draw = Head.load(), random.Random(asked.seed)
    threshold = head.models.checkpoint.manifest.hyperparameters.abstain_threshold

    def encode(rows: list[Row]) -> Tensor:
        return head.encode([TextInput(row.text) for row in rows])

    files = {name: read_rows(asked.data / f"{name}.jsonl") for name in ("clinc150.train", "clinc150.test")}
    queries_outside = read_rows(asked.data / "clinc150_oos.test.jsonl")
    outside = encode(draw.sample(list(queries_outside), min(len(queries_outside), _OUTSIDE_QUERIES)))
    examples_outside = read_rows(asked.data / "clinc150_oos.train.jsonl")
    labels = sorted({row.label for row in files["clinc150.train"]})
    rows: dict[bool, list[tuple[float, ...]]] = {False: [], True: []}
    for _ in range(asked.draws):
        some = sorted(draw.sample(labels, _WAYS))
        parts: list[tuple[list[Row], list[int]]] = []
        for name, most in (("clinc150.train", _SHOTS), ("clinc150.test", _QUERIES)):
            chosen = [(row, k) for k, label in enumerate(some)
                      for row in draw.sample([r for r in files[name] if r.label == label], most)]  # fmt: skip
            parts.append(([row for row, _ in chosen], [k for _, k in chosen]))
        (shown, classes), (asked_for, right) = parts
        named = words_of_labels(some, pairs=False)
        words = head.encode(list(named.values())), list(named)
        support, inside = encode(shown), encode(asked_for)
        extra = encode(draw.sample(list(examples_outside), _OUTSIDE))
        for given in (False, True):
            examples = torch.cat([support, extra]) if given else support
            of = classes + [_WAYS] * _OUTSIDE if given else classes
            sure, best = confidences(head, examples, of, words, torch.cat([inside, outside]), _WAYS)
            one, other = sure[: len(right)], sure[len(right) :]
            accuracy = float((best[: len(right)] == torch.tensor(right)).float().mean())
            abstained, caught = (float((part < threshold).float().mean()) for part in (one, other))
            rows[given].append((auroc(one, other), 100 * accuracy, 100 * abstained, 100 * caught))
    print(
        "| out-of-scope examples | AUROC | accuracy | in-scope abstained | out-of-scope caught |\n|---|---|---|---|---|"
    )
    for given, found in rows.items():
        area, accuracy, abstained, caught = map(statistics.mean, zip(*found, strict=True))
        print(f"| {_OUTSIDE if given else 0} | {area:.3f} | {accuracy:.1f} | {abstained:.1f} % | {caught:.1f} % |")


if __name__ == "__main__":
    main()
