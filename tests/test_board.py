"""The board: the same content as HTML, JSON and CSV, its figures, and who may see it."""

from __future__ import annotations

import codecs
import csv
import html
import io
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pytest
from conftest import Aws
from flask.testing import FlaskClient
from sqlalchemy import Engine, select
from test_watcher import MORNING, REGISTER, audit_data, event, ms
from werkzeug.http import parse_options_header

from events.codec import STRUCTURED
from events.types import VIEW_SILENT
from function.errors import DependencyFailed
from function.problems import PROBLEM_JSON
from local.aws import aws_env
from monitor import digest as digest_module
from monitor import silence as silence_module
from monitor.app import APP_LOAD_ERROR, create_app, serve
from monitor.config import Config
from monitor.database import migrate, open_database, reading
from monitor.digest import due_stores, send
from monitor.intake import ViewKey
from monitor.metrics import Metrics
from monitor.queries import PAGE, list_stores, read_store
from monitor.register import Register, read_register
from monitor.register import Store as KnownStore
from monitor.silence import publish_silences, silent
from monitor.store import Store
from monitor.tables import outgoing_events, views
from monitor.watcher import Watcher
from monitor.words import clock, digest

OPEN = {"EVENTS_AUTH": "none"}
BROWSERS = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.fixture
def watcher(tmp_path: Path) -> Iterator[Watcher]:
    engine = open_database(f"sqlite:///{tmp_path}/monitor.sqlite")
    migrate(engine)
    yield Watcher(store=Store(engine), register=REGISTER, metrics=Metrics())
    engine.dispose()


def board(watcher: Watcher, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> FlaskClient:
    """The app, with its clock at noon of the day of the tests."""
    monkeypatch.setattr("monitor.app._now", lambda: ms(180))
    config = Config(register=REGISTER, events_auth="none", **settings)
    return create_app(config, watcher).test_client()


@pytest.fixture
def client(watcher: Watcher, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    return board(watcher, monkeypatch)


def post(client: FlaskClient, minute: float, empty: list[int], **more: Any) -> None:
    warnings = {"warnings": more.pop("warnings")} if "warnings" in more else {}
    body = event(minute, audit_data(empty) | warnings, **more)
    answer = client.post("/", data=body, content_type=STRUCTURED)
    assert answer.status_code == 204, answer.get_data()


def play_a_morning(client: FlaskClient) -> None:
    """Gap 3 stands from 9:15 to 10:00, gap 7 from 10:30 on; every photo has ten facings."""
    for quarter in range(12):
        empty = [3] if 1 <= quarter < 4 else [7] if quarter >= 6 else []
        post(client, 15 * quarter, empty)


@pytest.mark.parametrize(
    ("folder", "names"),
    [
        ("store-17/cam.2", ["store-17.csv", "store-17-cam.2.csv"]),
        ("s/cam/left", ["s.csv", "s-cam-left.csv"]),
        ('s/"ä; \u0645', ["s.csv", 's-"ä; \u0645.csv']),
    ],
)
def test_a_table_is_saved_by_the_name_of_its_page(
    client: FlaskClient, folder: str, names: list[str]
) -> None:
    post(client, 0, [], key=f"{folder}/1.jpg")
    store, view = folder.split("/", 1)
    of_store = f"/stores/{quote(store)}"
    paths = ["/stores", of_store, f"{of_store}/views/{quote(view)}"]
    for path, name in zip(paths, ["stores.csv", *names], strict=True):
        told = client.get(f"{path}?format=csv").headers["Content-Disposition"]
        kind, options = parse_options_header(told)
        assert (kind, options["filename"]) == ("attachment", name)


def test_without_photos_the_board_says_so(client: FlaskClient) -> None:
    for path in ("/stores", "/stores/store-17"):
        assert client.get(path, headers={"Accept": "text/html"}).status_code == 200
    stores = client.get("/stores").get_json()["stores"]
    assert [(s["store"], s["views"], s["seen"]) for s in stores] == [("store-17", 2, None)]
    page = client.get("/stores/store-17").get_json()
    assert (page["availability"], page["open_gaps"], page["gaps"]) == (None, 0, [])
    assert [(v["view"], v["seen"]) for v in page["views"]] == [("cam-2", None), ("cam-9", None)]
    assert client.get("/stores/store-17/views/cam-2?bucket=%00").status_code == 404
    for path in (
        "/stores/%00",
        "/stores/nowhere",
        "/stores/store-17/views/cam-77",
        "/episodes/x/mute",
    ):
        assert client.get(path).status_code in (404, 405)


def test_a_morning_at_one_shelf(client: FlaskClient) -> None:
    play_a_morning(client)
    page = client.get("/stores/store-17").get_json()
    assert page["name"] == "Harbour Street"
    assert (page["open_gaps"], page["refill_minutes"], page["photos"]) == (1, 45, 12)
    # 3 + 6 quarters with one facing of ten empty; the last photo speaks up to noon: 15 minutes.
    assert page["availability"] == pytest.approx(1 - 9 / 120, abs=1e-4)
    (gap,) = page["gaps"]
    assert (gap["opened_at"], gap["view"]) == ("2026-11-20T10:30:00+00:00", "cam-2")
    view = client.get("/stores/store-17/views/cam-2").get_json()
    assert [e["ended"] for e in view["episodes"]] == [None, "filled"]
    assert len(view["audits"]) == 12
    assert (view["count"], view["empty_facings"], view["fill_rate"]) == (9, 1, 0.9)
    stores = client.get("/stores").get_json()["stores"]
    assert stores[0]["open_gaps"] == 1


def test_each_page_is_html_json_and_csv(client: FlaskClient) -> None:
    play_a_morning(client)
    for path, head in (
        ("/stores", "store"),
        ("/stores/store-17", "view"),
        ("/stores/store-17/views/cam-2", "episode"),
    ):
        page = client.get(path, headers={"Accept": BROWSERS})
        assert page.content_type == "text/html; charset=utf-8"
        assert "style=" not in page.get_data(as_text=True)
        assert "<script" not in page.get_data(as_text=True)
        table = list(csv.reader(io.StringIO(client.get(f"{path}?format=csv").text)))
        assert table[0][0] == head
        assert len(table) > 1
        # What a person saves is for a spreadsheet, which knows UTF-8 by its mark alone.
        link = client.get(f"{path}?format=csv", headers={"Accept": BROWSERS})
        assert list(csv.reader(io.StringIO(link.get_data().decode("utf-8-sig")))) == table
        assert link.get_data().startswith(codecs.BOM_UTF8)
        assert client.get(path).is_json
    assert client.get("/stores?format=xml").status_code == 400
    assert client.get("/stores/store-17?days=0").status_code == 400
    assert client.get("/stores/store-17?days=٣").status_code == 400


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/stores/<b>", 404, "There is nothing here."),
        ("/stores/store-17/views/cam-77", 404, "There is nothing here."),
        ("/nowhere", 404, "There is nothing here."),
        ("/stores/store-17?days=<b>", 400, "from 1 to 366, got &#39;&lt;b&gt;&#39;."),
        ("/stores?format=xml", 400, "html, json, csv, got &#39;xml&#39;."),
        ("/episodes/x/mute?format=html", 405, "This method is not allowed here."),
    ],
)
def test_people_get_a_page_of_what_went_wrong(
    client: FlaskClient, path: str, status: int, words: str
) -> None:
    told = client.get(path, headers={"Accept": BROWSERS})
    assert (told.status_code, told.content_type) == (status, "text/html; charset=utf-8")
    assert words in told.text
    assert '<a href="/stores">' in told.text
    for headers in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}):
        assert client.get(path, headers=headers).content_type == PROBLEM_JSON
    if "format=" not in path:
        more = "&" if "?" in path else "?"
        asked = client.get(f"{path}{more}format=json", headers={"Accept": BROWSERS})
        assert asked.content_type == PROBLEM_JSON


def test_people_are_told_of_a_database_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_database(f"sqlite:///{tmp_path}/none/monitor.sqlite")
    away = Watcher(store=Store(engine), register=REGISTER, metrics=Metrics())
    client = board(away, monkeypatch)
    told = client.get("/stores", headers={"Accept": BROWSERS})
    assert (told.status_code, told.content_type) == (503, "text/html; charset=utf-8")
    assert "Its database does not answer." in told.text
    assert '<a href="">Try again</a>' in told.text
    assert "sqlite" not in told.text
    assert client.get("/stores").content_type == PROBLEM_JSON
    assert client.get("/health/ready", headers={"Accept": "*/*"}).content_type == PROBLEM_JSON


def test_the_board_says_in_which_zone_its_times_are(client: FlaskClient) -> None:
    """A store that nobody registered has UTC, which a reader would take for the clock beside it."""
    post(client, 0, [])
    post(client, 0, [], key="store-5/cam-1/1.jpg")
    for store, view, zone, taken in (
        ("store-17", "cam-2", "Europe/Berlin", "Fri 20 Nov 10:00"),
        ("store-5", "cam-1", "UTC", "Fri 20 Nov 09:00"),
    ):
        for path in (f"/stores/{store}", f"/stores/{store}/views/{view}"):
            page = html_of(client, path)
            assert f"times in {zone}<" in page
        assert taken in page


@pytest.mark.parametrize(
    ("utc", "here"),
    [
        ("2026-10-24T23:59", "Sun 25 Oct 01:59"),
        ("2026-10-25T00:30", "Sun 25 Oct 02:30 CEST"),
        ("2026-10-25T01:30", "Sun 25 Oct 02:30 CET"),
        ("2026-10-25T02:00", "Sun 25 Oct 03:00"),
        ("2026-03-29T01:00", "Sun 29 Mar 03:00"),  # from 2 to 3 nothing stands twice
    ],
)
def test_an_hour_that_comes_twice_says_which_it_is(utc: str, here: str) -> None:
    taken = datetime.fromisoformat(f"{utc}+00:00").timestamp() * 1000
    assert clock(round(taken), ZoneInfo("Europe/Berlin")) == here


def test_people_count_rows_from_1_and_programs_from_0(client: FlaskClient) -> None:
    play_a_morning(client)
    path = "/stores/store-17/views/cam-2"
    table = csv.DictReader(io.StringIO(client.get(f"{path}?format=csv").text))
    assert {line["row"] for line in table} == {"1"}
    assert {gap["row"] for gap in client.get(path).get_json()["episodes"]} == {0}
    assert "<title>row 1," in client.get(f"{path}?format=html").text


def test_a_key_is_neither_markup_nor_a_formula(client: FlaskClient) -> None:
    post(client, 0, [], key='=cmd|"/<script>alert(1)<x>/1.jpg')
    page = client.get("/stores", headers={"Accept": "text/html"}).get_data(as_text=True)
    assert "<script" not in page
    table = list(csv.reader(io.StringIO(client.get("/stores?format=csv").text)))
    assert table[1][0].startswith("'=cmd")


def test_doubtful_photos_are_counted_and_say_nothing(client: FlaskClient) -> None:
    play_a_morning(client)
    post(client, 170, list(range(10)), warnings=[{"code": "dark", "detail": "…"}])
    page = client.get("/stores/store-17").get_json()
    assert (page["doubtful"], page["photos"]) == (1, 13)
    assert page["availability"] == pytest.approx(1 - 9 / 120, abs=1e-4)
    assert page["views"][0]["count"] == 9


def test_the_last_numbers_stay_however_long_ago(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    post(client, 0, [3])
    post(client, 15, [3, 4])
    post(client, 15, [3, 4, 5], photo="b")  # at one time it is the last by name
    post(client, 24 * 60, [], warnings=[{"code": "dark"}])
    monkeypatch.setattr("monitor.app._now", lambda: ms(30 * 60))
    (line, _) = client.get("/stores/store-17").get_json()["views"]
    view = client.get("/stores/store-17/views/cam-2").get_json()
    for page in (line, view):
        assert (page["count"], page["empty_facings"], page["fill_rate"]) == (7, 3, 0.7)
        assert (page["photos"], page["availability"]) == (1, None)


def test_photos_without_a_fill_rate_are_not_called_none(client: FlaskClient) -> None:
    path = "/stores/store-17/views/cam-2?format=html"
    assert "No photo in this time." in client.get(path).text
    body = audit_data([]) | {"detections": [], "fill_rate": None}
    client.post("/", data=event(0, body), content_type=STRUCTURED)
    assert "No photo in this time has a fill rate." in client.get(path).text


@pytest.mark.parametrize(("asked", "covered"), [(1, 1), (3, 3), (28, 3)])
def test_figures_are_for_no_longer_than_photos_are_kept(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch, asked: int, covered: int
) -> None:
    kept = replace(watcher, store=replace(watcher.store, keep_days=3))
    client = board(kept, monkeypatch)
    post(client, 0, [])
    for path in ("/stores/store-17", "/stores/store-17/views/cam-2"):
        assert client.get(f"{path}?days={asked}").get_json()["days"] == covered
        page = client.get(f"{path}?days={asked}&format=html").text
        assert ("the figures of 3 days" in page) == (asked > covered)


def test_a_shelf_that_sold_out_was_not_refilled(client: FlaskClient) -> None:
    play_a_morning(client)
    for minute in (170, 175):
        post(client, minute, list(range(10)), warnings=[{"code": "nothing_found"}])
    for minute in (176, 178):  # a trolley: neither products nor gaps
        body = audit_data([]) | {"detections": [], "warnings": [{"code": "nothing_found"}]}
        client.post("/", data=event(minute, body), content_type=STRUCTURED)
    page = client.get("/stores/store-17").get_json()
    assert (page["open_gaps"], page["doubtful"]) == (1, 4)


def test_lists_go_on_at_their_cursor(client: FlaskClient) -> None:
    for minute in range(PAGE + 5):
        post(client, minute, [])
    path = "/stores/store-17/views/cam-2"
    first = client.get(path).get_json()
    rest = client.get(f"{path}?audits_before={first['audits_before']}").get_json()
    assert (len(first["audits"]), len(rest["audits"])) == (PAGE, 5)
    assert rest["audits_before"] is None
    for cursor in ("", "1", "x.y", "-1.y", "1.%00"):
        assert client.get(f"{path}?audits_before={cursor}").status_code == 400


def test_the_chart_has_each_gap_of_its_days_whatever_page_of_the_list_is_shown(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Facing 7 stands empty from the first photo on; facing 3 comes and goes five times."""
    monkeypatch.setattr("monitor.queries.PAGE", 3)
    for index in range(21):
        post(client, 5 * index, [7, 3] if index % 4 in (1, 2) else [7])
    path = "/stores/store-17/views/cam-2"
    page = client.get(path).get_json()
    assert (page["open_gaps"], [gap["ended"] for gap in page["episodes"]]) == (1, ["filled"] * 3)
    for address in (path, f"{path}?episodes_before={page['episodes_before']}"):
        bars = re.findall(r'<rect .*? y="(\d+)".*? class="(\w+)"', html_of(client, address))
        assert Counter(kind for _, kind in bars) == {"open": 1, "closed": 5}
        assert len({y for y, _ in bars}) == 2  # one line for the one, one for all the others


def html_of(client: FlaskClient, path: str) -> str:
    return client.get(path, headers={"Accept": BROWSERS}).text


@pytest.fixture
def nine_gaps(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine gaps that opened at one time, one more is masked, on pages of four."""
    monkeypatch.setattr("monitor.queries.PAGE", 4)
    for minute in (0, 15):
        post(client, minute, list(range(10)))


@pytest.mark.usefixtures("nine_gaps")
def test_what_has_one_time_is_not_lost_between_two_pages(client: FlaskClient) -> None:
    for name in "abcde":
        post(client, 15, list(range(10)), photo=name)
    path = "/stores/store-17/views/cam-2"
    found: dict[str, list[str]] = {"episodes": [], "audits": []}
    for name, key in (("episodes", "episode"), ("audits", "captured_at")):
        page = client.get(path).get_json()
        found[name] += [line[key] for line in page[name]]
        while before := page[f"{name}_before"]:
            page = client.get(f"{path}?{name}_before={before}").get_json()
            found[name] += [line[key] for line in page[name]]
    assert (len(found["episodes"]), len(set(found["episodes"]))) == (9, 9)
    assert len(found["audits"]) == 7
    # A table has its cursor in a header.
    table, url = 0, f"{path}?format=csv&endpoint=x&_scheme=x"
    while url:
        answer = client.get(url)
        table += len(answer.text.splitlines()) - 1
        url = answer.headers.get("Link", "").partition("<")[2].partition(">")[0]
    assert table == 9


@pytest.mark.usefixtures("nine_gaps")
def test_a_page_goes_on_where_its_last_gap_was_muted_meanwhile(client: FlaskClient) -> None:
    first = client.get("/stores/store-17").get_json()
    client.post(f"/episodes/{first['gaps'][-1]['episode']}/mute?format=json")
    rest = client.get(f"/stores/store-17?gaps_after={first['gaps_after']}").get_json()
    assert [gap["muted"] for gap in rest["gaps"]] == [False] * 4
    assert client.get(f"/stores/store-17?gaps_after={'0' * 32}").status_code == 400


@pytest.mark.parametrize(
    "folder", ["", "store-1", "-/cam", "/store-1/cam", "s/-", "s//cam", "s/cam/", "s/ä b%2F?#&"]
)
def test_every_view_is_where_its_store_links_to(client: FlaskClient, folder: str) -> None:
    post(client, 0, [3], key=f"{folder}/1.jpg" if folder else "1.jpg")
    stores = client.get("/stores?format=html").text
    (store,) = set(re.findall('href="(/stores/[^"]*)"', stores)) - {"/stores/store-17"}
    page = client.get(store, headers={"Accept": "text/html"}).text
    (path,) = re.findall('href="(/stores/[^"?]*/views/[^"]*)"', page)
    view = client.get(html.unescape(path), headers={"Accept": "application/json"})
    assert (view.status_code, view.get_json()["folder"]) == (200, folder)


def test_a_folder_of_two_buckets_is_two_views(client: FlaskClient) -> None:
    for minute in (0, 15):
        post(client, minute, [3, 4])
        post(client, minute, [], source="urn:shelfwatch:s3:annex", photo=f"a{minute}")
    path = "/stores/store-17/views/cam-2"
    page = client.get("/stores/store-17?format=html").text
    assert [f'href="{path}?bucket={name}"' in page for name in ("annex", "shelves")] == [True] * 2
    for bucket, gaps in (("annex", 0), ("shelves", 2)):
        view = client.get(f"{path}?bucket={bucket}").get_json()
        assert (view["bucket"], view["photos"], len(view["audits"])) == (bucket, 2, 2)
        assert (view["open_gaps"], len(view["episodes"])) == (gaps, gaps)
        linked = client.get(f"{path}?bucket={bucket}&format=html").text
        assert f'href="?days=7&amp;bucket={bucket}"' in linked
    assert client.get(f"{path}?bucket=none").status_code == 404
    assert client.get(path).get_json()["bucket"] == "annex"


def test_a_view_of_one_bucket_that_never_sent_is_seen_beside_anothers(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    register = read_register(
        "[stores.store-17.views.cam-2]\nbucket = 'b'\n[stores.store-17.views.cam-3]"
    )
    monkeypatch.setattr("monitor.app._now", lambda: ms(180))
    known = replace(watcher, register=register)
    client = create_app(Config(register=register, events_auth="none"), known).test_client()
    post(client, 0, [])
    (store,) = client.get("/stores").get_json()["stores"]
    views = client.get("/stores/store-17").get_json()["views"]
    assert [(v["bucket"], v["view"], v["registered"], v["seen"] is None) for v in views] == [
        ("b", "cam-2", True, True),
        ("shelves", "cam-2", False, False),
        ("", "cam-3", True, True),
    ]
    assert (store["views"], store["silent_views"]) == (3, 2)
    never = client.get("/stores/store-17/views/cam-2?bucket=b").get_json()
    assert (never["bucket"], never["seen"], never["audits"]) == ("b", None, [])


def test_a_view_that_is_no_longer_registered_is_silent_no_more(
    watcher: Watcher, client: FlaskClient
) -> None:
    post(client, 0, [])
    publish_silences(watcher, ms(60))
    later = list_stores(watcher.store.engine, Register())
    page = read_store(watcher.store.engine, Register(), "store-17", ms(60), 1)
    assert page is not None
    assert ([line.silent for line in later], page.views[0].silent_since) == ([0], None)
    # A dashboard knows no register: it counts what the next look leaves.
    silent_since = select(views.c.silent_since)
    for register, since in ((Register(), None), (REGISTER, ms(0))):
        publish_silences(replace(watcher, register=register), ms(65))
        with reading(watcher.store.engine) as connection:
            assert connection.execute(silent_since).scalars().all() == [since]
            told = connection.execute(select(outgoing_events.c.type)).scalars().all()
        assert told == [VIEW_SILENT]


def test_a_store_with_many_gaps_lists_a_page_of_them_and_the_rest_at_the_cursor(
    client: FlaskClient,
) -> None:
    for view in range(PAGE // 10 + 1):
        for minute in (0, 15):
            post(client, minute, list(range(10)), key=f"store-17/far-{view}/{minute}.jpg")
    first = client.get("/stores/store-17").get_json()
    assert (first["open_gaps"], len(first["gaps"])) == (PAGE + 10, PAGE)
    rest = client.get(f"/stores/store-17?gaps_after={first['gaps_after']}").get_json()
    assert (len(rest["gaps"]), rest["gaps_after"]) == (10, None)
    assert len({gap["episode"] for page in (first, rest) for gap in page["gaps"]}) == PAGE + 10
    page = client.get("/stores/store-17?format=html").get_data(as_text=True)
    assert f"gaps_after={first['gaps_after']}" in page
    # A gap that is none goes to the end, and is counted no more.
    client.post(f"/episodes/{first['gaps'][0]['episode']}/mute?format=json")
    muted = client.get("/stores/store-17").get_json()
    assert (muted["open_gaps"], muted["gaps"][0]["muted"]) == (PAGE + 9, False)
    rest = client.get(f"/stores/store-17?gaps_after={muted['gaps_after']}").get_json()
    assert [gap["muted"] for gap in rest["gaps"]] == [False] * 9 + [True]


def test_views_are_listed_as_people_count(client: FlaskClient) -> None:
    for name in ("aisle-10", "aisle-9", "left", "aisle-9b", "9"):
        post(client, 0, [], key=f"store-5/{name}/1.jpg")
    stores = client.get("/stores").get_json()["stores"]
    assert [s["store"] for s in stores] == ["store-5", "store-17"]
    views = client.get("/stores/store-5").get_json()["views"]
    assert [v["view"] for v in views] == ["9", "aisle-9", "aisle-9b", "aisle-10", "left"]


def test_not_a_gap_mutes_it_and_becomes_a_label(client: FlaskClient) -> None:
    play_a_morning(client)
    (gap,) = client.get("/stores/store-17").get_json()["gaps"]
    name = gap["episode"]
    assert client.post(f"/episodes/{name}/mute?format=json").status_code == 204
    back = client.post(f"/episodes/{name}/mute?format=html")
    assert (back.status_code, back.location) == (303, "/stores/store-17/views/cam-2")
    for seen_on, leads_to in (
        ("http://localhost/stores/store-17?days=7", "/stores/store-17?days=7"),
        ("https://evil.example/stores/store-17", "/stores/store-17/views/cam-2"),
        ("http://localhost//evil.example/stores", "/stores/store-17/views/cam-2"),
    ):
        back = client.post(f"/episodes/{name}/mute?format=html", headers={"Referer": seen_on})
        assert (back.status_code, back.location) == (303, leads_to)
    assert client.post(f"/episodes/{'0' * 32}/mute").status_code == 404
    page = client.get("/stores/store-17").get_json()
    assert (page["open_gaps"], page["gaps"][0]["muted"]) == (0, True)
    (label,) = client.get("/labels").get_json()["labels"]
    assert (label["image"], label["label"]) == ("s3://shelves/x.jpg", "not-a-gap")
    # What is none was not refilled, either.
    for minute in (200, 215):
        post(client, minute, [])
    closed = client.get("/stores/store-17/views/cam-2").get_json()
    assert [e["ended"] for e in closed["episodes"]] == ["filled", "filled"]
    assert closed["refill_minutes"] == 45
    assert label["xyxy"] == pytest.approx([0.7, 0.25, 0.78, 0.75], abs=1e-4)


def test_not_a_gap_can_be_taken_back(client: FlaskClient) -> None:
    play_a_morning(client)
    (gap,) = client.get("/stores/store-17").get_json()["gaps"]
    path = f"/episodes/{gap['episode']}"
    client.post(f"{path}/mute?format=html")
    for page in ("/stores/store-17", "/stores/store-17/views/cam-2"):
        assert f'action="{path}/unmute?format=html"' in html_of(client, page)
    back = client.post(f"{path}/unmute?format=html")
    assert (back.status_code, back.location) == (303, "/stores/store-17/views/cam-2")
    assert client.post(f"/episodes/{'0' * 32}/unmute").status_code == 404
    page = client.get("/stores/store-17").get_json()
    assert (page["open_gaps"], page["gaps"][0]["muted"]) == (1, False)
    assert client.get("/labels").get_json()["labels"] == []


@pytest.mark.parametrize("said", ["mute", "unmute"])
def test_another_sites_page_mutes_nothing(client: FlaskClient, said: str) -> None:
    play_a_morning(client)
    (gap,) = client.get("/stores/store-17").get_json()["gaps"]
    path = f"/episodes/{gap['episode']}/{said}"
    for headers in (
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://["},
        {"Referer": "http://["},
    ):
        refused = client.post(path, headers=headers)
        assert (refused.status_code, "WWW-Authenticate" in refused.headers) == (403, False)
        assert client.get("/stores/store-17").get_json()["open_gaps"] == 1
    assert client.post(path, headers={"Origin": "http://localhost"}).status_code == 204


def test_the_board_wants_its_token_as_bearer_or_as_password(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = board(watcher, monkeypatch, board_token="s3cret")
    for path in ("/stores", "/stores/store-17", "/stores/store-17/views/cam-2", "/labels"):
        refused = client.get(path)
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"].startswith("Basic ")
        assert "any user name" in html_of(client, path)
        assert client.get(path, headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert client.get(path, auth=("anyone", "wrong")).status_code == 401
        for odd in ("Basic !!!", "Basic \xfc", "Basic", "Digest x", "Bearer", "Bearer \xfc"):
            assert client.get(path, headers={"Authorization": odd}).status_code == 401
        assert client.get(path, headers={"Authorization": "Bearer s3cret"}).status_code == 200
        assert client.get(path, auth=("anyone", "s3cret")).status_code == 200
    for said in ("mute", "unmute"):
        assert client.post(f"/episodes/x/{said}").status_code == 401
    assert client.get("/health/ready").status_code == 200


def test_metrics_are_for_prometheus_alone(client: FlaskClient) -> None:
    assert client.get("/metrics").status_code == 200
    assert client.get("/metrics", headers={"X-Forwarded-For": "1.2.3.4"}).status_code == 404


@pytest.mark.parametrize(
    ("last", "now", "expected"),
    [
        (0, 40, False),  # 40 minutes of 3 x 15
        (0, 46, True),
        (0, 10 * 60 + 40, False),  # 20:40 in Berlin: closed
        (10 * 60 - 5, 22 * 60 + 40, False),  # 5 minutes yesterday evening, 40 this morning
        (10 * 60 - 5, 22 * 60 + 41, True),
    ],
)
def test_a_view_is_silent_after_three_photos_of_opening_time(
    last: int, now: int, expected: bool
) -> None:
    # The store opens at 8:00 in Berlin, 7:00 UTC, and closes at 19:00 UTC; minute 0 is 9:00 UTC.
    seen = {("shelves", "store-17/cam-2"): ms(last), ("shelves", "elsewhere/cam"): ms(0)}
    assert bool(list(silent(REGISTER, seen, ms(now)))) == expected


@pytest.mark.parametrize(
    ("hours", "minutes", "last", "due"),
    [
        ("'08:00-20:00'", 1440, "2026-06-01T10:00", "2026-06-04T10:00"),
        ("'08:00-20:00'", 1440, "2026-06-01T07:00", "2026-06-04T08:00"),  # before it opens
        ("'08:00-20:00'", 1440, "2026-06-01T21:00", "2026-06-05T08:00"),  # after it has closed
        ("'00:00-24:00'", 1440, "2026-06-01T10:00", "2026-06-04T10:00"),
        ("{sat = '09:00-13:00'}", 1440, "2026-06-06T10:00", "2026-06-27T10:00"),
        ("{sat = '09:00-13:00'}", 480, "2026-06-06T10:00", "2026-06-27T10:00"),
        (
            "{mon = '09:00-17:00', tue = '09:00-17:00', wed = '09:00-17:00'}",
            *(10080, "2026-06-01T10:00", "2026-06-22T10:00"),
        ),
        ("{sat = '09:00-13:00'}", 10080, "2026-06-06T10:00", "2026-06-27T10:00"),
        ("{sat = '09:00-13:00'}", 60, "2026-06-06T09:30", "2026-06-06T12:30"),
        ("{sat = '09:00-13:00'}", 60, "2026-06-06T11:00", "2026-06-13T10:00"),
    ],
)
def test_a_view_with_few_photos_is_silent_after_three_days_that_are_open(
    hours: str, minutes: int, last: str, due: str
) -> None:
    register = read_register(
        f"[stores.s]\nopen = {hours}\n[stores.s.views.cam]\ncadence_minutes = {minutes}"
    )
    sent, missed = (
        round(datetime.fromisoformat(f"{time}+00:00").timestamp() * 1000) for time in (last, due)
    )
    seen = {("shelves", "s/cam"): sent}
    found = [bool(list(silent(register, seen, missed + more))) for more in (-60_000, 60_000)]
    assert found == [False, True]


def test_silence_is_told_once_and_so_is_its_end(watcher: Watcher, client: FlaskClient) -> None:
    play_a_morning(client)
    for minute in (300, 305):
        publish_silences(watcher, ms(minute))
    page = client.get("/stores/store-17").get_json()
    assert page["views"][0]["silent_since"] == "2026-11-20T11:45:00+00:00"
    # The other is cam-9, which has never sent.
    assert client.get("/stores").get_json()["stores"][0]["silent_views"] == 2
    post(client, 320, [])
    assert client.get("/stores/store-17").get_json()["views"][0]["silent_since"] is None


def test_a_silence_that_could_not_be_published_is_by_the_next_run(
    watcher: Watcher, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    post(client, 0, [])
    key = ViewKey("shelves", "store-17/cam-2")
    with monkeypatch.context() as away:
        away.setattr(Watcher, "publish", _no_topic)
        with pytest.raises(DependencyFailed):
            publish_silences(watcher, ms(60))
    assert len(watcher.store.unpublished(key.id)) == 1
    publish_silences(watcher, ms(65))
    assert watcher.store.unpublished(key.id) == []


def _no_topic(*_: object) -> None:
    raise DependencyFailed


def test_silence_has_failed_where_a_queue_cannot_be_asked(
    aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in aws_env(aws.endpoint_url).items():
        monkeypatch.setenv(name, value)
    url = f"sqlite:///{tmp_path}/monitor.sqlite"
    migrate(open_database(url))
    monkeypatch.setenv("DATABASE_URL", url)
    for queue_url, code in ((aws.resources.queue_url, 0), (f"{aws.endpoint_url}/0/none", 1)):
        monkeypatch.setenv("WATCHED_QUEUES", queue_url)
        assert silence_module.main([]) == code


@pytest.mark.parametrize(("bucket", "silenced"), [("", ["old"]), ("new", [])])
def test_a_view_that_moved_is_silent_in_its_old_bucket_unless_the_register_names_the_new(
    bucket: str, silenced: list[str]
) -> None:
    register = read_register(f"[stores.s.views.cam]\nbucket = '{bucket}'")
    seen = {("old", "s/cam"): ms(0), ("new", "s/cam"): ms(240)}
    assert [key.bucket for key, _ in silent(register, seen, ms(240))] == silenced


def test_photos_without_a_folder_have_a_store_with_hours_of_its_own() -> None:
    register = read_register("[stores.-]\nopen = '08:00-20:00'\n[stores.-.views.-]")
    seen = {("shelves", ""): ms(0)}
    assert list(silent(register, seen, ms(12 * 60))) == []  # 21:00
    assert list(silent(register, seen, ms(10 * 60))) == [(ViewKey("shelves", ""), ms(0))]


def test_the_digest_says_what_is_open_in_plain_words(watcher: Watcher, client: FlaskClient) -> None:
    play_a_morning(client)
    page = read_store(watcher.store.engine, REGISTER, "store-17", ms(180), 1)
    assert page is not None
    subject, words = digest(page, ms(180))
    assert subject == "Harbour Street: 1 open gap"
    assert words.splitlines() == [
        "Harbour Street, Fri 20 Nov 13:00",
        "",
        "1 gap open, oldest first:",
        "- cam-2, row 1: 1 facing, empty for 90 min (since Fri 20 Nov 11:30)",
        "",
        "On-shelf availability of the last day: 92.5 %.",
        "Half of the gaps that were refilled stood 45 min or less.",
        "No photo from cam-9: it has never sent one.",
    ]
    empty = read_store(watcher.store.engine, Register(), "store-17", ms(180 * 24), 1)
    assert empty is not None
    assert digest(empty, 0)[0] == "store-17: 1 open gap"


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_digest_goes_out_once_an_hour(
    database: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = REGISTER.stores["store-17"]
    url = f"sqlite:///{tmp_path}/monitor.sqlite"
    if database == "postgresql":
        url = request.getfixturevalue("postgresql").url
    engine = open_database(url)
    migrate(engine)
    assert [send(engine, REGISTER, store, ms(m), None, "") for m in (0, 30, 60)] == [
        True,
        False,
        True,
    ]
    assert capsys.readouterr().out.count("Harbour Street, ") == 2
    engine.dispose()
    assert due_stores(REGISTER, ms(0)) == []  # it names no hours


@pytest.mark.parametrize(
    ("utc", "hours"),
    [
        ("2026-11-20T06:05", {7}),
        ("2026-11-20T06:55", {7}),
        ("2026-03-29T00:05", {1}),
        ("2026-03-29T01:05", {2, 3}),  # the clock goes from 2 to 3
        ("2026-03-29T02:05", {4}),
        ("2026-10-25T00:05", {2}),
        ("2026-10-25T01:05", {2}),  # once more: as the digest is out, none is sent
        ("2026-11-19T23:05", {0}),
    ],
)
def test_a_digest_is_due_at_the_hours_that_a_clock_shows_or_skips(
    utc: str, hours: set[int]
) -> None:
    now = datetime.fromisoformat(f"{utc}+00:00").timestamp() * 1000
    text = "[stores.s{0}]\ntime_zone = 'Europe/Berlin'\ndigest_hours = [{0}]\n"
    register = read_register("".join(text.format(hour) for hour in range(24)))
    assert {store.digest_hours[0] for store in due_stores(register, round(now))} == hours


def test_an_hour_that_comes_twice_has_one_digest(watcher: Watcher) -> None:
    register = read_register("[stores.s]\ntime_zone = 'Europe/Berlin'\ndigest_hours = [2]")
    store = register.stores["s"]
    first = round(datetime(2026, 10, 25, 0, 5, tzinfo=UTC).timestamp() * 1000)
    sent = [
        send(watcher.store.engine, register, store, first + hour * 3_600_000, None, "")
        for hour in range(3)
    ]
    assert sent == [True, False, True]


def test_a_store_whose_digest_fails_keeps_back_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    register = tmp_path / "stores.toml"
    hours = list(range(24))
    register.write_text(f"[stores.a]\ndigest_hours = {hours}\n[stores.b]\ndigest_hours = {hours}\n")
    url = f"sqlite:///{tmp_path}/monitor.sqlite"
    migrate(open_database(url))
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("STORES", str(register))
    really_send = digest_module.send

    def send_one(engine: Engine, known: Register, store: KnownStore, *more: Any) -> bool:
        if store.key == "a":
            raise DependencyFailed
        return really_send(engine, known, store, *more)

    monkeypatch.setattr(digest_module, "send", send_one)
    assert digest_module.main([]) == 1
    assert capsys.readouterr().out.startswith("b, ")


def test_both_commands_give_aws_as_long_as_the_service_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register = tmp_path / "stores.toml"
    register.write_text(f"[stores.a]\ndigest_hours = {list(range(24))}\n")
    settings = {
        "DATABASE_URL": f"sqlite:///{tmp_path}/monitor.sqlite",
        "STORES": str(register),
        "DIGEST_TOPIC_ARN": "arn:aws:sns:us-east-1:0:digest",
        "WATCHED_QUEUES": "http://127.0.0.1:9/0/queue",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    clients: list[Any] = []

    def keep(*given: Any) -> bool:
        clients.extend(value for value in given if hasattr(value, "meta"))
        return True

    monkeypatch.setattr(silence_module, "is_behind", keep)
    monkeypatch.setattr(digest_module, "send", keep)
    assert (silence_module.main([]), digest_module.main([])) == (0, 0)
    found = [client.meta.config for client in clients]
    assert [(c.connect_timeout, c.read_timeout) for c in found] == [(3, 10)] * 2


@pytest.mark.parametrize(
    ("main", "name"),
    [(digest_module.main, "DIGEST_TOPIC_ARN"), (silence_module.main, "WATCHED_QUEUES")],
)
def test_without_a_region_the_setting_is_odd(
    main: Callable[[list[str]], int], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/monitor.sqlite")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv(name, "x")
    assert main([]) == 2


def test_a_file_that_cannot_be_made_is_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "none" / "monitor.sqlite"
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{path}")
    with pytest.raises(SystemExit) as end:
        serve()
    assert end.value.code == APP_LOAD_ERROR
    (line,) = caplog.records
    assert (
        f"`DATABASE_URL` must name a file that can be opened, got '{path}'" in vars(line)["error"]
    )


def test_the_clock_is_real() -> None:
    from monitor.app import _now

    assert abs(_now() / 1000 - time.time()) < 60
    assert MORNING + timedelta(minutes=1) == datetime(2026, 11, 20, 9, 1, tzinfo=UTC)
