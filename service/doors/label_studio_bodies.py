"""The requests of Label Studio, and the answers that it reads."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from service.doors.door import DoorAnswer


class _FromLabelStudio(BaseModel):
    # Label Studio adds fields from release to release
    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)


Name = int | str
"""The id of a task or of an annotation."""


class LabelStudioTask(_FromLabelStudio):
    """A task of Label Studio: something to label."""

    id: Name | None = None
    data: dict[str, Any] = Field(default_factory=dict, description="Its fields, the text among them.")


class LabelStudioAnnotation(_FromLabelStudio):
    """An annotation of a task."""

    id: Name
    task: Name | None = None
    result: list[dict[str, Any]] = Field(default_factory=list, description="What was chosen.")
    was_cancelled: bool | None = Field(None, description="Whether the task was skipped.")


class LabelStudioProject(_FromLabelStudio):
    """A project."""

    label_config: str = Field("", description="The labelling interface.")


class SetupRequest(_FromLabelStudio):
    """The project that connects."""

    label_config: str = Field(alias="schema", description="The labelling interface.")


class LabelStudioPredictRequest(_FromLabelStudio):
    """Tasks that wait for a prediction."""

    tasks: list[LabelStudioTask]
    label_config: str = Field(description="The labelling interface.")


class WebhookRequest(_FromLabelStudio):
    """Something that happened in a project."""

    action: str
    project: LabelStudioProject | None = None
    task: LabelStudioTask | list[LabelStudioTask] | None = None
    annotation: LabelStudioAnnotation | list[LabelStudioAnnotation] | None = None
    annotations: list[LabelStudioAnnotation] | None = None
    tasks: list[LabelStudioTask] | None = None


class BackendHealth(DoorAnswer):
    """The backend, which is there."""

    status: str = "UP"
    model_class: str = "Handful"


class SetupAnswer(DoorAnswer):
    """The version that answers."""

    model_version: str


class LabelStudioPrediction(DoorAnswer):
    """The prediction for one task."""

    result: list[dict[str, Any]]
    score: float
    model_version: str


class LabelStudioPredictions(DoorAnswer):
    """Predictions, in the order of the tasks."""

    results: list[LabelStudioPrediction]
    model_version: str


class WebhookAnswer(DoorAnswer):
    """What was done."""

    status: str
    result: dict[str, Any]
