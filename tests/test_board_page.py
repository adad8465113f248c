"""The board in a real browser, against the monitor under gunicorn."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Literal

import pytest
from browser import DESK, PHONE, REPORT_VIOLATIONS, TIMEOUT_MS, running_chromium
from conftest import ROOT, free_port
from playwright.sync_api import Browser, Page, expect
from test_watcher import audit_data, event

from events.codec import from_json
from local.day import QUARTER
from local.stack import STORES, running_monitor
from monitor.database import migrate, open_database
from monitor.metrics import Metrics
from monitor.register import load_register
from monitor.store import Store
from monitor.watcher import Watcher

SCREENS = ROOT / "build" / "screens"
AXE = files("axe_playwright_python") / "axe.min.js"
SCHEMES: tuple[Literal["dark"], Literal["light"]] = ("dark", "light")
LONG = "L" * 200
LEFT = "\u064a\u0633\u0627\u0631"
ARABIC = "\u0645\u062a\u062c\u0631/\u0643\u0627\u0645\u064a\u0631\u0627"  # a store, and a camera


def play(url: str) -> None:
    """Fill a database with three hours at a shelf: a gap that was refilled, one that is open."""
    engine = open_database(url)
    migrate(engine)
    watcher = Watcher(store=Store(engine), register=load_register(STORES), metrics=Metrics())
    start = datetime.now(UTC) - 11 * QUARTER
    for index, empty in enumerate([[], [], [], [3, 4], [3, 4], [3, 4], [3], [], [], [], [7], [7]]):
        taken = start + index * QUARTER
        uri = f"s3://shelves/store-17/aisle-9/{index:04d}.jpg"
        data = audit_data(empty)
        data["image"]["uri"] = uri
        body = event(index, data, key=f"store-17/aisle-9/{index:04d}.jpg", time=taken)
        watcher.take(from_json(body))
    for folder in (f"{LONG}/{LONG}", ARABIC):
        watcher.take(from_json(event(0, audit_data([]), key=f"{folder}/1.jpg", time=start)))
    key = f"{ARABIC}/{LEFT}/{LEFT}.jpg"
    data = audit_data([])
    data["image"]["uri"] = f"s3://shelves/{key}"
    watcher.take(from_json(event(0, data, key=key, time=start)))
    engine.dispose()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("board")
    database = f"sqlite:///{folder}/monitor.sqlite"
    play(database)
    env = {**os.environ, "DATABASE_URL": database, "STORES": str(STORES), "EVENTS_AUTH": "none"}
    with running_monitor(free_port(), env, folder) as (url, child):
        yield url
        child.kill()


@pytest.fixture(scope="module")
def browser(url: str) -> Iterator[Browser]:
    """Ends before the service does, which would wait for its connections."""
    with running_chromium() as browser:
        yield browser


@pytest.fixture(params=[DESK, PHONE], ids=["desk", "phone"])
def page(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    context = browser.new_context(**request.param)
    context.set_default_timeout(TIMEOUT_MS)
    context.add_init_script(REPORT_VIOLATIONS)
    opened = context.new_page()
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    yield opened
    assert said == []
    context.close()


def complaints(page: Page) -> list[str]:
    """What axe has against the page, by day and by night.

    It runs beside the page's own policy, by the debugger.
    """
    page.evaluate(AXE.read_text())
    said: list[str] = []
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        found = page.evaluate("axe.run()")
        said += [f"{scheme}: {violation['id']}" for violation in found["violations"]]
    return said


def test_a_store_manager_finds_what_is_empty_and_since_when(url: str, page: Page) -> None:
    page.goto(f"{url}/")
    page.get_by_role("link", name="Harbour Street").click()
    gaps = page.locator("table.gaps tbody tr")
    expect(gaps).to_have_count(1)
    expect(gaps).to_contain_text(re.compile(r"1[5-9] min"))
    expect(page.get_by_text("never")).to_be_visible()  # aisle-10 is registered, and has not sent
    assert complaints(page) == []
    gaps.get_by_role("link", name="aisle-9").click()
    expect(page.locator("svg.history rect")).to_have_count(3)
    expect(page.locator("svg.history rect.open")).to_have_count(1)
    expect(page.locator("svg.history circle")).to_have_count(12)
    assert complaints(page) == []
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0, "the page is wider than the screen"
    if page.viewport_size == DESK["viewport"]:
        SCREENS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SCREENS / "stock.png")


def test_a_long_name_and_the_text_of_a_chart_fit_the_screen(url: str, page: Page) -> None:
    for path in ("/stores", f"/stores/{LONG}", f"/stores/{LONG}/views/{LONG}"):
        page.goto(f"{url}{path}")
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, path
    page.goto(f"{url}/stores/store-17/views/aisle-9")
    texts = page.locator("svg.history text:visible").all()
    boxes = [box for text in texts if (box := text.bounding_box())]
    width = page.evaluate("innerWidth")
    assert len(boxes) >= 6
    for box in boxes:
        assert box["height"] >= 9
        assert 0 <= box["x"] <= box["x"] + box["width"] <= width
    for box, after in itertools.pairwise(boxes[3:]):  # the times
        assert box["x"] + box["width"] < after["x"]


def test_a_path_of_arabic_names_begins_with_the_store(url: str, page: Page) -> None:
    page.goto(f"{url}/stores/{ARABIC.replace('/', '/views/')}")
    links = page.locator("nav a")
    expect(links).to_have_text(["Stores", *ARABIC.split("/")])
    boxes = [box for link in links.all() if (box := link.bounding_box())]
    assert [box["x"] for box in boxes] == sorted(box["x"] for box in boxes)


def test_the_parts_of_an_arabic_path_stand_in_its_order(url: str, page: Page) -> None:
    page.goto(f"{url}/stores/{ARABIC.replace('/', '/views/')}/{LEFT}")
    key = f"{ARABIC}/{LEFT}/{LEFT}.jpg"
    for place, text in (
        ("td code", f"s3://shelves/{key}"),
        ("h1", f"{ARABIC}/{LEFT}".partition("/")[2]),
    ):
        path = page.locator(place)
        expect(path).to_have_text(text)
        parts = path.locator("bdi").all()
        assert len(parts) == text.count("/") + 1
        edges = [box["x"] for part in parts if (box := part.bounding_box())]
        assert edges == sorted(edges)


def test_a_page_is_whole_on_paper(url: str, page: Page) -> None:
    """What scrolls on a screen is cut off there: which photo it was, and that a view is silent."""
    page.goto(f"{url}/stores/store-17/views/aisle-9")
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size({"width": 700, "height": 1000})  # A4 at 96 dpi, without its margins
    cut = """() => [...document.querySelectorAll("table, svg, td, th, code")].filter((part) =>
        part.scrollWidth > part.clientWidth + 1 && getComputedStyle(part).display !== "inline"
        || part.getBoundingClientRect().right > innerWidth).map(({ outerHTML }) => outerHTML)"""
    for path in ("/stores/store-17/views/aisle-9", "/stores/store-17", f"/stores/{LONG}"):
        page.goto(f"{url}{path}")
        assert page.evaluate(cut) == []
        expect(page.get_by_role("button")).to_have_count(0)
    black = "getComputedStyle(document.querySelector('.figures dt')).color"
    assert page.evaluate(black) == "rgb(91, 98, 109)"  # of the light scheme: paper is white


def test_not_a_gap_is_a_button_and_stays_said_until_it_is_taken_back(url: str, page: Page) -> None:
    page.goto(f"{url}/stores/store-17/views/aisle-9")
    buttons = page.get_by_role("button", name="Not a gap")
    before = buttons.count()
    buttons.last.click()
    page.wait_for_url("**/views/aisle-9")
    expect(buttons).to_have_count(before - 1)
    assert complaints(page) == []
    undo = page.get_by_role("button", name="Undo")
    expect(undo).to_have_count(1)
    undo.click()
    expect(buttons).to_have_count(before)
    expect(undo).to_have_count(0)
    page.goto(f"{url}/stores/store-17")
    for button in (buttons, undo):
        box = button.first.bounding_box()
        assert box
        assert box["x"] + box["width"] <= page.evaluate("innerWidth")
        button.first.click()
    expect(undo).to_have_count(0)
