"""What callers get through Knative's ingress, which publishes a whole host."""

from collections.abc import Iterator
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
from conftest import free_port

from local.aws import aws_env
from local.stack import running_function

TOKEN = "let-me-in"
# What a request has behind Kourier's two gateways, the activator and the queue-proxy. The ingress
# may not tell the client's address (use-remote-address is off), but Go's proxies add their peer.
INGRESS = {
    "Host": "shelves.example.com",
    "Forwarded": "for=203.0.113.7;proto=https",
    "K-Proxy-Request": "activator",
    "X-Envoy-Expected-Rq-Timeout-Ms": "60000",
    "X-Forwarded-For": "203.0.113.7, 10.0.12.4, 10.0.11.9, 127.0.0.1",
    "X-Forwarded-Proto": "https",
    "X-Request-Id": "0b2f2a34-8a0e-4e0e-9d5d-3c1f0a9b7d11",
}
# A caller who names headers as hop-by-hop has them dropped, but those that a proxy adds afterwards.
STRIPPED = {"Host": "10.0.12.40:8080", "X-Forwarded-For": "10.0.11.9"}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    env = {**aws_env("http://127.0.0.1:9"), "EVENTS_TOKEN": TOKEN, "EVENTS_BUCKETS": "shelves"}
    with running_function(free_port(), env, tmp_path_factory.mktemp("logs")) as (url, _):
        yield urlsplit(url).netloc


def ask(
    address: str, method: str, path: str, headers: dict[str, str], body: bytes = b""
) -> tuple[int, bytes]:
    """Send the path as it is written: no client may tidy it."""
    connection = HTTPConnection(address, timeout=30)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in {**headers, "Content-Length": str(len(body))}.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    seen = answer.status, answer.read()
    connection.close()
    return seen


def test_prometheus_reads_the_metrics_from_the_pod(address: str) -> None:
    status, text = ask(address, "GET", "/metrics", {"Host": "10.0.12.40:8080"})
    assert (status, b"shelfwatch_model_info{" in text) == (200, True)


@pytest.mark.parametrize(
    "headers",
    [INGRESS, STRIPPED, {**STRIPPED, "Connection": "x-forwarded-for"}, {"x-forwarded-for": ""}],
    ids=["ingress", "stripped", "hop-by-hop", "empty"],
)
@pytest.mark.parametrize(
    "path", ["/metrics", "/metrics?name[]=x", "/%6Detrics", "//metrics", "/metrics/", "/./metrics"]
)
def test_the_metrics_are_not_public(address: str, path: str, headers: dict[str, str]) -> None:
    for method in ("GET", "HEAD"):
        status, text = ask(address, method, path, headers)
        assert status in (308, 404)  # 308: to the path with one slash, which is refused as well
        assert b"shelfwatch_" not in text
    assert ask(address, "GET", "/metrics", headers)[0] == 404


def test_a_refused_path_looks_like_one_that_is_not_there(address: str) -> None:
    assert ask(address, "GET", "/metrics", INGRESS) == ask(address, "GET", "/nothing", INGRESS)


@pytest.mark.parametrize("token", ["", "Bearer", "Bearer ", "Bearer wrong", f"Basic {TOKEN}"])
def test_outsiders_cannot_post_events(address: str, token: str) -> None:
    headers = {**INGRESS, "Content-Type": "application/cloudevents+json"}
    status, text = ask(address, "POST", "/", {**headers, "Authorization": token}, b"{}")
    assert (status, b"unauthorized" in text) == (401, True)


def test_the_source_comes_through_the_same_proxies_with_its_token(address: str) -> None:
    headers = {**INGRESS, "Content-Type": "application/cloudevents+json"}
    status, text = ask(address, "POST", "/", {**headers, "Authorization": f"Bearer {TOKEN}"}, b"{}")
    assert (status, b"invalid-event" in text) == (400, True)


@pytest.mark.parametrize("path", ["/", "/health/ready", "/openapi.json", "/docs", "/v2"])
def test_people_reach_the_page_and_the_api(address: str, path: str) -> None:
    assert ask(address, "GET", path, INGRESS)[0] == 200
