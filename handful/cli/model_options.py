"""Command-line options made from a pydantic model: one per field, with the field's description."""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import wraps
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import typer
from pydantic import BaseModel, ValidationError

Model = TypeVar("Model", bound=BaseModel)


def with_options_of(
    model: type[BaseModel], command: Callable[..., None], *, leave_out: Collection[str] = ()
) -> Callable[..., None]:
    """Adds an option per field to a command's own parameters.

    An option that is not given is None, or an empty list, so that the model applies its own default.

    Args:
        model: The model that declares the options.
        command: The command, which takes them by name.
        leave_out: Names of fields that get no option. A field for which the command has a parameter gets none either.
    """
    own = list(inspect.signature(command).parameters.values())
    taken = {parameter.name for parameter in own} | set(leave_out)
    made = [_parameter(name, model) for name in model.model_fields if name not in taken]

    @wraps(command)
    def wrapper(**options: Any) -> None:
        command(**options)

    parameters = [*(p for p in own if p.kind is not inspect.Parameter.VAR_KEYWORD), *made]
    wrapper.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    )
    wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
    return wrapper


def validated(model: type[Model], given: Mapping[str, Any]) -> Model:
    """Builds the model from the given options.

    Raises:
        BadParameter: A value is out of bounds, or values do not go together.
    """
    try:
        return model(**given)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}".lstrip(": ") for e in error.errors(include_input=False)]
        raise typer.BadParameter("; ".join(lines)) from None


def _parameter(name: str, model: type[BaseModel]) -> inspect.Parameter:
    field = model.model_fields[name]
    kind, choices = _plain(field.annotation)
    flag = f"--{name.replace('_', '-')}"
    listed = f" [{'|'.join(choices)}]" if choices else ""
    default = "" if field.default in (None, []) else f" [default: {field.default}]"
    option = typer.Option(
        f"{flag}/--no{flag[1:]}" if kind is bool else flag,
        help=f"{field.description}{listed}{default}",
        show_default=False,
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def _plain(annotation: Any) -> tuple[Any, Sequence[str]]:
    """The type that the command line reads, and its allowed values. ``| None`` is left out of the type."""
    kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
    if NoneType in get_args(annotation) and len(kinds) == 1:
        return _plain(kinds[0])
    if get_origin(annotation) is Literal:
        return str, get_args(annotation)
    return annotation, ()
