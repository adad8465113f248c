"""Whose browser it is: pages of other sites are refused, programs and our own page are not."""

import json

import pytest
from flask.testing import FlaskClient
from werkzeug.datastructures import Headers

from events.settings import SettingError
from function.app import create_app
from function.config import Config
from function.cross_site import check_site
from function.detector import Detector
from function.errors import CrossSite
from function.v2 import HEADER_LENGTH

EVIL, APP = "https://evil.example", "https://app.example"
HOST = "shelves.example"


@pytest.mark.parametrize(
    ("method", "headers", "loopback", "allowed"),
    [
        ("POST", {}, False, True),
        ("POST", {}, True, True),
        ("POST", {"Origin": f"https://{HOST}"}, False, True),
        ("POST", {"Origin": f"https://{HOST}", "Sec-Fetch-Site": "same-origin"}, False, True),
        ("POST", {"Sec-Fetch-Site": "none"}, False, True),
        ("POST", {"Origin": APP, "Sec-Fetch-Site": "cross-site"}, False, True),
        ("POST", {"Origin": EVIL}, False, False),
        ("POST", {"Origin": "null"}, False, False),
        ("POST", {"Origin": EVIL, "Sec-Fetch-Site": "cross-site"}, False, False),
        ("POST", {"Sec-Fetch-Site": "same-site"}, False, False),
        ("GET", {"Origin": EVIL, "Sec-Fetch-Site": "cross-site"}, False, True),
        ("POST", {"Origin": f"http://{HOST}"}, True, False),  # a name that points at 127.0.0.1
        ("POST", {"Origin": "http://localhost:8080", "Host": "localhost:8080"}, True, True),
        ("POST", {"Origin": "http://127.0.0.1:8080", "Host": "127.0.0.1:8080"}, True, True),
        ("POST", {"Origin": "http://[::1]:8080", "Host": "[::1]:8080"}, True, True),
    ],
)
def test_a_request_of_another_sites_page_is_refused(
    method: str, headers: dict[str, str], loopback: bool, allowed: bool
) -> None:
    sent = Headers({"Host": HOST} | headers)
    if allowed:
        check_site(method, sent, frozenset({APP}), loopback)
    else:
        with pytest.raises(CrossSite):
            check_site(method, sent, frozenset({APP}), loopback)


@pytest.mark.parametrize("path", ["/predict", "/", "/v2/models/shelf/infer"])
def test_every_route_that_does_something_is_guarded(client: FlaskClient, path: str) -> None:
    answer = client.post(path, data=b"x", headers={"Origin": EVIL, "Content-Type": "text/plain"})
    assert answer.status_code == 403
    assert json.loads(answer.data)["type"] == "urn:shelfwatch:problem:cross-site-request"
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_listed_origin_may_ask_and_read(detector: Detector) -> None:
    client = create_app(Config(cors_origins=frozenset({APP})), detector).test_client()
    asked = client.options("/predict", headers={"Origin": APP})
    answer = client.post("/predict", data=b"x", headers={"Origin": APP})
    for response in (asked, answer):
        assert response.headers["Access-Control-Allow-Origin"] == APP
        assert "Origin" in response.headers.getlist("Vary")
        allowed, exposed = (
            set(response.headers[f"Access-Control-{name}-Headers"].split(", "))
            for name in ("Allow", "Expose")
        )
        assert allowed == {"Authorization", "Content-Type", HEADER_LENGTH}
        assert exposed == {"Retry-After", "WWW-Authenticate", HEADER_LENGTH}
    assert answer.status_code == 415


def test_a_path_of_two_slashes_is_redirected_nowhere(client: FlaskClient) -> None:
    answer = client.get("/static//evil.example", headers={"Host": "evil.example"})
    assert answer.status_code == 404
    assert "Location" not in answer.headers


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CORS_ORIGINS", "*"),
        ("CORS_ORIGINS", "app.example"),
        ("CORS_ORIGINS", "https://app.example/path"),
        ("EVENTS_TOKEN", "two words"),
        ("EVENTS_TOKEN", "line\nbreak"),
        ("PREDICT_TOKEN", "schlüssel"),
    ],
)
def test_a_setting_that_would_fail_each_request_is_refused_at_start(
    variable: str, value: str
) -> None:
    with pytest.raises(SettingError, match=variable):
        Config.from_env({variable: value})
