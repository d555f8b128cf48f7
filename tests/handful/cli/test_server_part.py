"""Loading the server's part, and the advice on what it lacks."""

import gc
from importlib import metadata

import pytest

from handful.cli.server_part import advice_on, loading, require

REQUIRES = [
    "httpx>=0.27",
    "pydantic-settings>=2.7; extra == 'server'",
    'transformers>=5; extra == "encoders"',
    'matplotlib>=3.10; extra == "train"',
    "uvloop>=0.21; sys_platform != 'win32' and extra == 'server'",
]


def test_garbage_is_collected_again_after_loading_also_where_loading_fails() -> None:
    with loading():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0
    gc.unfreeze()
    with pytest.raises(OSError, match="no file"), loading():
        raise OSError("no file")
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("transformers", "encoders"),
        ("transformers.models", "encoders"),
        ("matplotlib", "train"),
        ("pydantic_settings", "server"),
        ("uvloop", "server"),
        ("numpy", "server"),  # comes with others
    ],
)
def test_the_advice_names_the_extra_that_installs_a_package(
    monkeypatch: pytest.MonkeyPatch, module: str, extra: str
) -> None:
    monkeypatch.setattr(metadata, "requires", lambda _: REQUIRES)
    advice = advice_on(ModuleNotFoundError(f"No module named {module!r}", name=module))
    assert advice is not None
    assert f"pip install 'handful[{extra}]'" in advice
    assert module.partition(".")[0] in advice


def test_a_missing_module_of_our_own_is_a_bug() -> None:
    assert advice_on(ModuleNotFoundError("No module named 'service.absent'", name="service.absent")) is None


def test_a_package_that_is_needed_at_the_end_is_required_at_the_beginning() -> None:
    require("json")
    with pytest.raises(ModuleNotFoundError) as raised:
        require("nonesuch")
    assert raised.value.name == "nonesuch"
