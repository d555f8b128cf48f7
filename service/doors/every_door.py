"""The list of all doors."""

from fastapi import FastAPI
from pydantic import BaseModel

from service.doors import (
    classify_bodies,
    cohere,
    jina,
    label_studio,
    label_studio_bodies,
    model_context,
    open_inference,
    openai,
    text_classification,
)

REQUESTS: tuple[type[BaseModel], ...] = (
    text_classification.TextClassificationRequest,
    openai.ClassifyInput,
    cohere.CohereClassifyRequest,
    jina.JinaTrainRequest,
    jina.JinaClassifyRequest,
    open_inference.InferRequest,
    label_studio_bodies.SetupRequest,
    label_studio_bodies.LabelStudioPredictRequest,
    label_studio_bodies.WebhookRequest,
)
"""The bodies that doors read themselves, for the OpenAPI document."""


def add_to(app: FastAPI) -> None:
    """Adds the routes of all doors. The one of ``classify`` takes the place of our own, which it answers as well."""
    app.include_router(classify_bodies.router)
    for door in (text_classification, openai, jina, open_inference, label_studio, model_context):
        app.include_router(door.router)
