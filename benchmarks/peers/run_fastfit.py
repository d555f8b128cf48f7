"""FastFit on the episodes of a file.

PYTHON -m benchmarks.peers.run_fastfit --episodes FILE --out FILE --encoder FOLDER

PYTHON is that of an environment with ``requirements-fastfit.txt``. Settings are those of FastFit's own example: 40
epochs, batches of 32 repeated 4 times, Adafactor, texts of up to 128 tokens. What is timed is ``FastFitTrainer.train``;
loading the encoder and tokenizing are not.
"""

import argparse
import random
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import datasets  # type: ignore[import-not-found]
import torch
from datasets import Dataset, DatasetDict

from benchmarks.comparison import Answer, run
from benchmarks.episodes import Episode, read_episodes
from benchmarks.peers.pairs import joined

# FastFit fetches the metric of its own evaluation, which is not used here, from the network
datasets.load_metric = lambda *_, **__: SimpleNamespace(compute=dict)

from fastfit import FastFitTrainer  # type: ignore[import-not-found]  # noqa: E402

_QUERIES_AT_ONCE = 64
_LEAST_EXAMPLES = 3
"""FastFit logs three random examples of the support set, and fails where there are fewer."""


class FastFit:
    """FastFit, starting from the stock encoder each time."""

    name = "fastfit"

    def __init__(self, encoder: Path, device: str) -> None:
        """Takes settings.

        Args:
            encoder: Folder of a transformers model; FastFit has a head of its own in the place of pooling.
            device: Where torch computes.
        """
        self.setting = f"FastFit {version('fast-fit')}, settings of its example, {device}"
        self.threads = torch.get_num_threads()
        self._encoder = encoder
        self._device = device

    def answer(self, episode: Episode) -> Answer:
        """See ``Method``."""
        rows = episode.support
        if len(rows) < _LEAST_EXAMPLES:
            rows = (*rows, rows[0])
        support = Dataset.from_dict({"text": [joined(row) for row in rows], "label": [row.label for row in rows]})
        random.seed(0)
        with tempfile.TemporaryDirectory() as folder:
            trainer = FastFitTrainer(
                model_name_or_path=str(self._encoder),
                label_column_name="label",
                text_column_name="text",
                num_train_epochs=40,
                per_device_train_batch_size=32,
                per_device_eval_batch_size=64,
                max_text_length=128,
                dataloader_drop_last=False,
                num_repeats=4,
                optim="adafactor",
                clf_loss_factor=0.1,
                use_cpu=self._device == "cpu",
                report_to="none",
                save_strategy="no",
                disable_tqdm=True,
                output_dir=folder,
                overwrite_output_dir=True,
                # It looks for labels in a test set, too; the support set has them all
                dataset=DatasetDict(train=support, validation=support, test=support),
            )
            began = time.perf_counter()
            trainer.train()
            adapt_s = time.perf_counter() - began
        began = time.perf_counter()
        predicted = _predict(trainer, [joined(row) for row in episode.queries])
        return Answer(predicted, adapt_s, time.perf_counter() - began)


@torch.no_grad()
def _predict(trainer: FastFitTrainer, texts: list[str]) -> list[str]:
    """Labels of texts, cut to the length of the support set's longest as FastFit's own evaluation cuts them."""
    model = trainer.model.eval()
    length = len(trainer.train_dataset[0]["query_input_ids"])
    predicted: list[str] = []
    for start in range(0, len(texts), _QUERIES_AT_ONCE):
        chunk = texts[start : start + _QUERIES_AT_ONCE]
        tokens = trainer.tokenizer(
            chunk,
            padding="max_length",
            max_length=length,
            truncation=True,
            return_attention_mask=True,
            return_tensors="pt",
        )
        inputs = tokens["input_ids"].to(model.device), tokens["attention_mask"].to(model.device)
        best = model.inference_forward(*inputs).argmax(dim=1)
        predicted += [trainer.labels[i] for i in best.tolist()]
    return predicted


def main() -> None:
    """Answers what the file of outcomes has no line of yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=Path, required=True, help="written by python -m benchmarks.accuracy")
    parser.add_argument("--out", type=Path, required=True, help="file of outcomes; lines are added to it")
    parser.add_argument("--encoder", type=Path, required=True, help="folder of the stock encoder")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    options = parser.parse_args()
    sys.argv = sys.argv[:1]  # FastFit reads the command line by itself where it finds one
    run(FastFit(options.encoder, options.device), read_episodes(options.episodes), options.out)


if __name__ == "__main__":
    main()
