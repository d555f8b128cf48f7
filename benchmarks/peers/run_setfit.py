"""SetFit on the episodes of a file.

PYTHON -m benchmarks.peers.run_setfit --episodes FILE --out FILE --encoder FOLDER

PYTHON is that of an environment with ``requirements-setfit.txt``. Settings are SetFit's documented defaults: one epoch
over all pairs (oversampling), pairs in batches of 16, a learning rate of 2e-5 for the body, scikit-learn's logistic
regression as head. What is timed is ``Trainer.train``; loading the encoder is not.

Pairs grow with the square of the support set, and all of them take hours at 64 shots. With ``--iterations N`` an epoch
has N of either kind for each example instead; SetFit's paper had 20.
"""

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path

import setfit  # type: ignore[import-not-found]
import torch
from datasets import Dataset  # type: ignore[import-not-found]
from sentence_transformers import SentenceTransformer
from setfit import SetFitModel, Trainer, TrainingArguments
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

from benchmarks.comparison import Answer, LeftOut, run
from benchmarks.episodes import Episode, read_episodes
from benchmarks.peers.pairs import joined


class SetFit:
    """SetFit, starting from the stock encoder each time."""

    name = "setfit"

    def __init__(self, encoder: Path, device: str, max_pairs: int | None, iterations: int | None) -> None:
        """Takes settings.

        Args:
            encoder: Folder of a sentence-transformers model; it decides pooling and normalization.
            device: Where torch computes.
            max_pairs: Leave out what one epoch has more pairs of; None for no bound.
            iterations: Pairs of either kind for each example; None for all pairs.
        """
        sampled = "defaults" if iterations is None else f"{iterations} pairs of either kind for each example"
        self.setting = f"SetFit {setfit.__version__}, {sampled}, {device}"
        self.threads = torch.get_num_threads()
        self._encoder = encoder
        self._device = device
        self._max_pairs = max_pairs
        self._iterations = iterations

    def answer(self, episode: Episode) -> Answer:
        """See ``Method``."""
        labels = episode.labels
        pairs = pairs_of_epoch([row.label for row in episode.support], self._iterations)
        if self._max_pairs is not None and pairs > self._max_pairs:
            raise LeftOut(f"an epoch has {pairs:,} pairs")
        body = SentenceTransformer(str(self._encoder), device=self._device)
        model = SetFitModel(model_body=body, model_head=LogisticRegression(), labels=list(labels))
        support = Dataset.from_dict(
            {
                "text": [joined(row) for row in episode.support],
                "label": [labels.index(row.label) for row in episode.support],
            }
        )
        with tempfile.TemporaryDirectory() as folder:
            # These settings change no weight: they switch off logs and files
            arguments = TrainingArguments(
                output_dir=folder,
                num_epochs=1,
                num_iterations=self._iterations,
                report_to="none",
                save_strategy="no",
                show_progress_bar=False,
            )
            trainer = Trainer(model=model, args=arguments, train_dataset=support)
            began = time.perf_counter()
            trainer.train()
            adapt_s = time.perf_counter() - began
        began = time.perf_counter()
        probabilities = model.predict_proba([joined(row) for row in episode.queries], as_numpy=True)
        predicted = [labels[i] for i in probabilities.argmax(axis=1)]
        return Answer(predicted, adapt_s, time.perf_counter() - began, probabilities.max(axis=1).tolist())


def pairs_of_epoch(labels: list[str], iterations: int | None) -> int:
    """Pairs of an epoch: by default, oversampling, twice as many as there are of the more frequent kind."""
    if iterations is not None:
        return 2 * iterations * len(labels)
    positive = sum(count * (count + 1) // 2 for count in Counter(labels).values())
    negative = len(labels) * (len(labels) + 1) // 2 - positive
    return 2 * max(positive, negative)


def main() -> None:
    """Answers what the file of outcomes has no line of yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=Path, required=True, help="written by python -m benchmarks.accuracy")
    parser.add_argument("--out", type=Path, required=True, help="file of outcomes; lines are added to it")
    parser.add_argument("--encoder", type=Path, required=True, help="folder of the stock encoder")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--max-pairs", type=int, help="leave out episodes of more pairs an epoch")
    parser.add_argument("--iterations", type=int, help="pairs of either kind for each example; all where it is missing")
    options = parser.parse_args()
    method = SetFit(options.encoder, options.device, options.max_pairs, options.iterations)
    run(method, read_episodes(options.episodes), options.out)


if __name__ == "__main__":
    main()
