"""Options of a command that are made from a model's fields."""

from typing import Any, Literal

import typer
from pydantic import BaseModel, Field
from typer.testing import CliRunner

from handful.cli.model_options import validated, with_options_of


class Oven(BaseModel):
    """A model with a field of each kind."""

    minutes: int = Field(20, ge=1, description="Time in the oven.")
    steam: bool = Field(True, description="Whether there is steam.")
    kind: Literal["gas", "wood"] | None = Field(None, description="What burns.")
    breads: list[str] = Field([], description="Name of a bread; may be given again.")


def bake(baker: str, **given: Any) -> None:
    """Bake."""
    options = validated(Oven, {name: value for name, value in given.items() if value not in (None, [])})
    typer.echo(f"{baker}: {options.model_dump()}, given {sorted(name for name, value in given.items() if value)}")


APP = typer.Typer(rich_markup_mode=None)
APP.command()(with_options_of(Oven, bake, leave_out={"breads"}))


def run(*words: str) -> str:
    """The command's output."""
    return CliRunner().invoke(APP, words).output


def test_each_field_is_an_option_and_what_is_not_given_has_the_models_default() -> None:
    default = {"minutes": 20, "steam": True, "kind": None, "breads": []}
    assert run("me") == f"me: {default}, given []\n"
    changed = {**default, "minutes": 5, "steam": False, "kind": "gas"}
    assert run("me", "--minutes", "5", "--no-steam", "--kind", "gas") == f"me: {changed}, given ['kind', 'minutes']\n"
    assert run("me", "--steam") == f"me: {default}, given ['steam']\n"


def test_a_value_out_of_bounds_is_refused_by_the_fields_name() -> None:
    assert "minutes: Input should be greater than or equal to 1" in run("me", "--minutes", "0")
    assert "kind: Input should be 'gas' or 'wood'" in run("me", "--kind", "coal")


def test_help_has_the_fields_descriptions_and_defaults() -> None:
    text = " ".join(run("--help").split())
    assert "Time in the oven. [default: 20]" in text
    assert "What burns. [gas|wood]" in text
    assert "--breads" not in text
