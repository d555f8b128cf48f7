"""The playground's files: what is served, and its words in both languages."""

import json
import re
from pathlib import Path

import httpx
import pytest

FOLDER = Path(__file__).parents[2] / "service" / "playground"
FILES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file())
STRINGS = json.loads((FOLDER / "strings.json").read_text(encoding="utf-8"))
SCRIPTS = "\n".join(path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.js")))
PAGE = (FOLDER / "index.html").read_text(encoding="utf-8")


def forms(words: object) -> list[str]:
    """The texts of a key: one, or one a plural form."""
    return list(words.values()) if isinstance(words, dict) else [str(words)]


def test_both_languages_have_the_same_keys() -> None:
    assert set(STRINGS) == {"en", "zh"}
    assert STRINGS["en"].keys() == STRINGS["zh"].keys()


@pytest.mark.parametrize("key", STRINGS["en"])
def test_both_languages_have_the_same_values_in_their_words(key: str) -> None:
    english, chinese = STRINGS["en"][key], STRINGS["zh"][key]
    assert type(english) is type(chinese)
    named = {frozenset(re.findall(r"\{(\w+)\}", text)) for text in [*forms(english), *forms(chinese)]}
    assert len(named) == 1
    assert all(text.strip() for text in [*forms(english), *forms(chinese)])


def test_all_words_are_used_and_all_that_are_used_exist() -> None:
    on_page = set(re.findall(r'data-t(?:-label|-placeholder)?="([^"]+)"', PAGE))
    quoted = set(re.findall(r'"((?:[a-z]+)\.[a-z_]+)"', SCRIPTS)) & STRINGS["en"].keys()
    called = set(re.findall(r'\bt\("([^"]+)"', SCRIPTS))
    made = {key for key in STRINGS["en"] if key.startswith(("sample.", "code."))}
    assert (on_page | called) - STRINGS["en"].keys() == set()
    assert STRINGS["en"].keys() - on_page - quoted - made == set()
    samples = {f"sample.{path.name}" for path in (FOLDER / "examples").iterdir()}
    assert samples == {key for key in STRINGS["en"] if key.startswith("sample.")}


def test_the_page_is_in_english_before_its_script_runs() -> None:
    for key, text in re.findall(r'data-t="([^"]+)"[^>]*>([^<]+)<', PAGE):
        assert text.strip() == STRINGS["en"][key], key


def test_no_script_makes_html_of_texts() -> None:
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("):
        assert word not in SCRIPTS


def test_the_page_has_no_inline_script_or_style(shared_service: httpx.Client) -> None:
    answer = shared_service.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'" in policy
    page = answer.text
    assert "{{" not in page
    assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", page))
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|https?://(?!handful/)", page)


@pytest.mark.parametrize("name", [name for name in FILES if name != "index.html"])
def test_every_file_is_served_as_what_it_is(shared_service: httpx.Client, name: str) -> None:
    answer = shared_service.get(f"/playground/{name}")
    assert answer.content == (FOLDER / name).read_bytes()
    kinds = {"js": "text/javascript", "css": "text/css", "json": "application/json", "svg": "image/svg+xml"}
    kind = kinds.get(name.rpartition(".")[2])
    assert kind is None or answer.headers["content-type"].startswith(kind)
    assert answer.headers["x-content-type-options"] == "nosniff"
    again = shared_service.get(f"/playground/{name}", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path", ["", "index.html", "../app.py", "%2e%2e/app.py", "..%2fapp.py", "examples", "examples/", "//etc/passwd"]
)
def test_nothing_else_is_served(shared_service: httpx.Client, path: str) -> None:
    answer = shared_service.get(f"/playground/{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_scripts_are_short_and_load_nothing_from_elsewhere() -> None:
    for path in FOLDER.glob("*.js"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 350
    addresses = set(re.findall(r"https?://[^\s\"'`)]+", SCRIPTS + (FOLDER / "style.css").read_text()))
    assert addresses == {"http://www.w3.org/2000/svg"}
