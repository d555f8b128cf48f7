"""The playground in a real Chromium: every flow, without an error in its console.

Needs a Chromium (Debian: ``apt-get install chromium``; another one by its path in ``CHROMIUM``) and
``pip install -e '.[browser]'``.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from service.auth import new_key
from tests.socket_server import SocketServer, socket_server
from tests.waiting import LIMIT_S

playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install -e '.[browser]'")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium, or give its path in CHROMIUM"),
]

Page = Any
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
CARDS = "\n".join(
    f'{{"text": "{text} {i}", "label": "{label}"}}'
    for label, text in (("card", "my card has not come"), ("fee", "why this fee"), ("rate", "the exchange rate"))
    for i in range(5)
)
HOSTILE = "<img src=x onerror='window.hit=1'><script>window.hit=1</script>"


@pytest.fixture(scope="module")
def server(
    tiny_checkpoint: Path, other_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SocketServer]:
    """A server with two checkpoints, open to all."""
    store = f"sqlite:{tmp_path_factory.mktemp('playground') / 'handful.db'}"
    with socket_server(tiny_checkpoint, store, other_checkpoint) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium without a window."""
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()


Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Any) -> Iterator[Open]:
    """Opens the playground of a server; in the end the console has to be empty, and nothing asked of other hosts."""
    faults: list[str] = []
    with ExitStack() as stack:

        def opened(url: str, *, expected: str = "", **options: Any) -> Page:
            context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, "locale": "en-GB", **options})
            stack.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(LIMIT_S * 1000)

            def hear(message: Any) -> None:
                if not (expected and expected in message.text):
                    faults.append(f"{message.type}: {message.text}")

            page.on("console", hear)
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on("dialog", lambda dialog: faults.append(f"dialog: {dialog.message}"))
            host = urlsplit(url).netloc
            page.on("request", lambda sent: urlsplit(sent.url).netloc == host or faults.append(f"asked: {sent.url}"))
            page.goto(f"{url}/")
            wait(page, "document.querySelector('#samples button')?.textContent")
            return page

        yield opened
        assert faults == []


def wait(page: Page, expression: str) -> None:
    """Waits until an expression is true; Playwright's own way needs ``eval``, which the page's policy forbids."""
    for _ in range(int(LIMIT_S * 20)):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never: {expression}")


def paste(page: Page, text: str = CARDS) -> None:
    """Gives the page examples."""
    page.locator("#paste-fold").evaluate("fold => fold.open = true")
    page.fill("#paste", text)
    page.click("#paste-read")
    page.wait_for_selector("#read-classes li")


def adapt(page: Page, text: str = CARDS) -> None:
    """Adapts on examples, up to the report."""
    paste(page, text)
    page.click("#adapt-button")
    page.wait_for_selector("#report-body table")
    page.wait_for_selector("#map .mark")


def ask(page: Page, text: str) -> None:
    """Types a text, and waits for its answer and its place."""
    page.fill("#query", text)
    page.wait_for_selector("#near li")
    page.wait_for_selector("#here")


def violations(page: Page) -> list[str]:
    """The serious and critical findings of axe-core."""
    axe = pytest.importorskip("axe_playwright_python", reason="no axe-core: pip install -e '.[browser]'")
    page.evaluate((Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document)")
    assert len(found["passes"]) > 10
    return [
        f"{each['id']}: {each['nodes'][0]['target']}"
        for each in found["violations"]
        if each["impact"] in {"serious", "critical"}
    ]


def test_from_a_bundled_example_to_the_report(open_page: Open, server: SocketServer) -> None:
    page = open_page(server.url)
    page.click("#samples button:nth-child(3)")
    page.wait_for_selector("#read-classes li")
    assert page.inner_text("#read-found").startswith("32 rows; text from 'message', label from 'category'; semicolons")
    assert page.locator("#read-classes li").count() == 5
    page.click("#adapt-button")
    page.wait_for_selector("#report-body table")
    assert "version 1: 32 examples of 5 classes" in page.inner_text("#adapted-lead")
    assert page.locator("#losses polyline").count() == 1
    assert "right when left out" in page.inner_text("#adapted-figures")
    assert "stands under more than one label" in page.inner_text("#warnings")
    assert page.locator("#map .mark").count() == 32
    report = page.inner_text("#report")
    assert "right on new texts" in report
    assert "One text under several labels" in report
    assert "ridge regression" in report
    page.click("#map-after")
    assert ": " in page.inner_text("#map-text")
    assert page.locator("#map .mark.chosen").count() == 1


def test_a_dropped_file_is_read_and_a_bad_one_explained(open_page: Open, server: SocketServer) -> None:
    page = open_page(server.url, expected="422")
    drop = """([name, text]) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([text], name));
        document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true }));
    }"""
    page.evaluate(drop, ["notes.csv", "Frage|Art|Ort\nwo bleibt es|spaet|hier\ngeld her|rueck|da\n"])
    page.wait_for_selector("#problem:not([hidden])")
    assert "notes.csv, line 1" in page.inner_text("#problem")
    page.fill("#text_column", "Frage")
    page.fill("#label_column", "Art")
    page.click("#columns-read")
    page.wait_for_selector("#read-classes li")
    assert page.is_hidden("#problem")
    assert page.inner_text("#read-name") == "notes.csv"
    page.set_input_files("#file", files=[{"name": "b.pdf", "mimeType": "", "buffer": b"%PDF-1.7"}])
    page.wait_for_selector("#problem:not([hidden])")
    assert "a PDF document" in page.inner_text("#problem")
    page.click("#read summary")
    page.click("#read-rows tr:first-child button")
    assert page.locator("#read-rows tr").count() == 1


def test_the_last_answer_wins(open_page: Open, server: SocketServer) -> None:
    page = open_page(server.url)
    adapt(page)
    held: list[Any] = []

    def hold_first(route: Any) -> None:
        if "the first" in route.request.post_data and not held:
            held.append(route)
        else:
            route.continue_()

    page.route("**/predict", hold_first)
    page.fill("#query", "the first")
    while not held:
        page.wait_for_timeout(20)
    ask(page, "my card has not come 1")
    assert page.inner_text("#near li:first-child").startswith("my card has not come 1")
    near = page.inner_text("#near")
    held[0].continue_()
    page.wait_for_timeout(300)
    assert page.inner_text("#near") == near
    page.fill("#query", "")
    wait(page, "!document.querySelector('#scores li')")
    assert page.locator("#here").count() == 0


def test_a_corrected_example_makes_a_version_and_another_report(open_page: Open, server: SocketServer) -> None:
    page = open_page(server.url)
    adapt(page)
    ask(page, "a text of none of these")
    assert page.locator("#scores li").count() == 3
    page.click("#scores li:nth-child(2) button")
    wait(page, "document.getElementById('adapted-lead').textContent.includes('version 2: 16 examples')")
    page.wait_for_selector("#report-change")
    assert "with version 1" in page.inner_text("#report-change")
    ask(page, "a text of none of these")
    assert page.inner_text("#near").startswith("a text of none of these") or "similarity 1.00" in page.inner_text(
        "#near"
    )
    page.fill("#new-label", "other")
    page.press("#new-label", "Enter")
    wait(page, "document.getElementById('adapted-lead').textContent.includes('version 3: 17 examples of 4')")
    wait(page, "document.querySelectorAll('#scores li').length === 4")
    assert "other 1" in page.inner_text("#read-classes")


def test_suspects_are_relabelled_and_contradictions_erased(open_page: Open, server: SocketServer) -> None:
    page = open_page(server.url)
    rows = CARDS.replace('"my card has not come 2", "label": "card"', '"my card has not come 2", "label": "fee"')
    adapt(page, rows + '\n{"text": "why this fee 3", "label": "card"}')
    page.click("#report-body button:has-text('Make it') >> nth=0")
    wait(page, "document.getElementById('adapted-lead').textContent.includes('version 2')")
    page.wait_for_selector("#report-change")  # the report on version 2
    count = page.locator("#map .mark").count()
    erase = page.locator("#report-body button:has-text('Erase')").first
    erase.click()
    assert "every version" in erase.inner_text()
    erase.click()
    wait(page, f"document.querySelectorAll('#map .mark').length === {count - 1}")
    assert f"All {count - 1} examples" in page.text_content("#read-count")


def test_the_code_does_what_was_done(open_page: Open, server: SocketServer) -> None:
    page = open_page(server.url)
    adapt(page, CARDS.replace("why this fee", 'it\'s 5 $ too \\"much\\" — 为什么'))
    ask(page, 'it\'s a `fee`; "why" $HOME \\n')
    page.click("#scores li:first-child button")
    wait(page, "document.getElementById('adapted-lead').textContent.includes('version 2')")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

    def run(*command: str, code: str) -> str:
        done = subprocess.run(
            command, input=code, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    commands = page.locator("#code-blocks code").all_text_contents()
    assert len(commands) == 4
    answers = "".join(run("bash", code=command) for command in commands)
    assert '"code"' not in answers
    page.check("input[value=python]", force=True)
    programs = page.locator("#code-blocks code").all_text_contents()
    assert len(programs) == 4
    for program in programs:
        assert run(sys.executable, "-", code=program).strip()
    page.click("#code-blocks button >> nth=0")
    wait(page, "document.querySelector('#code-blocks button').textContent === 'Copied'")


def test_a_key_is_asked_for_and_kept_in_the_page_alone(open_page: Open, tiny_checkpoint: Path, tmp_path: Path) -> None:
    with socket_server(tiny_checkpoint, f"sqlite:{tmp_path / 'keys.db'}") as server:
        key, record = new_key("acme")
        server.app.state.parts.access.store.add_key(record)
        page = open_page(server.url, expected="401")
        page.wait_for_selector("#key-panel:not([hidden])")
        assert "needs an API key" in page.inner_text("#problem")
        page.fill("#key", key)
        page.press("#key", "Enter")
        page.wait_for_selector("#key-panel", state="hidden")
        assert page.is_hidden("#problem")
        adapt(page)
        ask(page, "my card")
        code = page.inner_text("#code-blocks")
        assert "Bearer $HANDFUL_API_KEY" in code
        assert key not in page.content()
        kept = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
        assert key not in kept
        page.reload()
        page.wait_for_selector("#key-panel:not([hidden])")


def test_texts_and_labels_never_become_html(open_page: Open, server: SocketServer) -> None:
    page = open_page(server.url, expected="TrustedHTML")  # the test's own attempt at the end
    rows = "\n".join(
        f'{{"text": "{HOSTILE} {i}", "label": "{label}{HOSTILE}"}}' for label in ("a", "b") for i in range(4)
    )
    adapt(page, rows)
    ask(page, HOSTILE)
    page.click("#map-after")
    for control in ("#read summary", "#scores li:first-child button"):
        page.click(control)
    wait(page, "document.getElementById('adapted-lead').textContent.includes('version 2')")
    page.select_option("#language", "zh")
    wait(page, "document.documentElement.lang === 'zh-Hans'")
    assert page.evaluate("window.hit") is None
    assert page.locator("main img, main script").count() == 0
    assert HOSTILE in page.inner_text("#near")
    assert page.evaluate("try { document.body.innerHTML = '<b>'; 'set' } catch (error) { error.name }") == "TypeError"


def test_a_stored_task_is_opened_and_not_replaced_by_accident(open_page: Open, server: SocketServer) -> None:
    page = open_page(server.url)
    paste(page)
    page.fill("#task", "kept-task")
    page.select_option("#checkpoint", "other")
    page.select_option("#keep", "")
    page.click("#adapt-button")
    page.wait_for_selector("#report-body table")
    assert "other" in page.inner_text("#adapted-figures")
    again = open_page(server.url)
    paste(again)
    again.fill("#task", "kept-task")
    again.click("#adapt-button")
    again.wait_for_selector("#adapt-exists:not([hidden])")
    assert "version 1" in again.inner_text("#adapt-exists")
    assert again.is_hidden("#adapted")
    again.locator("#stored-fold").evaluate("fold => fold.open = true")
    again.select_option("#stored", "kept-task")
    again.click("#stored-open")
    again.wait_for_selector("#report-body table")
    assert "kept-task, version 1: 15 examples" in again.inner_text("#adapted-lead")
    assert again.locator("#report-body button:has-text('Make it')").count() == 0
    ask(again, "my card")


def test_the_keyboard_alone_is_enough(open_page: Open, server: SocketServer) -> None:
    page = open_page(server.url)

    def tab_to(selector: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert outline != "none", selector
                return
        pytest.fail(f"no way to {selector}")

    tab_to(".skip")
    page.keyboard.press("Enter")
    tab_to("#samples button:nth-child(1)")
    page.keyboard.press("Enter")
    page.wait_for_selector("#read-classes li")
    wait(page, "document.getElementById('announcer').textContent.includes('30 examples read')")
    tab_to("#adapt-button")
    page.keyboard.press("Space")
    page.wait_for_selector("#report-body table")
    assert page.evaluate("document.activeElement.id") == "adapted"
    tab_to("#query")
    page.keyboard.type("the parcel")
    page.wait_for_selector("#near li")
    tab_to("#scores li:nth-child(2) button")
    page.keyboard.press("Enter")
    wait(page, "document.getElementById('adapted-lead').textContent.includes('version 2')")


LOOKS = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": {"width": 360, "height": 740}},
    "chinese": {"locale": "zh-CN"},
}


@pytest.mark.parametrize("look", LOOKS)
def test_every_look_can_be_read(open_page: Open, server: SocketServer, look: str, tmp_path: Path) -> None:
    page = open_page(server.url, **LOOKS[look])
    assert violations(page) == []
    page.click("#samples button:nth-child(3)")
    page.wait_for_selector("#read-classes li")
    for fold in page.locator("#examples details").all():
        fold.evaluate("fold => fold.open = true")
    page.click("#adapt-button")
    page.wait_for_selector("#report-body table")
    ask(page, "the parcel")
    assert violations(page) == []
    width, shown = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width <= shown
    assert (page.evaluate("document.documentElement.lang") == "zh-Hans") is (look == "chinese")
    if look == "chinese":
        assert "新文本" in page.inner_text("#report-lead")


def test_theme_and_language_are_chosen_and_kept(open_page: Open, server: SocketServer) -> None:
    page = open_page(server.url, color_scheme="light")
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.select_option("#theme", "dark")
    dark = page.evaluate(background)
    assert dark != light
    page.select_option("#language", "zh")
    page.reload()
    wait(page, "document.querySelector('#samples button')?.textContent")
    assert page.evaluate(background) == dark
    assert page.inner_text("#examples-title").endswith("示例")
    page.select_option("#theme", "")
    assert page.evaluate(background) == light


def test_the_page_works_under_a_prefix(open_page: Open, tiny_checkpoint: Path, tmp_path: Path) -> None:
    with socket_server(tiny_checkpoint, f"sqlite:{tmp_path / 'few.db'}", root_path="/few") as server:
        page = open_page(f"{server.url}/few")
        adapt(page)
        assert f"{server.url}/few/v1/tasks/" in page.inner_text("#code-blocks")
