"""The page in a real browser, against the real stack: what a reader does and sees."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect, sync_playwright

DEMO = Path(__file__).parents[2] / "flows" / "demo" / "harbor-light.mix.opus"
SONG = 150_000  # milliseconds a song of one minute may take
SOON = 20_000  # milliseconds for anything the page does at once, on a machine that is busy singing
CHROMIUM = ("chromium", "google-chrome", "chromium-browser")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

LIT = re.compile(r"--sung: ?0\.\d*[1-9]")  # a word that the light has reached but not left


@dataclass
class Visit:
    """One reader's browser: the page, and what it asked for and complained of."""

    page: Page
    url: str
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def upload(self, preset: str = "Regular", language: str = "Heard from the song") -> str:
        """Gives the demo song in and stays on the job's page; the job's id."""
        page = self.page
        page.goto(self.url)
        page.get_by_label("Or choose a recording of your own").set_input_files(DEMO)
        expect(page.locator("#file-name")).to_have_text(DEMO.name)
        page.get_by_role("radio", name=preset).check()
        page.get_by_label("Language").select_option(label=language)
        page.get_by_role("button", name="Get the words").click()
        return self.job()

    def job(self, other_than: str = "") -> str:
        """The job that the address names."""
        end = rf"(?!{re.escape(other_than)}$)[^=]+$" if other_than else "[^=]+$"
        expect(self.page).to_have_url(re.compile(rf"/#job={end}"), timeout=SOON)
        return self.page.url.partition("#job=")[2]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        reason = f"no browser here: none of {', '.join(CHROMIUM)} is installed"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def come(browser: Browser, stack: Any) -> Iterator[Callable[[], Visit]]:
    """A new reader at each call."""
    contexts: list[BrowserContext] = []

    def come() -> Visit:
        context = browser.new_context(reduced_motion="reduce", locale="en-GB")
        contexts.append(context)
        visit = Visit(context.new_page(), stack.url)
        visit.page.set_default_timeout(SOON)
        visit.page.on("request", lambda request: visit.asked.append(request.url))
        visit.page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        visit.page.on(
            "console",
            lambda message: message.type in ("error", "warning") and visit.complaints.append(message.text),
        )
        return visit

    yield come
    for context in contexts:
        context.close()


@pytest.fixture
def visit(come: Callable[[], Visit]) -> Iterator[Visit]:
    visit = come()
    yield visit
    visit.page.close()


@pytest.fixture(scope="module")
def sung(come: Callable[[], Visit]) -> Visit:
    """A reader who gave the demo song in and waited for its words."""
    visit = come()
    visit.upload()
    expect(visit.page.get_by_role("list", name="Words of the song")).to_be_visible(timeout=SONG)
    return visit


def test_a_bad_link_gets_its_sentence_beside_the_field(visit: Visit) -> None:
    page = visit.page
    page.goto(visit.url)
    expect(page.get_by_label("YouTube link")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("Paste a link, or choose a file.")
    page.keyboard.type("no link at all")
    expect(page.get_by_role("alert")).to_be_empty()
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("no link at all")
    expect(page.get_by_label("YouTube link")).to_have_value("no link at all")
    expect(page).not_to_have_url(re.compile("job="))


def test_an_uploaded_song_comes_back_as_lines_and_files(sung: Visit) -> None:
    page = sung.page
    lines = page.locator(".line:not(.silence)")
    expect(lines.filter(has_text=re.compile("harbor light", re.IGNORECASE)).first).to_be_visible()
    assert lines.count() >= 6
    expect(lines.first).to_have_text(re.compile(r"^\S+( \S+)+$"))
    expect(page.locator("#recent a[aria-current]")).to_be_visible()
    files = page.get_by_role("list", name="Take it with you").get_by_role("link")
    assert {"LRC", "SRT", "JSON"} <= {name.split()[0] for name in files.all_inner_texts()}
    for link in files.all():
        answer = page.request.get(link.evaluate("link => link.href"))
        assert answer.ok
        assert "harbor" in answer.text().lower()


def test_words_light_up_while_the_song_plays(sung: Visit) -> None:
    page = sung.page
    line = page.locator(".line:not(.silence)").nth(2)
    line.locator(".word").first.click()
    expect(line).to_have_class(re.compile(r"\bcurrent\b"))
    expect(page.locator(".word.singing")).to_have_attribute("style", LIT)
    expect(line.locator(".word").first).to_have_class(re.compile(r"\bsung\b"))
    pane, current = page.locator("#lines").bounding_box(), page.locator(".line.current").bounding_box()
    assert pane
    assert current
    assert abs(pane["y"] + pane["height"] / 2 - current["y"] - current["height"] / 2) < current["height"]
    expect(line).to_have_class(re.compile(r"\bpast\b"), timeout=SOON)
    expect(page.locator(".line.current")).to_have_count(1)

    page.get_by_role("heading", name="Recent songs").click()  # the keyboard is on nothing in particular
    page.keyboard.press("Space")
    expect(page.locator("#audio")).to_have_js_property("paused", True)
    page.keyboard.press("Space")
    expect(page.locator("#audio")).to_have_js_property("paused", False)
    page.keyboard.press("Space")


def test_a_reader_without_a_mouse_moves_between_lines(sung: Visit) -> None:
    page = sung.page
    lines = page.locator(".line:not(.silence)")
    lines.first.focus()
    page.keyboard.press("ArrowDown")
    expect(lines.nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(lines.nth(1)).to_have_class(re.compile(r"\bcurrent\b"))
    expect(page.locator("#audio")).to_have_js_property("paused", False)
    page.keyboard.press("Space")
    expect(page.locator("#audio")).to_have_js_property("paused", True)


def test_the_page_asks_no_other_server_and_logs_no_error(sung: Visit) -> None:
    assert sung.complaints == []
    foreign = [url for url in sung.asked if not url.startswith((f"{sung.url}/", "blob:", "data:"))]
    assert foreign == []


def test_a_job_survives_a_reload_and_can_be_shared(visit: Visit, come: Callable[[], Visit]) -> None:
    job = visit.upload(preset="Fastest")
    visit.page.reload()
    assert visit.job() == job
    friend = come()
    friend.page.goto(visit.page.url)
    for reader in (visit, friend):
        expect(reader.page.get_by_role("list", name="Words of the song")).to_be_visible(timeout=SONG)
    friend.page.get_by_role("link", name="New song").click()
    expect(friend.page.get_by_label("YouTube link")).to_be_visible()
    friend.page.locator(f"#recent a[href='#job={job}']").click()
    expect(friend.page.get_by_role("list", name="Words of the song")).to_be_visible()


def test_a_cancelled_job_says_so_and_is_tried_again(visit: Visit) -> None:
    page = visit.page
    job = visit.upload(preset="Fastest", language="English")
    _cancel(page)
    page.get_by_role("button", name="Try again").click()
    visit.job(other_than=job)
    _cancel(page)


def _cancel(page: Page) -> None:
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#job-message")).to_have_text("Cancelled.", timeout=SOON)
    expect(page.get_by_role("button", name="Cancel")).to_be_hidden()


def test_a_server_that_goes_away_does_not_lose_the_job(sung: Visit, visit: Visit) -> None:
    page = visit.page
    page.route("**/api/jobs/**", lambda route: route.abort())
    page.goto(sung.page.url)
    away = page.get_by_text("The server does not answer; trying again…")
    expect(away).to_be_visible()
    page.unroute("**/api/jobs/**")
    expect(page.get_by_role("list", name="Words of the song")).to_be_visible(timeout=SOON)
    expect(away).to_be_hidden()


def test_every_script_keeps_its_own_shape_and_no_text_becomes_markup(visit: Visit) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    lines = [_line("אני סופר hello world", " ", 0.0), _line("港の灯り", "", 2.0), _line(hostile, " ", 4.0)]
    page = visit.page
    _show(
        visit,
        _document(lines, hostile, language="he", notes=[hostile]),
        title=hostile,
        files={"srt": "javascript:alert(1)"},
    )
    expect(page.locator(".line")).to_have_count(3)
    expect(page.get_by_role("heading", name=hostile)).to_be_visible()
    hebrew, japanese, markup = page.locator(".line").all()
    expect(hebrew).to_have_css("direction", "rtl")
    expect(hebrew.locator(".leftwards")).to_have_text(["אני", "סופר"])
    expect(japanese).to_have_css("direction", "ltr")
    assert japanese.evaluate("line => line.textContent") == "港の灯り"
    assert markup.evaluate("line => line.textContent") == hostile
    expect(page.locator("main img")).to_have_count(0)
    expect(page.locator("a[href^=javascript]")).to_have_count(0)
    assert visit.complaints == []


def test_a_reader_learns_how_much_is_right_and_which_lines_are_doubtful(visit: Visit) -> None:
    page = visit.page
    sure, unsure = _line("the harbor light", " ", 0.0), _line("is burning low", " ", 2.0)
    document = _document([sure | {"quality": 0.94}, unsure | {"quality": 0.31}], "Harbor Light")
    document["metadata"]["quality"] = 0.666
    _show(visit, document)
    expect(page.locator("#song-quality")).to_contain_text("About 67 % of the words should be right and in time.")
    expect(page.locator("#song-quality")).to_contain_text("dotted")
    expect(page.locator(".line.doubtful")).to_have_text(["is burning low"])
    expect(page.locator(".line.doubtful")).to_have_attribute("aria-description", "heard unsurely")
    assert visit.complaints == []


def test_a_document_without_a_quality_says_nothing_of_it(visit: Visit) -> None:
    page = visit.page
    _show(visit, _document([_line("the harbor light", " ", 0.0)], "Harbor Light"))
    expect(page.locator(".line:not(.silence)")).to_have_count(1)
    expect(page.locator("#song-quality")).to_be_hidden()
    expect(page.locator(".line.doubtful")).to_have_count(0)


def _show(visit: Visit, document: dict[str, Any], title: str = "", files: dict[str, str] | None = None) -> None:
    """Opens the page on a job that a server would tell of so."""
    answers = {
        "progress": {"status": "completed", "pct": 100, "title": title, "resultUrl": "/api/jobs/made-up/document"},
        "steps": {"steps": []},
        "files": {"files": files or {}},
        "document": document,
    }

    def answer(route: Route) -> None:
        name = route.request.url.rpartition("/")[2]
        route.fulfill(content_type="application/json", body=json.dumps(answers[name]))

    visit.page.route("**/api/jobs/made-up/*", answer)
    visit.page.goto(f"{visit.url}/#job=made-up")


def _document(lines: list[dict[str, Any]], title: str, **more: Any) -> dict[str, Any]:
    words = [word for line in lines for word in line["words"]]
    return {"words": words, "metadata": {"title": title, "duration": 6.0}, "lines": lines, **more}


def _line(text: str, between: str, start: float) -> dict[str, Any]:
    words = [
        {"word": word, "start": start + i * 0.2, "end": start + i * 0.2 + 0.2, "confidence": 1.0}
        for i, word in enumerate(text.split(between) if between else text)
    ]
    return {"text": text, "start": start, "end": words[-1]["end"], "words": words}
