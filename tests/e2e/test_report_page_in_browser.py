"""The page of ``handful tasks report --html`` in a real Chromium: readable in every look, and never a script."""

from pathlib import Path
from typing import Any

import pytest

from handful.report_page import report_page
from tests.e2e.test_playground import HOSTILE, LOOKS, browser, pytestmark, violations  # noqa: F401 - pytest's
from tests.handful.test_report_page import report_with


@pytest.mark.parametrize("look", [look for look in LOOKS if look != "chinese"])
def test_a_report_can_be_read_and_hostile_texts_stay_texts(browser: Any, look: str, tmp_path: Path) -> None:  # noqa: F811
    file, faults = tmp_path / "report.html", []
    word = "Donaudampfschifffahrtsgesellschaft" * 3
    file.write_text(report_page(report_with(f"{HOSTILE} {word}", f"{HOSTILE}{word}", task=word)), encoding="utf-8")
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **LOOKS[look]})
    page = context.new_page()
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda dialog: faults.append(dialog.message))
    page.on("request", lambda sent: sent.url.startswith("file:") or faults.append(sent.url))
    page.goto(file.as_uri())
    assert page.evaluate("window.hit") is None
    assert page.locator("main img, main script").count() == 0
    assert HOSTILE in page.inner_text("main")
    width, shown = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width <= shown
    assert violations(page) == []
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light dark"
    context.close()
    assert faults == []
