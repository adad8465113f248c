"""Bearer tokens (RFC 6750): who may post events, and who may have images read."""

from __future__ import annotations

import hmac

from function.errors import Unauthorized


def require_token(authorization: str, token: str, setting: str) -> None:
    """Compare an Authorization header with the token of a setting; an empty token opens nothing.

    Raises `Unauthorized`. The time it takes tells nothing of the token.
    """
    scheme, _, given = authorization.partition(" ")
    equal = hmac.compare_digest(given.strip().encode(), token.encode())
    if not token or scheme.lower() != "bearer" or not equal:
        msg = f"The Authorization header must be the bearer token of `{setting}`"
        raise Unauthorized(msg)
