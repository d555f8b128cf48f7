"""The recorder of the golden answers: what the default checkpoint answers to a fixed list of episodes.

``python -m tests.golden.record`` writes ``answers.jsonl`` anew. ``python -m tests.golden.record --compare`` writes
nothing and prints how far each episode's answer is from the record. Both take some 20 s of one core.

Each line of ``episodes.jsonl`` is an episode: its name and the body of a ``/v1/classify`` request. Episodes with a
``batch`` are stored tasks instead: all tasks of a batch are adapted, then their queries are predicted at the same time.

The first line of ``answers.jsonl`` has the instructions of the CPU that it was made on; each other line has the answers
to an episode in ``float32`` and in ``int8``. int8 is about the encoder, so episodes that name a learner have none.
"""

import argparse
import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, get_args

import httpx
import torch
from pydantic import SecretStr

from service.settings import Settings
from tests.conftest import STORE_TIMEOUT_S, running_service

Products = Literal["float32", "int8"]
Answer = dict[str, Any]

EPISODES = Path(__file__).with_name("episodes.jsonl")
ANSWERS = Path(__file__).with_name("answers.jsonl")

_INSTRUCTIONS = ("avx2", "avx512_f", "avx512_vnni", "avx_vnni", "amx_int8")
"""Instructions that decide the order in which floats are added, and whether sums of int8 products are exact."""

_OF_PREDICTING = {"queries", "top_k", "abstain"}
_OF_ADAPTING = ("labels", "losses", "support_accuracy", "leave_one_out_accuracy")


def this_cpu() -> dict[str, bool]:
    """Which of the instructions that matter this CPU has."""
    found = torch.cpu.get_capabilities()
    return {name: bool(found.get(name)) for name in _INSTRUCTIONS}


def recorded_cpu() -> dict[str, bool]:
    """Which of them the CPU of the record has."""
    instructions: dict[str, bool] = read_lines(ANSWERS)[0]["cpu"]
    return instructions


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def answer_episodes(products: Products, *, threads: int = 1) -> dict[str, Answer]:
    """The answers of the default checkpoint by ONNX Runtime, by the episode's name."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            store=SecretStr(f"sqlite:{Path(folder) / 'golden.db'}"),
            device="cpu",
            runtime="onnxruntime",
            precision=products,
            threads=threads,
            store_timeout_s=STORE_TIMEOUT_S,
        )
        episodes = [
            episode for episode in read_lines(EPISODES) if products == "float32" or "learner" not in episode["request"]
        ]
        answers: dict[str, Answer] = {}
        with running_service(settings) as client:
            for batch, together in groupby(episodes, key=lambda episode: episode.get("batch")):
                answer = _classify if batch is None else _adapt_and_predict
                answers.update(answer(client, list(together)))
    if products == "float32":
        return answers
    return {name: {"predictions": answer["predictions"]} for name, answer in answers.items()}


def _classify(client: httpx.Client, episodes: list[dict[str, Any]]) -> dict[str, Answer]:
    answers = {}
    for episode in episodes:
        body = _post(client, "/v1/classify", episode["request"])
        answers[episode["name"]] = _answer(body, body["predictions"])
    return answers


def _adapt_and_predict(client: httpx.Client, episodes: list[dict[str, Any]]) -> dict[str, Answer]:
    tasks = {f"golden-{place}": episode for place, episode in enumerate(episodes)}

    def adapt(task: str) -> dict[str, Any]:
        request = {name: value for name, value in tasks[task]["request"].items() if name not in _OF_PREDICTING}
        return _post(client, f"/v1/tasks/{task}/adapt", request)

    def predict(task: str) -> dict[str, Any]:
        request = {name: value for name, value in tasks[task]["request"].items() if name in _OF_PREDICTING}
        return _post(client, f"/v1/tasks/{task}/predict", request)

    adapted = [adapt(task) for task in tasks]
    with ThreadPoolExecutor(len(tasks)) as pool:
        predicted = list(pool.map(predict, tasks))
    return {
        episode["name"]: _answer(body, prediction["predictions"])
        for episode, body, prediction in zip(tasks.values(), adapted, predicted, strict=True)
    }


def _post(client: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    response = client.post(path, json=body)
    assert response.status_code == 200, f"{path}: {response.text}"
    answer: dict[str, Any] = response.json()
    return answer


def _answer(body: dict[str, Any], predictions: list[dict[str, Any]]) -> Answer:
    chosen = [{"label": prediction["label"], "scores": prediction["scores"]} for prediction in predictions]
    answer: Answer = _rounded({**{name: body[name] for name in _OF_ADAPTING}, "predictions": chosen})
    return answer


def _rounded(value: Any) -> Any:
    """The value with its floats at seven significant digits."""
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, list) else value


def recorded_answers(products: Products) -> dict[str, Answer]:
    """The answers of the record, by the episode's name."""
    return {line["name"]: line[products] for line in read_lines(ANSWERS)[1:] if products in line}


def differences(recorded: Answer, answer: Answer) -> dict[str, float]:
    """The largest absolute difference of each part of an answer; infinite where a part does not have the same shape."""
    apart = {part: _difference(recorded[part], answer[part]) for part in recorded if part != "predictions"}
    before, now = ([prediction["scores"] for prediction in each["predictions"]] for each in (recorded, answer))
    return {**apart, "scores": _difference(before, now)}


def _difference(left: Any, right: Any) -> float:
    if isinstance(left, dict) and isinstance(right, dict) and left.keys() == right.keys():
        return max((_difference(left[name], right[name]) for name in left), default=0.0)
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        return max((_difference(*pair) for pair in zip(left, right, strict=True)), default=0.0)
    if isinstance(left, float | int) and isinstance(right, float | int):
        return abs(left - right)
    return 0.0 if left == right else float("inf")


def changed_labels(recorded: Answer, answer: Answer, tolerance: float) -> list[int]:
    """The places of the queries whose label is another one.

    Two scores that each may move by ``tolerance`` can change places where they are less than twice that apart. Such a
    query does not count.
    """
    changed = []
    for place, (before, now) in enumerate(zip(recorded["predictions"], answer["predictions"], strict=True)):
        best, second = sorted(before["scores"].values(), reverse=True)[:2]
        if best - second > 2 * tolerance and before["label"] != now["label"]:
            changed.append(place)
    return changed


def _write() -> None:
    answers = {products: answer_episodes(products) for products in get_args(Products)}
    with ANSWERS.open("w", encoding="utf-8") as file:
        print(json.dumps({"cpu": this_cpu()}), file=file)
        for name in answers["float32"]:
            line = {
                "name": name,
                **{products: by_name[name] for products, by_name in answers.items() if name in by_name},
            }
            print(json.dumps(line, ensure_ascii=False), file=file)


def _print_differences(threads: int) -> None:
    for products in get_args(Products):
        recorded = recorded_answers(products)
        for name, answer in answer_episodes(products, threads=threads).items():
            parts = differences(recorded[name], answer)
            print(products, name, *(f"{part} {value:.1e}" for part, value in parts.items()), sep="\t")


def main() -> None:
    """The command line of the recorder."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden.record", description=main.__doc__)
    parser.add_argument("--compare", action="store_true", help="print the differences to the record, write nothing")
    parser.add_argument("--threads", type=int, default=1, help="threads to compute with while comparing")
    options = parser.parse_args()
    if options.compare:
        _print_differences(options.threads)
    else:
        _write()


if __name__ == "__main__":
    main()
