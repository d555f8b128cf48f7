"""Settings: one reader of the environment, which refuses unknown variables."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from handful import environment
from handful.cli.main import app as cli
from service.settings import (
    PREFIX,
    Settings,
    SettingsInvalid,
    granted_threads,
    load_settings,
)
from tests.waiting import LIMIT_S


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes the caller's settings from the environment."""
    for name in os.environ:
        if name.upper().startswith(PREFIX):
            monkeypatch.delenv(name)


def test_an_unknown_variable_is_refused_with_a_suggestion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDFUL_CHEKPOINT", "x")
    with pytest.raises(SettingsInvalid, match=r"HANDFUL_CHEKPOINT.*did you mean HANDFUL_CHECKPOINT"):
        load_settings()


def test_an_unknown_variable_that_is_like_none_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDFUL_ZZZZZZ", "x")
    with pytest.raises(SettingsInvalid, match=r"HANDFUL_ZZZZZZ.*serve --help"):
        load_settings()


def test_variables_that_kubernetes_makes_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDFUL_SERVICE_HOST", "10.0.0.1")
    with pytest.raises(SettingsInvalid, match="enableServiceLinks"):
        load_settings()


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    examples = {"host": "0.0.0.0", "store": "sqlite:other.db", "device": "cuda:1", "log_level": "debug"}  # noqa: S104
    examples |= {"runtime": "torch", "precision": "int8", "threads": "3", "workers": "2", "store_id": "0f" * 16}
    examples |= {"root_path": "/few", "cors_origins": "https://app.example.com"}
    examples |= {"checkpoint": "one"}
    examples |= {"readapt_max_drop": "0.25", "readapt_max_disagreement": "0.25", "readapt_on_first_use": "false"}
    examples |= {"feedback_tolerance": "0.5", "answer_id_secret": "other", "doors": "none"}
    values = {str: "other", int: "5000", float: "7.5", bool: "true"}
    kind = Settings.model_fields[name].annotation
    value = examples.get(name) or values[kind]  # type: ignore[index]
    monkeypatch.setenv(PREFIX + name.upper(), value)
    loaded = getattr(load_settings(), name)
    loaded = loaded.get_secret_value() if isinstance(loaded, SecretStr) else loaded
    loaded = ",".join(loaded) if isinstance(loaded, tuple) else loaded
    assert str(loaded).lower() == value
    default = Settings.model_fields[name].default
    assert loaded != (default.get_secret_value() if isinstance(default, SecretStr) else default)


def test_what_the_client_reads_is_known_to_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in environment.VARIABLES:
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    load_settings()


def test_an_option_wins_over_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDFUL_PORT", "1234")
    assert load_settings().port == 1234
    assert load_settings(port=4321).port == 4321
    assert load_settings(port=None).port == 1234


def test_the_variable_of_the_checkpoint_may_name_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDFUL_CHECKPOINT", "one, folder/two ,three\n")
    assert load_settings().checkpoint == ("one", "folder/two", "three")
    # A flag is taken as it is, since the name of a folder may have a comma
    assert load_settings(checkpoint=["with, comma", "b"]).checkpoint == ("with, comma", "b")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "65536"),
        ("port", "http"),
        ("store", "mysql://localhost"),
        ("store", "handful.db"),
        ("store", ""),
        ("store", "sqlite:"),
        ("store", "sqlite:///"),
        ("store", "sqlite::memory:"),
        ("store", "sqlite://host/handful.db"),
        ("store", "sqlite:///handful.db?timeout=5"),
        ("device", "tpu"),
        ("threads", "-1"),
        ("log_level", "loud"),
        ("max_classes", "1"),
        ("store_timeout_s", "0"),
        ("cache_max_adapters", "0"),
        ("drain_delay_s", "-1"),
        ("allow_open", "maybe"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(PREFIX + name.upper(), value)
    with pytest.raises(SettingsInvalid, match=name):
        load_settings()


def test_a_refusal_does_not_show_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDFUL_STORE", "mysql://user:hunter2@localhost")
    with pytest.raises(SettingsInvalid) as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(Settings(store=SecretStr("redis://:hunter2@localhost")))


def test_settings_never_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]


def test_every_setting_is_described() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


def test_help_of_serve_shows_every_setting_with_its_variable() -> None:
    shown = CliRunner().invoke(cli, ["serve", "--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"})
    assert shown.exit_code == 0, shown.output
    words = " ".join(shown.output.split())
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in words
        assert f"[env: {PREFIX}{name.upper()}]" in words
        assert " ".join(str(field.description).split()) in words


@pytest.mark.parametrize(
    ("content", "expected"),
    [("200000 100000", 2), ("50000 100000", 1), ("150000 100000", 2), ("max 100000", None), ("", None), (None, None)],
)
def test_threads_follow_the_containers_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, expected: int | None
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    if content is not None:
        (tmp_path / "cpu.max").write_text(content)
    assert granted_threads(tmp_path) == (8 if expected is None else expected)


def test_the_server_reports_an_unknown_setting_in_one_line(tmp_path: Path) -> None:
    started = subprocess.run(
        [sys.executable, "-m", "handful", "serve"],
        env={**os.environ, "HANDFUL_PROT": "1", "COLUMNS": "200"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert started.returncode == 1
    assert "HANDFUL_PROT" in started.stderr
    assert "HANDFUL_PORT" in started.stderr
    assert "Traceback" not in started.stderr
    assert started.stdout == ""
