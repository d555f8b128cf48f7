"""The declared codes of errors and warnings are those that the code gives."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

from service.error_codes import ERROR_CODES, WARNING_CODES

ROOT = Path(__file__).parents[2]
DECLARED = ROOT / "service" / "error_codes.py"
SOURCES = [
    path for package in ("service", "metalearn", "model_store") for path in (ROOT / package).rglob("*.py")
    if path != DECLARED
]  # fmt: skip
GIVEN_BY = {
    "InvalidContent": 0, "InvalidSupportSet": 0, "SupportTooLarge": 0, "_store_away": 0, "fault": 0, "limit": 0,
    "ApiError": 1, "_Refused": 1, "_at_fault": 1, "_invalid": 1, "invalid_content": 1,
    "_refuse": None,
}  # fmt: skip
"""Call -> the place of the argument that is the code of an error; None where it is the keyword ``code``."""


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """The calls in a file by the name of the function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            function = node.func
            yield function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", ""), node


def codes(places: Mapping[str, int | None]) -> set[str]:
    """The constants in these places of calls."""
    found: set[str] = set()
    for path in SOURCES:
        for name, call in calls(path):
            if name in places:
                place = places[name]
                arguments = [each.value for each in call.keywords if each.arg == "code"]
                arguments += call.args[place : place + 1] if place is not None else []
                found |= {each.value for each in arguments if isinstance(each, ast.Constant)}
    return found


def constants() -> set[str]:
    """All text constants of the code."""
    return {
        node.value
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_every_code_that_is_given_is_declared() -> None:
    assert sorted(codes(GIVEN_BY) - set(ERROR_CODES)) == []


def test_every_declared_code_is_given() -> None:
    # 405 and its like are named after their status
    derived = {"method_not_allowed", "unauthorized"}
    assert sorted(set(ERROR_CODES) - constants() - derived) == []


def test_warnings_are_the_declared_ones() -> None:
    assert codes({"_warning": 0}) == set(WARNING_CODES)


def test_the_statuses_are_those_of_the_code() -> None:
    stated = {
        call.args[1].value: call.args[0].value
        for path in SOURCES
        for name, call in calls(path)
        if name in {"ApiError", "_Refused", "_at_fault"}
        and len(call.args) > 1
        and isinstance(call.args[0], ast.Constant)
        and isinstance(call.args[1], ast.Constant)
    }
    assert len(stated) > 20
    assert stated == {code: ERROR_CODES[str(code)].status for code in stated}


def test_causes_and_remedies_are_written() -> None:
    assert all(error.cause and error.remedy and "|" not in error.cause + error.remedy for error in ERROR_CODES.values())
    assert all(WARNING_CODES.values())
