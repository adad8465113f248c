"""Whose browser is it? A page of another site must not use the service through its reader's.

A form or a script of any page can send a picture here. A stranger's host name that points to
127.0.0.1 even makes their page look like ours (DNS rebinding). Only browsers send the headers that
are checked here.

https://www.w3.org/TR/fetch-metadata/ and https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from __future__ import annotations

import ipaddress

from werkzeug.datastructures import Headers

from function.errors import CrossSite

READING = ("GET", "HEAD", "OPTIONS")
OWN_SITE = ("same-origin", "none")  # none: a person, not a page
PREFLIGHT_SECONDS = 600
LENGTH = "Inference-Header-Content-Length"  # of v2, in requests and in answers
SENT = f"Authorization, Content-Type, {LENGTH}"
READ = f"Retry-After, WWW-Authenticate, {LENGTH}"  # browsers hide all but a few


def check_site(method: str, headers: Headers, allowed: frozenset[str], loopback: bool) -> None:
    """Check that a request comes from no page, from ours, or from one of the `allowed` origins.

    With `loopback` its host must be this machine. Raises `CrossSite`.
    """
    origin, site = headers.get("Origin"), headers.get("Sec-Fetch-Site")
    if method in READING or origin in allowed or (origin is None and site is None):
        return
    host = headers.get("Host", "")
    if loopback and not is_loopback(host.rpartition(":")[0] or host):
        msg = f"The host must be localhost, as the service listens there alone, got {host!r}"
        raise CrossSite(msg)
    own = site in OWN_SITE if site else (origin or "").partition("://")[2] == host
    if not own:
        msg = f"The page's origin must be this service's or one of `CORS_ORIGINS`, got {origin!r}"
        raise CrossSite(msg)


def is_loopback(host: str) -> bool:
    """Tell whether a name or address is this machine's own."""
    name = host.strip("[]")
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def allow_origin(headers: Headers, origin: str | None, allowed: frozenset[str]) -> None:
    """Add what a browser wants to read in an answer to a page of an allowed origin."""
    if not allowed:
        return
    headers.add("Vary", "Origin")
    if origin in allowed:
        headers["Access-Control-Allow-Origin"] = origin
        headers["Access-Control-Allow-Headers"] = SENT
        headers["Access-Control-Expose-Headers"] = READ
        headers["Access-Control-Allow-Methods"] = "GET, POST, OPTIONS"
        headers["Access-Control-Max-Age"] = str(PREFLIGHT_SECONDS)
