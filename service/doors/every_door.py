"""The list of all doors."""

from fastapi import FastAPI
from pydantic import BaseModel

from service.doors import classify_bodies, cohere, jina, openai, text_classification

REQUESTS: tuple[type[BaseModel], ...] = (
    text_classification.TextClassificationRequest,
    openai.ClassifyInput,
    cohere.CohereClassifyRequest,
    jina.JinaTrainRequest,
    jina.JinaClassifyRequest,
)
"""The bodies that doors read themselves, for the OpenAPI document."""


def add_to(app: FastAPI) -> None:
    """Adds the routes of all doors. The one of ``classify`` takes the place of our own, which it answers as well."""
    app.include_router(classify_bodies.router)
    for door in (text_classification, openai, jina):
        app.include_router(door.router)
