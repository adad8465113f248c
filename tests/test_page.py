"""The page in a real browser, against the function under gunicorn with the shipped model."""

from __future__ import annotations

import base64
import copy
import csv
import io
import json
import re
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL.Image
import PIL.ImageEnhance
import PIL.ImageOps
import pytest
import urllib3
from browser import DESK, PHONE, REPORT_VIOLATIONS, TIMEOUT_MS, running_chromium
from conftest import GOOD_SAMPLE, ROOT, SAMPLES, free_port
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Dialog,
    Download,
    Locator,
    Page,
    Request,
    Response,
    Route,
    expect,
)

from function.errors import ImageError, InvalidReference, ShelfWatchError, TryAgain, Unauthorized
from function.image import TURNS
from function.result import Result
from local.aws import aws_env
from local.stack import running_function

STATIC = ROOT / "function" / "static"
SCREENS = ROOT / "build" / "screens"
GAPS = SAMPLES / "store-17" / "aisle-5" / "gaps.jpg"
TURNED = SAMPLES / "store-17" / "aisle-7" / "turned-by-exif.jpg"
CORRUPT = SAMPLES / "store-21" / "aisle-2" / "corrupt.jpg"
MOST_EDGES = 0.8  # those on the border of the picture or under a gap's are covered
FULL, SHELF = (STATIC / "samples" / name for name in ("full.jpg", "gaps.jpg"))
SAME_PICTURE = 15  # of 255, on average; one that is turned otherwise differs by 50
LAYERS = ("products", "gaps", "rows")
FIRST_PAINT_BYTES = 60_000
TOUCH = 44  # CSS pixels; WCAG 2.2, 2.5.5
SERVICE_CONFIDENCE = 0.3  # not the service's default: the page must take it from the answer


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    env = {**aws_env("http://127.0.0.1:9"), "SHELFWATCH_CONFIDENCE": str(SERVICE_CONFIDENCE)}
    with running_function(free_port(), env, tmp_path_factory.mktemp("logs")) as (url, child):
        yield url
        child.kill()  # it has nothing to end; a clean stop takes seconds


@pytest.fixture(scope="module")
def browser(url: str) -> Iterator[Browser]:
    """Ends before the service does, which would wait for its connections."""
    SCREENS.mkdir(parents=True, exist_ok=True)
    with running_chromium() as browser:
        yield browser


@dataclass
class Console:
    """What a page complains of, a violation of its CSP too, less what a test provokes."""

    expected: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def listen(self, page: Page) -> None:
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self.take)

    def take(self, message: ConsoleMessage) -> None:
        known = any(words in message.text for words in self.expected)
        if message.type in ("error", "warning") and not known:
            self.errors.append(message.text)


@pytest.fixture(scope="module")
def heard() -> Console:
    return Console()


@pytest.fixture
def console(heard: Console) -> Iterator[Console]:
    heard.expected.clear()
    heard.errors.clear()
    yield heard
    assert heard.errors == []


def new_window(browser: Browser, console: Console, **options: Any) -> Page:
    context = browser.new_context(**options)
    context.add_init_script(REPORT_VIOLATIONS)
    page = context.new_page()
    page.set_default_timeout(TIMEOUT_MS)
    console.listen(page)
    return page


# A window costs a second, so the tests share three: a desk, one whose clock can be put forward, and
# a phone. Each test finds the page loaded anew, except those of `counted`.


@pytest.fixture(scope="module")
def desk(browser: Browser, heard: Console) -> Page:
    return new_window(browser, heard, **DESK)


@pytest.fixture(scope="module")
def clocked_desk(browser: Browser, heard: Console) -> Page:
    page = new_window(browser, heard, **DESK)
    page.clock.install()
    return page


@pytest.fixture(scope="module")
def spanish_phone(browser: Browser, heard: Console) -> Page:
    return new_window(browser, heard, **PHONE)


@contextmanager
def loaded(page: Page, url: str) -> Iterator[Page]:
    page.bring_to_front()  # one behind another draws once a second
    page.mouse.move(0, 0)
    page.goto(url)
    yield page
    page.unroute_all()
    page.evaluate("sessionStorage.clear(); localStorage.clear()")


@pytest.fixture
def page(desk: Page, url: str, console: Console) -> Iterator[Page]:
    with loaded(desk, url) as page:
        yield page


@pytest.fixture
def clocked(clocked_desk: Page, url: str, console: Console) -> Iterator[Page]:
    with loaded(clocked_desk, url) as page:
        yield page


@pytest.fixture
def phone(spanish_phone: Page, url: str, console: Console) -> Iterator[Page]:
    with loaded(spanish_phone, url) as page:
        yield page


@pytest.fixture(scope="module")
def gaps_counted(desk: Page, url: str, heard: Console) -> Page:
    page = desk.context.new_page()
    heard.listen(page)
    page.goto(url)
    choose(page, GAPS)
    return page


@pytest.fixture
def counted(gaps_counted: Page, console: Console) -> Page:
    """A page on which one picture is counted. Tests share it and leave it as they found it."""
    gaps_counted.bring_to_front()
    gaps_counted.mouse.move(0, 0)
    return gaps_counted


def choose(page: Page, *pictures: Path) -> None:
    """Choose pictures and wait until each is counted or refused."""
    page.set_input_files("#choose", pictures)
    done = page.locator(".strip li:is([data-state=counted], [data-state=failed])")
    done.nth(len(pictures) - 1).wait_for()


def predictions(page: Page) -> list[str]:
    """Collect the requests to come for an audit."""
    seen: list[str] = []

    def note(request: Request) -> None:
        if is_predict(request.url):
            seen.append(request.url)

    page.on("request", note)
    return seen


def is_predict(address: str) -> bool:
    return "/predict" in address


@cache
def ask(url: str, picture: Path, confidence: float | None = None) -> Result:
    """What the service itself answers, at its own confidence where none is given."""
    fields = {"file": (picture.name, picture.read_bytes())}
    query = "" if confidence is None else f"?confidence={confidence}"
    answer = urllib3.request("POST", f"{url}/predict{query}", fields=fields)
    assert answer.status == 200
    result: Result = json.loads(answer.data)
    return result


def save(page: Page, button: str) -> tuple[str, bytes]:
    """Click a download; give its file name and content."""
    with page.expect_download() as waiting:
        page.click(button)
    download: Download = waiting.value
    return download.suggested_filename, download.path().read_bytes()


def overlay(page: Page) -> np.ndarray:
    """Read what is drawn over the picture, (H, W, 4) RGBA, after the next frame."""
    return canvas(page, "overlay")


def has_colour(pixels: np.ndarray, red: int, green: int, blue: int) -> bool:
    return bool((pixels == (red, green, blue, 255)).all(axis=2).any())


PRODUCT, GAP, FILLED = (0x2E, 0xE6, 0xC5), (0xFF, 0xB0, 0x20), (0x7D, 0xDC, 0x5A)
MISSING, EXTRA, MOVED = (0xFF, 0x5A, 0x4E), (0xC7, 0x92, 0xFF), (0x5A, 0xB0, 0xFF)
SPOT = (0xFF, 0xFF, 0xFF)


def test_a_chosen_picture_is_counted(counted: Page, url: str) -> None:
    page = counted
    answer = ask(url, GAPS)
    expect(page.locator("#count")).to_have_text(str(answer["count"]))
    expect(page.locator("#fill-rate")).to_have_text(percent(answer["fill_rate"]))
    expect(page.locator("#gap-count")).to_have_text(str(len(answer["gaps"])))
    expect(page.locator("#told")).to_contain_text(f"{answer['count']} products in")
    told = f"gaps.jpg: {page.inner_text('#told')} {page.inner_text('#refill-title')}"
    expect(page.locator("#announce")).to_have_text(told)
    expect(page.locator("#model")).to_contain_text(answer["model"]["name"])
    assert table_of(page) == lines_of(answer)
    assert has_colour(overlay(page), *GAP)


def test_the_places_to_fill_come_first_and_in_words(counted: Page, url: str) -> None:
    places = places_of(ask(url, GAPS))
    assert len(places) >= 5
    facings = sum(place[2] for place in places)
    told = f"{len(places)} places to fill, {facings} facings"
    expect(counted.locator("#refill-title")).to_have_text(told)
    expect(counted.locator("#facing-hint")).to_contain_text("A facing is the room")
    lines = counted.locator("#places li")
    for number, (row, third, facings) in enumerate(places, 1):
        unit = "facing" if facings == 1 else "facings"
        expect(lines.nth(number - 1)).to_have_text(
            re.compile(rf"^{number}Row {row}, {third}\D*\d+% sure{facings} {unit}$")
        )
    first = counted.locator("#report h2, #report .figures").first
    expect(first).to_have_id("refill-title")


def places_of(answer: Mapping[str, Any]) -> list[tuple[int, str, int]]:
    """The walk along the shelf: row from 1, third of the picture, facings."""
    gaps = sorted(answer["gaps"], key=lambda gap: (gap["row"], gap["xyxy"][0]))
    thirds = ("left third", "middle", "right third")
    width = answer["image"]["width"]
    return [
        (
            gap["row"] + 1,
            thirds[int(1.5 * (gap["xyxy"][0] + gap["xyxy"][2]) / width)],
            max(1, int(gap["facings"] + 0.5)),
        )
        for gap in gaps
    ]


def test_a_tap_shows_the_spot_and_a_tick_is_kept_for_that_picture(page: Page) -> None:
    choose(page, GAPS, SHELF)
    places = page.locator("#places li")
    places.nth(4).locator(".place").click()
    assert float(page.inner_text("#zoom").rstrip("%")) > 200
    ring = overlay(page)
    assert has_colour(ring, *SPOT)
    y, x = np.argwhere((ring == (*SPOT, 255)).all(axis=2)).mean(axis=0) / ring.shape[:2]
    assert (abs(x - 0.5) < 0.2, abs(y - 0.5) < 0.2) == (True, True)
    page.click("#zoom-fit")
    places.nth(0).get_by_role("checkbox").check()
    expect(page.locator("#progress")).to_have_text(f"1 of {places.count()} filled")
    assert has_colour(overlay(page), *FILLED)
    page.locator(".strip .tile").nth(1).click()
    expect(page.locator("#progress")).to_be_hidden()
    page.reload()
    choose(page, SHELF, GAPS)
    expect(page.locator("#progress")).to_be_hidden()
    page.locator(".strip .tile").nth(1).click()
    ticks = page.get_by_role("checkbox", name="Filled: ")
    expect(ticks.nth(0)).to_be_checked()
    expect(page.locator("#places :checked")).to_have_count(1)
    ticks.nth(0).uncheck()
    assert page.evaluate("localStorage.getItem('ticks')") == "[]"


def test_the_list_is_shared_as_text_or_copied(page: Page, url: str) -> None:
    choose(page, GAPS)
    page.locator("#places li").nth(1).get_by_role("checkbox").check()
    for share in ("async (data) => { shared = data.text; }", "undefined"):
        page.evaluate(
            f"""() => {{
            globalThis.shared = null;
            Object.defineProperty(navigator, "share", {{ value: {share}, configurable: true }});
            Object.defineProperty(navigator, "clipboard", {{ configurable: true,
                value: {{ writeText: async (text) => {{ shared = text; }} }} }});
        }}"""
        )
        page.click("#share")
        page.wait_for_function("shared !== null")
        title, headline, *lines = page.evaluate("shared").split("\n")
        assert re.match(r"gaps\.jpg, [A-Z][a-z]{2} \d+, 20\d\d, ", title)  # it is read later
        assert headline == page.inner_text("#refill-title")
        places = places_of(ask(url, GAPS))
        assert [line[0] for line in lines] == ["☐", "☑", *"☐" * (len(places) - 2)]
        assert lines[0].startswith(f"☐ Row {places[0][0]}, {places[0][1]}: {places[0][2]} facing")
    expect(page.locator("#shared")).to_have_text("The list is copied. Paste it into a message.")
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(Error('no')); }")
    page.click("#share")
    expect(page.locator("#shared")).to_contain_text("cannot share")


def test_the_list_prints_on_one_page_with_its_picture(page: Page) -> None:
    choose(page, GAPS)
    page.click("#zoom-in")
    page.evaluate("window.print = () => { globalThis.printed = true; }")
    page.click("#print")
    assert page.evaluate("printed")
    assert len(re.findall(rb"/Type /Page\b", page.pdf(format="A4"))) == 1
    page.emulate_media(media="print")
    printed = page.evaluate(
        """() => {
            window.dispatchEvent(new Event("beforeprint"));
            return document.getElementById("picture").toDataURL();
        }"""
    )
    expect(page.locator("#zoom")).to_have_text("100%")
    # On one canvas: Chromium prints one that lies over it as white, and the photo is gone.
    on_paper = pixels_of(printed)
    assert has_colour(on_paper, *GAP)
    assert (on_paper[..., 3] == 255).mean() > 0.3  # the photo, in the middle of a wide frame
    expect(page.locator("#overlay")).to_be_hidden()
    for shown in ("#refill-title", "#places li:last-child", "#frame", "#print-title"):
        expect(page.locator(shown)).to_be_visible()
    for hidden in (".pick", ".toolbar", ".compare", "#share", ".slider", ".downloads"):
        expect(page.locator(hidden)).to_be_hidden()
    page.emulate_media(media="screen")
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert has_colour(overlay(page), *GAP)
    assert not has_colour(canvas(page, "picture"), *GAP)


def test_a_photo_of_an_earlier_day_says_how_the_shelf_should_look(page: Page, url: str) -> None:
    requests = predictions(page)
    choose(page, GAPS, FULL)
    assert page.locator("#reference option").all_inner_texts()[0] == "Nothing chosen"
    page.select_option("#reference", index=1)
    told = page.locator("#compliance-told")
    expect(told).to_contain_text("in place")
    compared = compare_with(url, GAPS, ask(url, FULL))["compliance"]
    missing, extra, moved = (len(compared[kind]) for kind in ("missing", "extra", "moved"))
    assert min(missing, extra, moved) > 0
    share = percent(compared["rate"])
    expect(told).to_contain_text(
        f"{share} in place: {missing} missing, {extra} extra, {moved} moved"
    )
    expect(page.locator("#differences li")).to_have_count(missing + extra + moved)
    assert all(has_colour(overlay(page), *colour) for colour in (MISSING, EXTRA, MOVED))
    page.locator("#show-differences").uncheck()
    assert not has_colour(overlay(page), *MISSING)
    page.locator("#show-differences").check()
    page.locator("#differences button").first.click()
    assert has_colour(overlay(page), *SPOT)
    page.click("#zoom-fit")
    assert downloaded_result(page)["compliance"] == compared
    page.get_by_role("button", name="Remove full.jpg").click()  # it goes, what it said stays
    expect(page.locator("#reference option:checked")).to_have_text(re.compile("^full.jpg"))
    expect(page.locator("#compliance")).to_be_visible()
    page.select_option("#reference", index=0)
    expect(page.locator("#compliance")).to_be_hidden()
    assert "compliance" not in downloaded_result(page)
    assert len(requests) == 3  # nobody need be asked to compare with nothing


def compare_with(url: str, picture: Path, reference: Mapping[str, object]) -> Result:
    fields: dict[str, tuple[str, bytes] | str] = {
        "file": (picture.name, picture.read_bytes()),
        "reference": json.dumps(reference),
    }
    answer = urllib3.request("POST", f"{url}/predict", fields=fields)
    assert answer.status == 200
    result: Result = json.loads(answer.data)
    return result


def test_a_planogram_is_answered_position_by_position(
    page: Page, console: Console, url: str, tmp_path: Path
) -> None:
    """One drawn from what stands there, and one product that does not."""
    console.expected.append("400")
    file = tmp_path / "aisle-5.planogram.json"
    file.write_text(json.dumps(planogram_of(ask(url, GAPS))))
    choose(page, GAPS)
    page.set_input_files("#reference-file", file)
    expect(page.locator("#compliance-told")).to_contain_text("1 missing, 0 extra, 0 moved")
    expect(page.locator("#reference")).to_have_value("1")
    expect(page.locator("#differences li")).to_have_text([re.compile("^Missing: .*, tea$")])
    positions = page.locator("#position-rows tr")
    expect(positions).to_have_count(ask(url, GAPS)["count"] + 1)
    page.click("#positions-title")
    expect(positions.filter(has_text="gone")).to_have_text(re.compile(r"gone.*tea.*missing"))
    expect(positions.first).to_have_text(re.compile(r"cola.*in place"))
    (tmp_path / "no.json").write_text("{")
    page.set_input_files("#reference-file", tmp_path / "no.json")
    expect(page.locator("#reference-problem")).to_have_text("This file is not JSON.")
    (tmp_path / "odd.json").write_text('{"slots": [1]}')
    page.set_input_files("#reference-file", tmp_path / "odd.json")
    expect(page.locator("#problem")).to_contain_text("does not say how the shelf should look")
    expect(page.locator("#problem")).to_contain_text("Slot 0 of the reference")
    expect(page.locator(".compare #problem")).to_be_visible()  # where the person is
    expect(page.locator("#compliance")).to_be_hidden()  # it was another file's
    expect(page.locator("#report")).to_be_visible()  # it is counted all the same
    page.select_option("#reference", index=0)
    expect(page.locator("#problem")).to_be_hidden()


def planogram_of(answer: Result) -> dict[str, object]:
    """A planogram in centimetres: ten pixels each, with a margin; the widest gap holds tea."""
    gap = max(answer["gaps"], key=lambda gap: gap["facings"])
    left, top, right, bottom = gap["xyxy"]
    tea = [(left + right) / 2 - 20, top, (left + right) / 2 + 20, bottom]
    boxes = {str(i): found["xyxy"] for i, found in enumerate(answer["detections"])} | {"gone": tea}
    return {
        "width": answer["image"]["width"] / 10 + 10,
        "height": answer["image"]["height"] / 10 + 10,
        "fixtures": [{"id": "bay", "x": 0, "y": 0, "w": 1, "h": 1}],
        "products": [
            {
                "id": i,
                "name": "tea" if i == "gone" else "cola",
                "w": (x2 - x1) / 10,
                "h": (y2 - y1) / 10,
            }
            for i, (x1, y1, x2, y2) in boxes.items()
        ],
        "positions": [
            {"id": i, "productId": i, "fixtureId": "bay", "x": x1 / 10 + 5, "y": y1 / 10 + 5}
            for i, (x1, y1, *_) in boxes.items()
        ],
    }


def test_warnings_and_how_gaps_were_found_are_in_a_managers_words(page: Page, url: str) -> None:
    """A warning that this page does not know is told in the service's words."""
    choose(page, GAPS)
    expect(page.locator("#warnings")).to_be_hidden()

    result = copy.deepcopy(ask(url, GAPS)) | {"truncated": True}
    first = min(result["gaps"], key=lambda gap: (gap["row"], gap["xyxy"][0]))
    first |= {"confidence": 0.83, "origin": "both"}
    result["warnings"] = [
        {"code": "blurred", "detail": "sharpness 3"},
        {"code": "later", "detail": "A later one"},
    ]
    page.click(".drop")
    page.route(is_predict, lambda route: route.fulfill(json=result))
    choose(page, GAPS)
    expect(page.locator("#warnings li")).to_have_text(
        [
            re.compile("The photo is blurred: take it again"),
            "A later one",
            re.compile("more products"),
        ]
    )
    expect(page.locator("#places small").first).to_have_text(
        "seen on the photo and worked out · 83% sure"
    )


def test_the_first_paint_needs_little(page: Page, url: str) -> None:
    """All that the page loads before a person does anything, as it comes over the network."""
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    network.send("Network.setCacheDisabled", {"cacheDisabled": True})
    asked: set[str] = set()  # the load before this one may still end
    bytes_of: dict[str, float] = {}
    network.on("Network.requestWillBeSent", lambda event: asked.add(event["requestId"]))
    network.on(
        "Network.loadingFinished",
        lambda event: bytes_of.update({event["requestId"]: event["encodedDataLength"]}),
    )
    network.on("Network.loadingFailed", lambda event: asked.discard(event["requestId"]))
    page.goto(url, wait_until="networkidle")
    deadline = time.monotonic() + TIMEOUT_MS / 1000
    # A renderer that stalls looks idle, too.
    while (len(asked) < 15 or not asked <= bytes_of.keys()) and time.monotonic() < deadline:
        page.wait_for_timeout(50)
    network.detach()
    received = [bytes_of[request] for request in asked]
    assert len(received) >= 15
    assert sum(received) <= FIRST_PAINT_BYTES, received


def table_of(page: Page) -> list[list[str]]:
    read = "(lines) => lines.map((line) => [...line.cells].map((cell) => cell.innerText.trim()))"
    lines: list[list[str]] = page.locator("#rows tr").evaluate_all(read)
    return lines


def percent(share: float | None) -> str:
    """Write a share as JavaScript does: 92.5 % is 93 %, where Python writes 92 %."""
    assert share is not None
    return f"{Decimal(str(share * 100)).quantize(Decimal(1), ROUND_HALF_UP)}%"


def lines_of(answer: Mapping[str, Any]) -> list[list[str]]:
    """What the table of a result says."""
    return [
        [
            str(row["index"] + 1),
            str(row["count"]),
            percent(row["fill_rate"]),
            str(sum(gap["row"] == row["index"] for gap in answer["gaps"])),
        ]
        for row in answer["rows"]
    ]


def test_the_slider_leaves_out_products_without_asking_the_service(
    page: Page, url: str, tmp_path: Path
) -> None:
    """Rows, gaps and fill rates stay as the service found them, and the page says so."""
    requests = predictions(page)
    slider, hint = page.locator("#confidence"), page.locator("#slider-hint")
    dark = tmp_path / "dark.jpg"  # so that no product of a row is sure
    PIL.ImageEnhance.Brightness(PIL.Image.open(GAPS)).enhance(0.05).save(dark)
    pictures = [GAPS, TURNED, dark]
    choose(page, *pictures)
    announced = page.inner_text("#announce")
    for number, picture in enumerate(pictures):
        page.locator(".strip .tile").nth(number).click()
        answer = ask(url, picture)
        page.fill("#confidence", str(SERVICE_CONFIDENCE))
        assert [slider.get_attribute(name) for name in ("min", "max")] == ["0.3", "0.95"]
        assert (slider.input_value(), hint.inner_text()) == (
            str(SERVICE_CONFIDENCE),
            "Move right to see only the surer products. Rows, gaps and fill rate stay as they are.",
        )
        assert downloaded_result(page) == without_times(answer)
        counts = {answer["count"]}
        for confidence in (0.5, 0.8, 0.94):
            page.fill("#confidence", str(confidence))
            expected = without_times(result_at(answer, confidence))
            assert downloaded_result(page) == expected
            shown = f"{expected['count']} of {answer['count']}"
            assert page.inner_text("#confidence-value") == f"{confidence:.2f} · {shown}"
            all_shown = expected["count"] == answer["count"]
            # Never "0 products" beside a fill rate that is of all of them.
            assert page.inner_text("#count") == (str(answer["count"]) if all_shown else shown)
            assert table_of(page) == lines_of(expected)
            assert hint.inner_text() == (
                "Less sure products are hidden. "
                f"Rows, gaps and fill rate are those of all {answer['count']}."
            )
            assert found_of(expected) == found_of(ask(url, picture, confidence))
            counts.add(expected["count"])
        assert len(counts) >= 3  # a sure model may lose none at the first step
    assert "0" in {line[1] for line in table_of(page)}  # rows with no product left stay
    assert requests == [f"{url}/predict"] * 3
    assert page.inner_text("#announce") == announced  # once, not at each step


def downloaded_result(page: Page) -> dict[str, Any]:
    return without_times(json.loads(save(page, "#download-json")[1]))


def without_times(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key != "timings_ms"}


def result_at(answer: Result, confidence: float) -> dict[str, Any]:
    """The service's answer with fewer products."""
    detections = [found for found in answer["detections"] if found["confidence"] >= confidence]
    count = Counter(found["row"] for found in detections)
    return {
        **answer,
        "detections": detections,
        "count": len(detections),
        "rows": [{**row, "count": count[row["index"]]} for row in answer["rows"]],
        "thresholds": {**answer["thresholds"], "confidence": confidence},
    }


def found_of(answer: Mapping[str, Any]) -> list[dict[str, object]]:
    """The products alone: which row they stand on is found at the service's own confidence."""
    return [{key: found[key] for key in found if key != "row"} for found in answer["detections"]]


def test_a_picture_can_be_dropped_and_pasted(page: Page) -> None:
    for way in ("drop", "paste"):
        page.evaluate(
            """([way, data]) => {
                const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
                const transfer = new DataTransfer();
                transfer.items.add(new File([bytes], `${way}.jpg`, { type: "image/jpeg" }));
                const options = { bubbles: true, cancelable: true };
                document.body.dispatchEvent(way === "drop"
                    ? new DragEvent("drop", { ...options, dataTransfer: transfer })
                    : new ClipboardEvent("paste", { ...options, clipboardData: transfer }));
            }""",
            [way, base64.b64encode(GAPS.read_bytes()).decode()],
        )
        page.locator(".strip li[data-state=counted]", has_text=f"{way}.jpg").wait_for()
    expect(page.locator("#report")).to_be_visible()


def test_a_sample_is_one_click_away(page: Page, url: str) -> None:
    samples = sorted((STATIC / "samples").glob("*.jpg"))
    assert [path.name for path in samples] == ["full.jpg", "gaps.jpg", "tilted.jpg"]
    for path in samples:
        assert path.stat().st_size <= 60_000
        page.click(f"[data-name='{path.name}']")
        expect(page.locator("#count")).to_have_text(str(ask(url, path)["count"]))
        if path.name == "gaps.jpg":
            page.locator("#places input").first.check()
        page.click(".drop")
    page.click("[data-name='gaps.jpg']")
    expect(page.locator("#places input").first).to_be_checked()  # the same picture as before
    page.click(".drop")
    expect(page.locator("#main")).to_have_attribute("data-state", "empty")


def test_a_sample_that_does_not_come_is_told_and_can_be_clicked_again(
    clocked: Page, console: Console
) -> None:
    page = clocked
    console.expected += ["net::ERR", "503"]
    sample = page.locator("[data-name='gaps.jpg']")
    answers: list[Callable[[Route], None]] = [
        lambda route: route.abort(),
        lambda route: route.fulfill(status=503, body="{}"),
    ]
    for answer in answers:
        page.route("**/samples/gaps.jpg", answer)
        sample.press("Enter")
        expect(page.locator("#service")).to_contain_text("The service does not answer.")
        page.clock.run_for(2000)
        expect(page.locator("#service")).to_be_hidden()
        page.unroute_all()
    sample.press("Enter")
    expect(page.locator(".strip li")).to_have_attribute("data-state", "counted")
    expect(page.locator("#frame")).to_be_focused()  # the button that had the focus went away


def test_the_picture_zooms_and_moves(counted: Page) -> None:
    page = counted
    zoom, frame = page.locator("#zoom"), page.locator("#frame")
    expect(zoom).to_have_text("100%")
    expect(page.locator("#zoom-out")).to_be_disabled()
    page.click("#zoom-in")
    expect(zoom).to_have_text("150%")
    frame.hover()
    page.mouse.wheel(0, -500)
    expect(zoom).to_have_text("334%")
    page.mouse.wheel(0, 5000)
    expect(zoom).to_have_text("100%")
    frame.dblclick()
    expect(zoom).to_have_text("200%")
    before = overlay(page)
    drag(page, frame, 80, 40)
    assert not np.array_equal(before, overlay(page))
    frame.focus()
    for key, text in (("+", "300%"), ("-", "200%"), ("0", "100%")):
        page.keyboard.press(key)
        expect(zoom).to_have_text(text)
    page.click("#rows tr:nth-child(2) button")
    expect(zoom).to_have_text("200%")
    page.screenshot(path=SCREENS / "row.png")
    page.click("#zoom-fit")
    expect(zoom).to_have_text("100%")


def drag(page: Page, target: Locator, dx: int, dy: int) -> None:
    box = target.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + dx, y + dy, steps=3)
    page.mouse.up()


def test_a_small_laptop_shows_the_picture_with_all_that_acts_on_it(counted: Page) -> None:
    counted.set_viewport_size({"width": 1366, "height": 650})
    counted.evaluate("scrollTo(0, 300)")
    expect(counted.locator("#zoom-fit")).to_be_in_viewport(ratio=0.99)
    expect(counted.locator("#frame")).to_be_in_viewport(ratio=0.99)
    counted.set_viewport_size(DESK["viewport"])
    counted.evaluate("scrollTo(0, 0)")


def test_the_wheel_scrolls_the_page_while_the_picture_is_whole(counted: Page) -> None:
    counted.set_viewport_size({"width": 900, "height": 600})
    counted.locator("#frame").hover()
    before = counted.evaluate("scrollY")
    counted.mouse.wheel(0, 300)
    counted.wait_for_function("(before) => scrollY > before", arg=before)
    expect(counted.locator("#zoom")).to_have_text("100%")
    counted.set_viewport_size(DESK["viewport"])


def test_two_fingers_zoom(phone: Page) -> None:
    page = phone
    choose(page, GAPS)
    page.locator("#frame").scroll_into_view_if_needed()
    box = page.locator("#frame").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    fingers = page.context.new_cdp_session(page)
    # First both go up, which with one finger would scroll the page, then they part.
    for kind, move, apart in (
        ("touchStart", 0, 30),
        ("touchMove", -20, 30),
        ("touchMove", -40, 30),
        ("touchMove", -40, 60),
    ):
        points = [{"x": x + s * apart, "y": y + move, "id": i} for i, s in enumerate((-1, 1))]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    fingers.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    expect(page.locator("#zoom")).to_have_text(re.compile(r"^200\s%$"))


def test_boxes_are_drawn_on_their_products_in_the_screens_own_pixels(phone: Page, url: str) -> None:
    phone.set_viewport_size(DESK["viewport"])  # still two pixels for each of CSS
    choose(phone, GAPS)
    show_layers(phone, "products")  # nine gaps would cover a fifth of the edges
    answer, pixels = ask(url, GAPS), overlay(phone)
    show_layers(phone, *LAYERS)
    phone.set_viewport_size(PHONE["viewport"])
    assert pixels.shape[1] > DESK["viewport"]["width"]
    assert share_drawn(pixels, boxes_on(pixels, answer)) > MOST_EDGES
    edges = (pixels == (*PRODUCT, 255)).all(axis=2)
    assert edges.sum(axis=1).max() > 100  # whole lines in the pure colour: nothing is blurred


SHORT, LONG = 3, 4
# What a tag of EXIF says: type, number of values, orientation; and how the picture is turned.
# None for one in XMP. No two that follow each other show the same.
ORIENTATIONS: dict[str, tuple[tuple[int, int, int] | None, int]] = {
    "two": ((SHORT, 1, 2), 2),
    "of type long": ((LONG, 1, 6), 1),
    "three": ((SHORT, 1, 3), 3),
    "with two values": ((SHORT, 2, 6), 1),
    "four": ((SHORT, 1, 4), 4),
    "nine": ((SHORT, 1, 9), 1),
    "five": ((SHORT, 1, 5), 5),
    "in XMP alone": (None, 1),
    "six": ((SHORT, 1, 6), 6),
    "one": ((SHORT, 1, 1), 1),
    "seven": ((SHORT, 1, 7), 7),
    "eight": ((SHORT, 1, 8), 8),
}
XMP = (
    b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF xmlns:rdf="
    b"'http://www.w3.org/1999/02/22-rdf-syntax-ns#'><rdf:Description xmlns:tiff="
    b"'http://ns.adobe.com/tiff/1.0/' tiff:Orientation='6'/></rdf:RDF></x:xmpmeta>"
)


def with_segment(jpeg: bytes, body: bytes) -> bytes:
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def orientation_tag(kind: int, count: int, value: int) -> bytes:
    """Exif data of one tag, of any type and count."""
    number = struct.pack(">HH", value, 0) if kind == SHORT else struct.pack(">I", value)
    entry = struct.pack(">HHI", 0x0112, kind, count) + number
    return b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + entry + bytes(4)


@pytest.mark.slow
def test_boxes_lie_on_their_products_whatever_a_photo_says_of_its_orientation(
    page: Page, tmp_path: Path, url: str
) -> None:
    """Service and browser turn the same photos: the view shows the shelf as it was counted."""
    with PIL.Image.open(GAPS) as opened:
        shelf = opened.convert("RGB").resize((600, 400))
    file = io.BytesIO()
    shelf.save(file, "JPEG", quality=90)
    photos = [tmp_path / f"{name}.jpg" for name in ORIENTATIONS]
    for photo, (tag, _) in zip(photos, ORIENTATIONS.values(), strict=True):
        said = orientation_tag(*tag) if tag else XMP
        photo.write_bytes(with_segment(file.getvalue(), said))
    choose(page, *photos)
    show_layers(page, "products")
    for number, (name, (_, turn)) in enumerate(ORIENTATIONS.items()):
        upright = shelf if turn == 1 else shelf.transpose(TURNS[turn])
        page.locator(".strip .tile").nth(number).click()
        answer, deadline = ask(url, photos[number]), time.monotonic() + TIMEOUT_MS / 1000
        assert (answer["image"]["width"], answer["image"]["height"]) == upright.size, name
        while (lost := difference(page, upright)) > SAME_PICTURE and time.monotonic() < deadline:
            page.wait_for_timeout(50)
        assert lost <= SAME_PICTURE, name
        drawn = overlay(page)
        assert share_drawn(drawn, boxes_on(drawn, answer)) > MOST_EDGES, name
    show_layers(page, *LAYERS)


def difference(page: Page, picture: PIL.Image.Image) -> float:
    """How far the view is from a picture that it shows whole, of 255 on average."""
    seen = canvas(page, "picture")
    scale = min(seen.shape[1] / picture.width, seen.shape[0] / picture.height)
    size = int(scale * picture.width), int(scale * picture.height)
    left, top = (round((seen.shape[1 - axis] - size[axis]) / 2) for axis in (0, 1))
    shown = seen[top : top + size[1], left : left + size[0], :3].astype(int)
    return float(np.abs(shown - np.asarray(picture.resize(size)).astype(int)).mean())


def canvas(page: Page, name: str) -> np.ndarray:
    """Read a canvas after the next frame, (H, W, 4) RGBA."""
    data = page.evaluate(
        """(id) => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() =>
            resolve(document.getElementById(id).toDataURL()))))""",
        name,
    )
    return pixels_of(data)


def pixels_of(data: str) -> np.ndarray:
    return np.array(PIL.Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))))


def boxes_on(pixels: np.ndarray, answer: Mapping[str, Any]) -> np.ndarray:
    """Where an answer's boxes lie on the overlay of a picture that is shown whole."""
    height, width = pixels.shape[:2]
    image = answer["image"]
    scale = min(width / image["width"], height / image["height"])
    offset = np.array((width, height)) - scale * np.array((image["width"], image["height"]))
    return np.asarray(xyxy_of(answer) * scale + np.tile(offset / 2, 2))


def xyxy_of(answer: Mapping[str, Any]) -> np.ndarray:
    return np.array([found["xyxy"] for found in answer["detections"]])


def share_drawn(pixels: np.ndarray, boxes: np.ndarray) -> float:
    """Which share of the boxes has its left and its right edge drawn, give or take a line."""
    edges = (pixels == (*PRODUCT, 255)).all(axis=2)
    middles = ((boxes[:, 1] + boxes[:, 3]) / 2).round().astype(int)
    found = [
        all(edges[y, max(0, round(x) - 3) : round(x) + 4].any() for x in (box[0], box[2]))
        for y, box in zip(middles, boxes, strict=True)
    ]
    return float(np.mean(found))


def test_a_smaller_picture_is_sent_on_wish_and_its_boxes_lie_right(
    page: Page, url: str, tmp_path: Path
) -> None:
    """As large as a phone's; turned by EXIF, which the picture that is sent no longer has."""
    large = tmp_path / "large.jpg"
    with PIL.Image.open(GAPS) as photo:
        exif = photo.getexif()
        exif[0x0112] = 6
        tall = photo.resize((4000, 3000)).transpose(PIL.Image.Transpose.ROTATE_90)
        tall.save(large, quality=92, exif=exif)
    sent: list[int] = []
    page.on("request", lambda request: sent.append(len(request.post_data_buffer or b"")))
    page.get_by_label("Send smaller pictures").check()
    with page.expect_response(is_predict_response) as answered:
        choose(page, large)
    answer = answered.value.json()
    whole = ask(url, large)
    assert (answer["image"]["width"], answer["image"]["height"]) == (2048, 1536)
    assert max(sent) < large.stat().st_size / 2
    assert abs(answer["count"] - whole["count"]) <= 0.03 * whole["count"]
    show_layers(page, "products")
    pixels = overlay(page)
    assert share_drawn(pixels, boxes_on(pixels, answer)) > MOST_EDGES
    page.reload()
    expect(page.get_by_label("Send smaller pictures")).to_be_checked()


def test_each_layer_can_be_hidden(counted: Page) -> None:
    whole = overlay(counted)
    for layer in LAYERS:
        show_layers(counted, *(other for other in LAYERS if other != layer))
        part = overlay(counted)
        assert not np.array_equal(part, whole)
        assert has_colour(part, *GAP) == (layer != "gaps")
        assert has_colour(part, *PRODUCT) == (layer == "gaps")  # faded while gaps are the question
    show_layers(counted, *LAYERS)
    assert np.array_equal(overlay(counted), whole)


def test_nothing_is_drawn_over_a_gap(counted: Page, url: str) -> None:
    """Whole edges in the gaps' own colour, wherever products stand beside or in front."""
    answer, pixels = ask(url, GAPS), overlay(counted)
    image = answer["image"]
    scale = min(pixels.shape[1] / image["width"], pixels.shape[0] / image["height"])
    offset = (
        np.array(pixels.shape[1::-1]) - scale * np.array((image["width"], image["height"]))
    ) / 2
    coloured = (pixels == (*GAP, 255)).all(axis=2)
    for gap in answer["gaps"]:
        left, top, right, bottom = (
            (np.array(gap["xyxy"]) * scale + np.tile(offset, 2)).round().astype(int)
        )
        for edge in (left, right):
            inside = slice(max(0, edge - 3), edge + 4)
            drawn = coloured[top + 3 : bottom - 3, inside].any(axis=1)
            assert drawn.mean() > 0.99


def show_layers(page: Page, *layers: str) -> None:
    """Check the boxes of these layers alone."""
    click = """(boxes, ids) => boxes.forEach((box) => {
        if (box.checked !== ids.includes(box.id)) box.click();
    })"""
    page.locator("#layers input").evaluate_all(click, [f"show-{layer}" for layer in layers])


def test_a_row_lights_up_in_the_table_and_on_the_picture(counted: Page) -> None:
    plain, second = overlay(counted), counted.locator("#rows tr").nth(1)
    second.hover()
    alone = overlay(counted)
    assert brightness(alone) < brightness(plain)  # the other rows lie in shadow
    counted.mouse.move(0, 0)
    assert np.array_equal(plain, overlay(counted))
    second.locator("button").focus()
    assert np.array_equal(alone, overlay(counted))
    second.locator("button").blur()
    counted.locator("#frame").hover()  # its middle is on the third of five rows
    expect(counted.locator("#rows tr").nth(2)).to_have_class("lit")
    assert brightness(overlay(counted)) >= 0.9 * brightness(plain)


def brightness(pixels: np.ndarray) -> float:
    return float(pixels[..., :3].mean())


def test_the_csv_has_a_line_for_each_gap_and_each_product_that_is_shown(
    page: Page, tmp_path: Path, url: str
) -> None:
    formula = tmp_path / "=1+1, aisle.jpg"
    formula.write_bytes(GAPS.read_bytes())
    choose(page, formula)
    for confidence in (SERVICE_CONFIDENCE, 0.8):
        page.fill("#confidence", str(confidence))
        name, content = save(page, "#download-csv")
        assert name.endswith("1+1, aisle.csv")
        lines = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))
        assert {line["picture"] for line in lines} == {"'=1+1, aisle.jpg"}
        gaps = [line for line in lines if line["kind"] == "gap"]
        told = [(int(line["row"]), int(line["facings"])) for line in gaps]
        assert told == [(row, facings) for row, _, facings in places_of(ask(url, GAPS))]
        lines = [line for line in lines if line["kind"] == "product"]
        products = [
            [int(line["row"]) - 1, *(float(line[e]) for e in ("left", "top", "right", "bottom"))]
            for line in lines
        ]
        answer = result_at(ask(url, GAPS), confidence)
        places = [[found["row"], *found["xyxy"]] for found in answer["detections"]]
        assert sorted(products) == sorted(places)
        order = [(row, left) for row, left, *_ in products]
        assert order == sorted(order)


def test_the_annotated_picture_is_the_picture_as_it_is_seen_in_full_size(
    page: Page, tmp_path: Path, url: str
) -> None:
    """Without boxes it is the picture itself, turned as its EXIF says."""
    pictures = [tmp_path / f"turned.{kind}" for kind in ("jpeg", "webp")]
    with PIL.Image.open(TURNED) as stored:
        upright = np.asarray(PIL.ImageOps.exif_transpose(stored).convert("RGB")).astype(int)
        for picture in pictures:
            stored.save(picture, exif=stored.getexif(), quality=95)
    choose(page, *pictures)
    for number, picture in enumerate(pictures):
        page.locator(".strip .tile").nth(number).click()
        show_layers(page, *LAYERS)
        name, annotated = save_picture(page)
        assert name == "turned.boxes.png"
        assert annotated.shape[:2] == upright.shape[:2]
        show_layers(page, "products", "rows")
        annotated = save_picture(page)[1]
        assert share_drawn(annotated, xyxy_of(ask(url, picture))) > MOST_EDGES
        show_layers(page)
        plain = save_picture(page)[1][..., :3]
        assert np.abs(plain - upright).mean() < 5  # of 255: what the encoder lost


def save_picture(page: Page) -> tuple[str, np.ndarray]:
    name, content = save(page, "#download-png")
    return name, np.array(PIL.Image.open(io.BytesIO(content)))


def test_an_error_is_told_in_plain_words_and_what_is_no_picture_is_not_sent(
    page: Page, console: Console, tmp_path: Path
) -> None:
    console.expected.append("422")
    requests = predictions(page)
    (tmp_path / "list.pdf").write_bytes(b"%PDF-1.7")
    choose(page, CORRUPT, tmp_path / "list.pdf")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("This picture is damaged.")
    expect(alert).to_contain_text("take a new photo")
    expect(page.locator("#retry")).to_be_hidden()
    expect(page.locator("#report")).to_be_hidden()
    expect(page.locator(".strip li").first).to_contain_text("not counted")
    page.locator(".strip .tile").nth(1).click()
    expect(alert).to_contain_text("This kind of file cannot be counted.")
    assert len(requests) == 1

    console.expected.extend(["415", "net::ERR"])
    (tmp_path / "text.jpg").write_bytes(b"text")
    (tmp_path / "still.gif").write_bytes(b"GIF89a")
    (tmp_path / "gone.jpg").write_bytes(GAPS.read_bytes())

    def take_the_card_out(route: Route) -> None:
        (tmp_path / "gone.jpg").unlink(missing_ok=True)  # while the first one is asked about
        route.continue_()

    page.route(is_predict, take_the_card_out)
    page.set_input_files("#choose", [tmp_path / n for n in ("still.gif", "text.jpg", "gone.jpg")])
    expect(page.locator(".strip [data-state=failed]")).to_have_count(5)
    page.locator(".strip .tile").nth(2).click()
    expect(alert).to_contain_text("got GIF")
    page.locator(".strip .tile").nth(3).click()  # the same title, another reason
    expect(alert).not_to_contain_text("got GIF")
    page.locator(".strip .tile").nth(4).click()
    expect(alert).to_contain_text("This file can no longer be read.")
    expect(page.locator("#service")).to_be_hidden()
    page.route(is_predict, lambda route: route.fulfill(json={"portal": "sign in"}))
    page.set_input_files("#choose", GAPS)
    expect(alert).to_contain_text("The service answered with status 200.")


def test_a_folder_is_told_from_a_file_that_is_gone(
    page: Page, console: Console, tmp_path: Path
) -> None:
    console.expected.append("net::ERR")
    folder = tmp_path / "shelves"
    folder.mkdir()
    browser = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        browser.send("Input.dispatchDragEvent", {"type": kind, "x": 200, "y": 200, "data": data})
    browser.detach()
    expect(page.get_by_role("alert")).to_contain_text("It is a folder")
    expect(page.locator("#service")).to_be_hidden()


@pytest.mark.parametrize(
    "portal",
    [
        {"status": 302, "headers": {"Location": "https://login.example/"}},
        {"status": 200, "content_type": "text/html", "body": "<html>Log in</html>"},
        {"status": 511, "content_type": "text/html", "body": "<html>Log in</html>"},
    ],
    ids=["redirect", "page", "511"],
)
def test_a_login_that_ran_out_is_told_and_no_picture_is_lost_for_it(
    page: Page, console: Console, portal: dict[str, Any]
) -> None:
    console.expected.append("511")
    requests = predictions(page)
    page.route(re.compile("/predict|/health"), lambda route: route.fulfill(**portal))
    page.reload()
    page.set_input_files("#choose", [GAPS, TURNED])
    alert, tiles = page.get_by_role("alert"), page.locator(".strip li")
    expect(alert).to_contain_text("You are no longer logged in.")
    expect(tiles.nth(1)).to_have_attribute("data-state", "waiting")
    expect(page.locator("#service")).to_be_hidden()
    assert len(requests) == 1
    page.unroute_all()
    tiles.nth(1).locator(".tile").click()  # what is told of the first one holds for it, too
    expect(alert).to_contain_text("You are no longer logged in.")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".strip li[data-state=counted]")).to_have_count(2)
    assert len(requests) == 3


def test_several_pictures_stand_in_a_strip_with_their_state(
    page: Page, console: Console, url: str
) -> None:
    console.expected.append("422")
    choose(page, GOOD_SAMPLE, CORRUPT, GAPS)
    tiles = page.locator(".strip li")
    counts = [ask(url, path)["count"] for path in (GOOD_SAMPLE, GAPS)]
    expect(tiles).to_have_text(
        [
            re.compile(rf"1\. full\.jpg.*\d\d:\d\d.*{counts[0]} products", re.DOTALL),
            re.compile(r"2\. corrupt\.jpg.*\d\d:\d\d.*not counted", re.DOTALL),
            re.compile(rf"3\. gaps\.jpg.*\d\d:\d\d.*{counts[1]} products", re.DOTALL),
        ]
    )
    expect(page.locator("#queue")).to_contain_text("3 pictures: 2 counted, 1 failed")
    expect(page.locator("#queue")).to_contain_text(f"{sum(counts)} products")
    tiles.nth(2).locator(".tile").click()
    expect(page.locator("#count")).to_have_text(str(counts[1]))
    name, content = save(page, "#download-all")
    lines = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    products = [line for line in lines if line["kind"] == "product"]
    assert (name, len(products)) == ("shelves.csv", sum(counts))
    page.screenshot(path=SCREENS / "several.png")
    for _ in range(3):
        tiles.first.locator(".drop").click()
    expect(page.locator("#main")).to_have_attribute("data-state", "empty")


def test_a_picture_in_work_keeps_still_on_wish_and_once_removed_is_no_longer_asked_for(
    page: Page, console: Console
) -> None:
    console.expected.append("net::ERR")
    page.route(is_predict, lambda route: None)  # an answer that never comes
    page.set_input_files("#choose", GAPS)
    page.locator(".strip li[data-state=counting]").wait_for()
    animation = "getComputedStyle(document.querySelector('.tile'), '::after').animationName"
    assert page.evaluate(animation) == "turn"
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate(animation) == "none"
    page.emulate_media(reduced_motion="no-preference")
    with page.expect_event("requestfailed") as failed:
        page.get_by_role("button", name="Remove gaps.jpg").click()
    assert "ABORTED" in str(failed.value.failure)
    expect(page.locator("#main")).to_have_attribute("data-state", "empty")


def test_a_busy_service_is_asked_again_after_a_visible_wait(
    clocked: Page, console: Console
) -> None:
    console.expected.append("503")
    answer_first(clocked, is_predict, "overloaded", 503, {"Retry-After": "25"})
    clocked.set_input_files("#choose", GAPS)
    # The clock runs on by itself. Two digits come from the service: the page itself waits a second.
    expect(clocked.locator(".strip li")).to_contain_text(re.compile(r"again in \d\d s"))
    expect(clocked.locator("#status")).to_contain_text("The service is busy: again in")
    clocked.clock.run_for(25_000)
    clocked.locator(".strip li[data-state=counted]").wait_for()


def answer_first(
    page: Page,
    which: Callable[[str], bool],
    slug: str,
    status: int,
    headers: dict[str, str],
    times: int | None = 1,
) -> None:
    """Answer the first such requests, or all, with a problem; the others by the service."""
    problem = {"type": f"urn:shelfwatch:problem:{slug}", "title": slug, "status": status}

    def answer(route: Route) -> None:
        route.fulfill(
            status=status,
            headers=headers,
            content_type="application/problem+json",
            body=json.dumps(problem),
        )

    page.route(which, answer, times=times)


def test_a_service_that_starts_is_waited_for(clocked: Page, console: Console) -> None:
    page = clocked
    console.expected.append("503")
    answer_first(page, lambda address: "/health" in address, "not-ready", 503, {}, times=None)
    page.reload()
    expect(page.locator("#service")).to_contain_text("The service is starting.")
    page.set_input_files("#choose", GAPS)
    expect(page.locator(".strip li")).to_have_attribute("data-state", "waiting")
    page.unroute_all()
    page.clock.run_for(2000)
    expect(page.locator(".strip li")).to_have_attribute("data-state", "counted")
    expect(page.locator("#service")).to_be_hidden()


def test_a_lost_connection_is_told_and_heals_by_itself(clocked: Page, console: Console) -> None:
    page = clocked
    console.expected.append("net::ERR")
    page.context.set_offline(True)
    page.set_input_files("#choose", [GAPS, TURNED])
    expect(page.get_by_role("alert")).to_contain_text("The service does not answer.")
    expect(page.locator(".strip li").nth(1)).to_have_attribute("data-state", "waiting")
    page.context.set_offline(False)
    page.clock.run_for(2000)
    expect(page.locator(".strip li[data-state=counted]")).to_have_count(2)
    expect(page.locator("#problem")).to_be_hidden()


@pytest.mark.parametrize("status", [502, 504])
def test_a_proxy_that_reaches_no_service_is_waited_for(
    status: int, clocked: Page, console: Console
) -> None:
    """As while a pod restarts: no picture of the line is given up for it."""
    page = clocked
    console.expected.append(str(status))
    page.route(
        re.compile("/predict|/health"),
        lambda route: route.fulfill(status=status, content_type="text/html", body="<html>"),
    )
    page.set_input_files("#choose", [GAPS, TURNED])
    expect(page.locator("#service")).to_contain_text("The service does not answer.")
    page.clock.run_for(4000)
    expect(page.locator("#service")).to_contain_text("The service does not answer.")
    expect(page.locator(".strip li").nth(1)).to_have_attribute("data-state", "waiting")
    page.unroute_all()
    page.clock.run_for(2000)
    expect(page.locator(".strip li[data-state=counted]")).to_have_count(2)


def test_a_picture_that_never_gets_through_is_sent_again_once(
    clocked: Page, console: Console
) -> None:
    page = clocked
    console.expected.append("net::ERR")
    requests = predictions(page)
    page.route(is_predict, lambda route: route.abort())
    page.set_input_files("#choose", GAPS)
    for _ in range(4):
        expect(page.locator(".strip li")).to_have_attribute("data-state", "failed")
        expect(page.get_by_role("button", name="Try again")).to_be_visible()
        with page.expect_response(lambda response: "/health" in response.url):
            page.clock.run_for(2000)
        if len(requests) == 2:
            break
    expect(page.locator(".strip li")).to_have_attribute("data-state", "failed")
    page.clock.run_for(10_000)
    assert len(requests) == 2


def test_a_service_with_tokens_asks_for_one(page: Page, console: Console) -> None:
    """The line waits for it: no other picture is sent only to be refused."""
    console.expected.append("401")
    sent: list[str | None] = []

    def remember(request: Request) -> None:
        if is_predict(request.url):
            sent.append(request.headers.get("authorization"))

    page.on("request", remember)
    answer_first(page, is_predict, "unauthorized", 401, {})
    page.set_input_files("#choose", [GAPS, TURNED])
    expect(page.get_by_role("alert")).to_contain_text("access token")
    page.locator(".strip .tile").nth(1).click()
    expect(page.locator(".strip li").nth(1)).to_have_attribute("data-state", "waiting")
    page.get_by_label("Access token").fill("s3cret")
    page.get_by_role("button", name="Use it").click()
    expect(page.locator(".strip li[data-state=counted]")).to_have_count(2)
    page.remove_listener("request", remember)
    assert sent == [None, "Bearer s3cret", "Bearer s3cret"]


def test_focus_and_selection_stay_where_the_person_is(page: Page) -> None:
    """Pictures that are counted meanwhile change neither."""
    choose(page, GAPS)
    held: list[Route] = []
    page.route(is_predict, lambda route: held.append(route))
    page.set_input_files("#choose", [FULL, SHELF])
    page.locator(".strip .tile").first.click()
    page.locator("#places .place").nth(3).focus()
    before = page.evaluate("document.activeElement.ariaLabel")
    for number in (1, 2):
        while len(held) < number:  # the page asks for the next one when it has drawn the last
            page.wait_for_timeout(20)
        with page.expect_response(is_predict_response):
            held[-1].continue_()
        expect(page.locator(".strip li").nth(number)).to_have_attribute("data-state", "counted")
    assert page.evaluate("document.activeElement.ariaLabel") == before
    expect(page.locator(".tile").first).to_have_attribute("aria-current", "true")
    page.evaluate("scrollTo(0, 100)")
    expect(page.locator("#zoom-fit")).to_be_in_viewport(ratio=0.99)  # with the strip, too
    page.evaluate("scrollTo(0, 0)")
    keep_picture(page, "desk.png")


def keep_picture(page: Page, name: str) -> None:
    """Write what is on the screen, small enough for Git: `make screens` puts it into docs/."""
    with PIL.Image.open(io.BytesIO(page.screenshot())) as shot:
        shot.convert("RGB").quantize(192).save(SCREENS / name, optimize=True)


def is_predict_response(response: Response) -> bool:
    return is_predict(response.url)


def test_a_phone_in_spanish(phone: Page, console: Console) -> None:
    page = phone
    console.expected.append("422")
    assert_no_sideways_scroll(page)
    expect(page.locator("html")).to_have_attribute("lang", "es")
    expect(page.get_by_role("heading", name="Revisar una estantería")).to_be_visible()
    expect(page.locator("#photo")).to_have_attribute("capture", "environment")
    expect(page.get_by_text("Hacer una foto")).to_be_visible()
    assert small_targets(page) == []
    choose(page, GAPS, CORRUPT)
    assert_no_sideways_scroll(page)
    expect(page.locator("#refill-title")).to_have_text(
        re.compile(r"\d+ huecos por reponer, \d+ frentes")
    )
    expect(page.locator("#places li").first).to_contain_text(re.compile("Fila 1, (tercio|centro)"))
    expect(page.locator("#confidence-value")).to_contain_text("0,30")
    expect(page.locator("#fill-rate")).to_have_text(re.compile(r"^\d\d\s%$"))
    expect(page.locator(".tile time").first).to_have_text(re.compile(r"\d\d:\d\d$"))
    page.screenshot(path=SCREENS / "phone-full.png", full_page=True)
    assert small_targets(page) == []
    page.locator(".strip .tile").nth(1).click()
    expect(page.get_by_role("alert").filter(has_text="Esta foto está dañada.")).to_be_visible()
    assert_no_sideways_scroll(page)
    words = page.evaluate("document.body.innerText").replace(GAPS.name, "")
    assert re.findall(r"\b(?:[Rr]ow|[Gg]aps?|[Pp]icture|facing|Share|filled)\b", words) == []


def test_a_picture_that_is_chosen_before_the_words_come_is_counted(phone: Page) -> None:
    words: list[Route] = []
    phone.route("**/words/es.js", lambda route: words.append(route))
    phone.reload(wait_until="commit")
    phone.set_input_files("#choose", GAPS)
    deadline = time.monotonic() + TIMEOUT_MS / 1000
    while not words and time.monotonic() < deadline:
        phone.wait_for_timeout(50)
    expect(phone.locator("html")).to_have_attribute("lang", "en")
    words[0].continue_()
    expect(phone.locator("html")).to_have_attribute("lang", "es")
    expect(phone.locator(".strip li")).to_have_attribute("data-state", "counted")


def assert_no_sideways_scroll(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["viewport"]["width"]


def small_targets(page: Page) -> list[str]:
    """What a thumb would miss: a label counts for its input."""
    measure = """(least) => [...document.querySelectorAll(
            "button, select, input, summary, .button")]
        .map((one) => one.type === "checkbox" ? one.closest("label") : one)
        .filter((one) => one.checkVisibility() && !one.matches(".hidden-input"))
        .map((one) => [one.id || one.className || one.textContent, one.getBoundingClientRect()])
        .filter(([, { width, height }]) => width < least - 0.01 || height < least - 0.01)
        .map(([name, { width, height }]) => `${name} ${width} x ${height}`)"""
    found: list[str] = page.evaluate(measure, TOUCH)
    return found


def test_a_page_whose_words_do_not_come_works_in_english(phone: Page, console: Console) -> None:
    console.expected.append("net::ERR")
    phone.route("**/words/es.js", lambda route: route.abort())
    phone.reload()
    choose(phone, GAPS)
    expect(phone.locator("#refill-title")).to_contain_text("places to fill")
    assert phone.evaluate("document.documentElement.lang") == "en"


@pytest.mark.parametrize(
    ("width", "height"),
    [
        pytest.param(320, 256, id="a desk at 400 %"),
        pytest.param(640, 400, id="a desk at 200 %"),
        pytest.param(844, 330, id="a phone on its side"),
    ],
)
def test_a_low_window_has_room_for_the_list_below_the_picture(
    page: Page, width: int, height: int
) -> None:
    page.set_viewport_size({"width": width, "height": height})
    choose(page, GAPS)
    line = page.locator("#places li").nth(3)
    line.locator(".place").click()
    frame = page.locator("#frame").bounding_box()
    assert frame
    assert 100 <= frame["height"] <= height / 2
    expect(page.locator("#frame")).to_be_in_viewport(ratio=0.99)
    expect(line).to_be_in_viewport(ratio=0.99)
    page.set_viewport_size(DESK["viewport"])


def test_photos_that_may_still_be_counted_are_not_left_unasked(
    page: Page, console: Console
) -> None:
    console.expected += ["net::ERR", "422"]
    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    def leave() -> int:
        """Try to, after a click, without which no browser asks."""
        asked.clear()
        page.locator(".strip .tile").first.click()
        page.evaluate("location.reload()")
        page.wait_for_timeout(500)
        return len(asked)

    page.on("dialog", stay)
    page.route(is_predict, lambda route: None)
    page.set_input_files("#choose", CORRUPT)
    page.locator(".strip li[data-state=counting]").wait_for()
    assert leave() == 1
    page.unroute_all()
    page.locator(".strip .drop").click()
    choose(page, CORRUPT)  # refused for good
    asked.clear()
    page.reload()
    assert asked == []
    page.remove_listener("dialog", stay)


def test_the_csv_is_as_the_readers_spreadsheet_reads_it(phone: Page, url: str) -> None:
    """In Spain cells are parted by semicolons: "12.5" there is a day of May."""
    choose(phone, GAPS)
    _, content = save(phone, "#download-csv")
    first = content.decode("utf-8-sig").splitlines()[1].split(";")
    gap = min(ask(url, GAPS)["gaps"], key=lambda gap: (gap["row"], gap["xyxy"][0]))
    assert first[7:] == [f"{edge:.12g}".replace(".", ",") for edge in gap["xyxy"]]


def test_the_picture_stays_in_sight_on_a_phone_while_the_list_is_tapped(phone: Page) -> None:
    choose(phone, GAPS)
    expect(phone.locator("#refill-title")).to_be_in_viewport()  # without a scroll
    keep_picture(phone, "phone.png")
    for line in ("#places li:last-child .place", "#rows tr:last-child button"):
        phone.locator(line).tap()
        expect(phone.locator("#frame")).to_be_in_viewport(ratio=0.99)
        expect(phone.locator(line)).to_be_in_viewport(ratio=0.99)
        assert phone.inner_text("#zoom") != "100\xa0%"
    phone.locator("#download-json").focus()
    covered = """() => document.activeElement.getBoundingClientRect().top
        < document.getElementById("frame").getBoundingClientRect().bottom - 1"""
    for _ in range(16):  # back up the list: the picture hides nothing that has the focus
        phone.keyboard.press("Shift+Tab")
        assert not phone.evaluate(covered)
    assert phone.evaluate("document.activeElement.closest('.report') !== null")


def test_the_keyboard_alone_leads_through(page: Page) -> None:
    with page.expect_file_chooser():
        tab_to(page, "#choose")
        page.keyboard.press("Enter")
    tab_to(page, "[data-name='gaps.jpg']")
    page.keyboard.press("Enter")
    expect(page.locator("#report")).to_be_visible()
    before = page.locator("#count").inner_text()
    tab_to(page, "#zoom-in")
    page.keyboard.press("Enter")
    expect(page.locator("#zoom")).to_have_text("150%")
    tab_to(page, "#places li:nth-child(2) input")
    page.keyboard.press("Space")
    expect(page.locator("#progress")).to_contain_text("1 of ")
    tab_to(page, "#places li:nth-child(2) .place")
    page.keyboard.press("Enter")
    assert float(page.inner_text("#zoom").rstrip("%")) >= 200
    tab_to(page, "#download-csv")
    with page.expect_download():
        page.keyboard.press("Enter")
    tab_to(page, "#reference")
    with page.expect_file_chooser():
        tab_to(page, "#reference-file")
        page.keyboard.press("Enter")
    tab_to(page, "#confidence")
    for _ in range(25):
        page.keyboard.press("ArrowRight")
    expect(page.locator("#confidence-value")).to_have_text(re.compile(rf"^0.55 · \d+ of {before}$"))
    value = page.inner_text("#confidence-value").replace(" ·", ",")
    expect(page.locator("#confidence")).to_have_attribute("aria-valuetext", value)
    tab_to(page, "#rows tr:nth-child(2) button")
    expect(page.locator("#rows tr").nth(1)).to_have_class("lit")
    tab_to(page, "#download-json")
    with page.expect_download():
        page.keyboard.press("Enter")


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until the element has the focus, and see that the focus shows."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            break
    else:
        pytest.fail(f"Tab does not reach {selector}")
    ring = """(selector) => {
        const shown = document.querySelector(selector);
        const target = shown.matches(".hidden-input") ? shown.nextElementSibling : shown;
        return getComputedStyle(target).outlineStyle;
    }"""
    assert page.evaluate(ring, selector) == "solid"


def test_a_browser_that_keeps_nothing_and_names_no_language_works_all_the_same(
    browser: Browser, console: Console, url: str
) -> None:
    """With cookies forbidden, every look at the storage throws; "C" is what some systems speak."""
    page = new_window(browser, console, **DESK)
    page.add_init_script(
        """for (const name of ["localStorage", "sessionStorage"]) Object.defineProperty(
            window, name, { get() { throw new DOMException("denied", "SecurityError"); } });
        Object.defineProperty(navigator, "languages", { value: ["C", "en-US@posix"] });"""
    )
    page.goto(url)
    choose(page, GAPS, SHELF)
    page.locator("#places input").first.check()
    for number in (1, 0):
        page.locator(".strip .tile").nth(number).click()
    expect(page.locator("#places :checked")).to_have_count(1)
    page.context.close()


def test_axe_finds_no_serious_violation(page: Page, console: Console) -> None:
    console.expected.append("422")
    page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text())
    found = {"empty": violations(page)}
    choose(page, GAPS, CORRUPT, FULL)
    page.locator("#places input").first.check()
    page.select_option("#reference", index=1)
    expect(page.locator("#compliance-told")).to_contain_text("in place")
    found["result"] = violations(page)
    page.select_option("#reference", index=0)
    page.screenshot(path=SCREENS / "light.png")
    page.emulate_media(color_scheme="dark")
    page.screenshot(path=SCREENS / "dark.png")
    page.locator(".strip .tile").nth(1).click()
    expect(page.get_by_role("alert")).to_be_visible()
    found["error"] = violations(page)
    assert found == {"empty": [], "result": [], "error": []}


def violations(page: Page) -> list[str]:
    """What axe finds on the page as it is; in the dark only the colours differ."""
    found = []
    looks: tuple[tuple[Literal["dark", "light"], str, list[str], int], ...] = (
        ("dark", "rgb(15, 21, 20)", ["cat.color"], 1),
        ("light", "rgb(243, 246, 245)", [], 16),
    )
    for scheme, background, rules, least in looks:
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == background
        run = "(rules) => axe.run(rules.length > 0 ? { runOnly: rules } : {})"
        result = page.evaluate(run, rules)
        assert len(result["passes"]) >= least
        found += [
            f"{scheme}, {violation['impact']} {violation['id']}: {node['html'][:120]}"
            for violation in result["violations"]
            for node in violation["nodes"]
        ]
    return found


def test_every_problem_a_picture_can_meet_has_a_sentence() -> None:
    """`ImageGone` is an event's alone: a picture that is sent is there. The monitor has a store."""
    words = (STATIC / "words" / "en.js").read_text()
    errors: list[Any] = [*leaves(ImageError), *leaves(TryAgain), Unauthorized, InvalidReference]
    slugs = {error.slug for error in errors} - {"image-gone", "store-away"}
    assert len(slugs) >= 7
    assert {slug for slug in slugs if f'"{slug}": [' not in words} == set()


def leaves(error: type[ShelfWatchError]) -> list[type[ShelfWatchError]]:
    return [leaf for kind in error.__subclasses__() for leaf in [kind, *leaves(kind)]]


def test_the_page_loads_nothing_from_elsewhere(url: str) -> None:
    """Every file it names is served; none of its files names another host."""
    for path in [p for p in STATIC.rglob("*") if p.suffix in {".html", ".js", ".css"}]:
        text = path.read_text()
        addresses = re.findall(r"https?://[^\s\"')]+", text.replace("http://www.w3.org/", ""))
        assert addresses == [], path
        for name in re.findall(r'from "\./([\w.]+)"', text):
            assert urllib3.request("GET", f"{url}/static/{name}").status == 200
