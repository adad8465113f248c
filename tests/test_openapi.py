"""The OpenAPI document: what it says is so, and nothing else is."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from conftest import GOOD_SAMPLE, ROOT, free_port
from flask import Flask
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator
from urllib3.filepost import encode_multipart_formdata

from function.app import CONTENT_SECURITY_POLICY
from function.detections import MAX_DETECTIONS, MIN_CONFIDENCE, Thresholds
from function.errors import HTTP_PROBLEMS, RequestError, ShelfWatchError, TryAgain
from function.schemas import openapi
from local.aws import aws_env
from local.stack import running_function

DOCUMENT: dict[str, Any] = openapi()
SCHEMAS = DOCUMENT["components"]["schemas"]
# Of random requests, for each operation; `make fuzz` asks for more.
EXAMPLES = os.environ.get("FUZZ_EXAMPLES", "")


def validate(name: str, value: object) -> None:
    """Raise `ValidationError` for what the document's schema `name` does not allow."""
    Draft202012Validator({**DOCUMENT, "$ref": f"#/components/schemas/{name}"}).validate(value)


def test_it_is_served_as_it_is_in_the_repository(client: FlaskClient) -> None:
    response = client.get("/openapi.json")
    assert response.get_json() == DOCUMENT
    assert DOCUMENT["openapi"].startswith("3.1.")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert DOCUMENT["info"]["version"] == project["version"]
    for schema in SCHEMAS.values():
        Draft202012Validator.check_schema(schema)


def test_it_names_every_route_and_no_other(app: Flask) -> None:
    documented = {
        (method.upper(), path)
        for path, item in DOCUMENT["paths"].items()
        for method in item
        if method != "parameters"
    }
    routes = {
        (method, rule.rule.replace("<", "{").replace(">", "}"))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.endpoint != "static"
    }
    assert documented == routes


def test_its_bounds_and_defaults_are_the_codes() -> None:
    bounds = {
        name: {key: part["schema"].get(key) for key in ("minimum", "maximum", "default")}
        for name, part in DOCUMENT["components"]["parameters"].items()
        if part["in"] == "query" and name not in ("classes", "detail")
    }
    default = Thresholds()
    assert bounds == {
        "confidence": {"minimum": MIN_CONFIDENCE, "maximum": 1, "default": default.confidence},
        "iou": {"minimum": 0, "maximum": 1, "default": default.iou},
        "max_detections": {
            "minimum": 1,
            "maximum": MAX_DETECTIONS,
            "default": default.max_detections,
        },
    }


def test_its_result_is_the_events_data() -> None:
    event = json.loads((ROOT / "events" / "shelf.audited.schema.json").read_text())
    assert SCHEMAS["Result"]["properties"] == event["properties"]
    assert SCHEMAS["Result"]["required"] == event["required"]


def test_answers_fit_their_schemas(client: FlaskClient) -> None:
    sample = GOOD_SAMPLE.read_bytes()
    one = client.post("/predict?classes=0", data=sample, content_type="image/jpeg")
    validate("Result", one.get_json())
    parts = [("file", ("a.jpg", sample)), ("file", ("b.txt", b"text"))]
    body, content_type = encode_multipart_formdata(parts)
    batch = client.post("/predict", data=body, content_type=content_type)
    validate("Batch", batch.get_json())
    validate("Problem", client.get("/nothing").get_json(force=True))


def subclasses(kind: type[ShelfWatchError]) -> Iterator[type[ShelfWatchError]]:
    for child in kind.__subclasses__():
        yield from subclasses(child)
        if "slug" in vars(child):
            yield child


def slugs() -> set[str]:
    own = {kind.slug for parent in (RequestError, TryAgain) for kind in subclasses(parent)}
    return own | {slug for slug, _, _ in HTTP_PROBLEMS.values()} | {"invalid-event"}


def test_every_problem_is_explained() -> None:
    page = (ROOT / "docs" / "problems.md").read_text()
    explained = set(re.findall(r"^### `([a-z-]+)`", page, re.MULTILINE))
    assert explained == slugs()


class Page(HTMLParser):
    """Collects what a page loads and links."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.ids: set[str] = set()
        self.links: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            assert not name.startswith("on"), "the policy forbids it"
            assert name != "style", "the policy forbids it"
            if name == "id":
                self.ids.add(str(value))
            if name in ("href", "src"):
                self.links.add(str(value))


def test_it_can_be_read_as_a_page_without_scripts(client: FlaskClient) -> None:
    response = client.get("/docs")
    text = response.get_data(as_text=True)
    page = Page()
    page.feed(text)
    assert response.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert not page.tags & {"script", "style", "iframe", "img"}
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                assert f"<code>{method.upper()} {path}</code>" in text
                assert operation["operationId"] in page.ids
    assert set(SCHEMAS) <= page.ids
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids, link
        else:
            with client.get(urljoin("/docs", link)) as linked:
                assert linked.status_code == 200, link


@pytest.mark.slow
def test_no_request_gets_a_5xx_or_an_undocumented_answer(tmp_path: Path) -> None:
    pytest.importorskip("schemathesis", reason="no schemathesis in this environment")
    phases = "examples,coverage,fuzzing" if EXAMPLES else "fuzzing"
    env = {**aws_env("http://127.0.0.1:9"), "EVENTS_AUTH": "none"}
    with running_function(free_port(), env, tmp_path) as (url, child):
        command = [
            *(sys.executable, "-m", "schemathesis.cli"),
            *("--config-file", str(ROOT / "tests" / "schemathesis.toml")),
            *("run", f"{url}/openapi.json", "--phases", phases, "--continue-on-failure"),
            *("--max-examples", EXAMPLES or "10", "--request-timeout", "30"),
            *(() if EXAMPLES else ("--seed", "1")),
        ]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        print(done.stdout)
        child.check()
    assert done.returncode == 0, done.stdout
    assert "Operations:       19 selected / 19 total" in done.stdout
