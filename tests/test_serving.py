"""Where the servers listen."""

import pytest

from function.serving import address


@pytest.mark.parametrize(
    ("env", "bound"),
    [
        ({}, "127.0.0.1:8081"),
        ({"HOST": "0.0.0.0"}, "0.0.0.0:8081"),
        ({"HOST": "::", "PORT": "80"}, "[::]:80"),
        ({"PORT": ""}, "127.0.0.1:8081"),
    ],
)
def test_a_server_listens_on_loopback_unless_told_where(env: dict[str, str], bound: str) -> None:
    assert address(env, 8081) == bound
