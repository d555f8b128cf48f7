"""A server as a team writes it in an afternoon: sentence-transformers, and scikit-learn's regression per tenant.

ENCODER=FOLDER PYTHON -m uvicorn benchmarks.peers.serve_regression:app

PYTHON is that of an environment with ``requirements-regression.txt``. It answers to the same requests as this project,
as far as the benchmark of speed makes them: adapt and predict, a tenant for each key. Nothing is stored, checked or
bounded. With EMBEDDINGS_URL, features come from an embedding server with OpenAI's interface, such as infinity's.
"""

import os
from collections.abc import Sequence
from typing import Annotated, Any

import httpx
import numpy as np
from fastapi import FastAPI, Header
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

app = FastAPI()
_heads: dict[tuple[str, str], LogisticRegression] = {}
_embeddings_url = os.environ.get("EMBEDDINGS_URL")
_encoder = None if _embeddings_url else SentenceTransformer(os.environ["ENCODER"], device="cpu")
_client = httpx.Client(timeout=60, limits=httpx.Limits(max_connections=64))


class Adapt(BaseModel):
    """Labelled examples."""

    support: list[dict[str, str]]


class Predict(BaseModel):
    """Texts to classify."""

    queries: list[str]


# Plain functions, which FastAPI runs in its threads, as most would write them
@app.get("/readyz")
def ready() -> dict[str, str]:
    """Whether it answers."""
    return {"status": "ok"}


@app.post("/v1/tasks/{task}/adapt")
def adapt(task: str, body: Adapt, authorization: Annotated[str, Header()]) -> dict[str, Any]:
    """Fits a head."""
    head = LogisticRegression(C=30, max_iter=1000)
    head.fit(_features([example["text"] for example in body.support]), [example["label"] for example in body.support])
    _heads[authorization, task] = head
    return {"task": task, "labels": list(head.classes_)}


@app.post("/v1/tasks/{task}/predict")
def predict(task: str, body: Predict, authorization: Annotated[str, Header()]) -> dict[str, Any]:
    """Classifies."""
    head = _heads[authorization, task]
    predictions = []
    for row in head.predict_proba(_features(body.queries)):
        scores = dict(zip(head.classes_, row.tolist(), strict=True))
        label = max(scores, key=lambda each: scores[each])
        predictions.append({"label": label, "confidence": scores[label], "scores": scores})
    return {"task": task, "predictions": predictions}


def _features(texts: Sequence[str]) -> np.ndarray[Any, Any]:
    if _encoder is not None:
        features: np.ndarray[Any, Any] = _encoder.encode(list(texts), normalize_embeddings=True)
        return features
    answer = _client.post(f"{_embeddings_url}/embeddings", json={"model": "encoder", "input": list(texts)})
    answer.raise_for_status()
    return np.array([each["embedding"] for each in answer.json()["data"]])
