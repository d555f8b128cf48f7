"""Recipes: the stages that make a checkpoint, in order, as a file of TOML. Light at import."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from metalearn.errors import MetalearnError
from metatrain.options import ModelOptions, TrainingOptions

SHIPPED = Path(__file__).parent / "recipes"

_STAGE = "stage:"
"""Begins a reference to the result of an earlier stage."""


class InvalidRecipe(MetalearnError):
    """A recipe cannot be read, or its stages do not go together."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Stage(_Frozen):
    """A step of a recipe.

    Attributes:
        name: Also of the folder of its result, beside those of the other stages, and of the checkpoint in it.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")


class Select(_Stage):
    """Every n-th file of a folder of tasks, by name, the first one included."""

    make: Literal["select"]
    folder: str
    every: int = Field(ge=1)


class Create(_Stage):
    """A checkpoint without meta-training."""

    make: Literal["create"]
    options: dict[str, Any] = {}


class Train(_Stage):
    """A meta-training run. Options of its own come before those of the recipe's ``training``."""

    make: Literal["train"]
    options: dict[str, Any] = {}


class Average(_Stage):
    """The first checkpoint with its layers averaged with the second's."""

    make: Literal["average"]
    first: str
    second: str
    share: float = Field(0.5, ge=0, le=1)


class Derive(_Stage):
    """A checkpoint that differs from its base in what is given."""

    make: Literal["derive"]
    base: str
    label_text_count: float | None = Field(None, ge=1e-3, le=1e3)
    steps: int | None = Field(None, ge=0)
    max_tokens: int | None = Field(None, ge=8)


class Calibrate(_Stage):
    """A checkpoint with fitted confidences."""

    make: Literal["calibrate"]
    base: str
    tasks: list[str]
    episodes: int = Field(400, ge=2)
    half: bool = False
    seed: int = 0


Stage = Annotated[Select | Create | Train | Average | Derive | Calibrate, Field(discriminator="make")]
AnyStage = TypeVar("AnyStage", bound=_Stage)


class Recipe(_Frozen):
    """The stages that make a checkpoint. The last stage's result is the checkpoint.

    Attributes:
        training: Options that all training stages share.
        stages: In their order.
    """

    training: dict[str, Any] = {}
    stages: list[Stage] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        earlier: set[str] = set()
        for stage in self.stages:
            if stage.name in earlier:
                raise ValueError(f"two stages are called {stage.name!r}")
            for text in _texts(stage.model_dump(exclude={"name", "make"})):
                if text.startswith(_STAGE) and text.removeprefix(_STAGE) not in earlier:
                    raise ValueError(f"{stage.name}: {text!r} is no earlier stage")
            earlier.add(stage.name)
        return self

    def located(self, data: Path, out: Path, overrides: Mapping[str, Any]) -> "Recipe":
        """The recipe with the paths of one machine.

        Args:
            data: The folder of the task files.
            out: The folder that has one for each stage.
            overrides: Training options that take the place of the recipe's in all stages.

        Raises:
            InvalidRecipe: A file is absent, or options are out of bounds.
        """
        return Recipe(
            stages=[self._located(stage, data.absolute(), out.absolute(), overrides) for stage in self.stages]
        )

    def _located(self, stage: Stage, data: Path, out: Path, overrides: Mapping[str, Any]) -> Stage:
        def result(text: str) -> str:
            return str(out / text.removeprefix(_STAGE)) if text.startswith(_STAGE) else text

        def file(text: str) -> str:
            return result(text) if text.startswith(_STAGE) else str(data / text)

        def files(texts: Sequence[str]) -> list[str]:
            found = [sorted(map(str, data.glob(text))) if "*" in text else [file(text)] for text in texts]
            return [path for paths in found for path in paths]

        if isinstance(stage, Train):
            given = {**self.training, **stage.options}
            given |= {name: files(given[name]) for name in ("tasks", "valid", "unlabelled") if name in given}
            given |= {name: file(given[name]) for name in ("index",) if given.get(name)}
            given |= {name: result(given[name]) for name in ("start_from", "encoder") if given.get(name)}
            return _with(stage, options=_checked(stage, TrainingOptions, {**given, **overrides}))
        if isinstance(stage, Create):
            return _with(stage, options=_checked(stage, ModelOptions, stage.options))
        if isinstance(stage, Select):
            return _with(stage, folder=file(stage.folder))
        if isinstance(stage, Average):
            return _with(stage, first=result(stage.first), second=result(stage.second))
        if isinstance(stage, Calibrate):
            return _with(stage, base=result(stage.base), tasks=files(stage.tasks))
        return _with(stage, base=result(stage.base))


def read_recipe(reference: str) -> Recipe:
    """The recipe in a file, or the shipped one of a name.

    Raises:
        InvalidRecipe: There is none, or it is malformed.
    """
    path = next((path for path in (Path(reference), SHIPPED / f"{reference}.toml") if path.is_file()), None)
    if path is None:
        names = ", ".join(sorted(path.stem for path in SHIPPED.glob("*.toml")))
        raise InvalidRecipe(f"{reference!r} is neither a file nor a shipped recipe ({names})")
    try:
        return Recipe.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InvalidRecipe(f"cannot read the recipe {path}: {error}") from error


def select_files(stage: Select, out: Path) -> None:
    """Links the selected files into a folder.

    Raises:
        InvalidRecipe: The folder has no task files.
    """
    found = sorted(Path(stage.folder).glob("*.jsonl"))
    if not found:
        raise InvalidRecipe(f"{stage.name}: no .jsonl files in {stage.folder}")
    out.mkdir(parents=True, exist_ok=True)
    for file in found[:: stage.every]:
        link = out / file.name
        if not link.is_symlink():
            link.symlink_to(file)


def _checked(stage: Stage, model: type[ModelOptions], given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, valid."""
    try:
        options = model.model_validate({**given, "name": stage.name})
    except ValidationError as error:
        raise InvalidRecipe(f"{stage.name}: {error}") from error
    return options.model_dump(mode="json")


def _with(stage: AnyStage, **changes: Any) -> AnyStage:
    return stage.model_copy(update=changes)


def _texts(value: Any) -> list[str]:
    """All texts in nested lists and mappings."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return [text for each in inner for text in _texts(each)]
