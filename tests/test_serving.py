"""How the servers start: where they listen, and that nothing of them reports home."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

from function.serving import address


@pytest.mark.parametrize(
    ("env", "bound"),
    [
        ({}, "127.0.0.1:8081"),
        ({"HOST": "0.0.0.0"}, "0.0.0.0:8081"),
        ({"HOST": "", "PORT": ""}, "127.0.0.1:8081"),  # and never all of the machine's addresses
        ({"HOST": "::", "PORT": "80"}, "[::]:80"),
        ({"PORT": ""}, "127.0.0.1:8081"),
        ({"PORT": "65535"}, "127.0.0.1:65535"),
    ],
)
def test_a_server_listens_on_loopback_unless_told_where(env: dict[str, str], bound: str) -> None:
    assert address(env, 8081) == bound


@pytest.mark.parametrize("port", ["abc", "0", "-1", "65536", "8080.0", " 80", "٣"])
def test_an_odd_port_ends_the_start_in_one_sentence(port: str) -> None:
    with pytest.raises(SystemExit, match=r"^`PORT` must be .* from 1 to 65535, got ") as ended:
        address({"PORT": port}, 8081)
    assert repr(port) in str(ended.value)


@pytest.mark.parametrize(
    "start",
    [
        pytest.param("import runpy; runpy.run_path('function/gunicorn.conf.py')", id="server"),
        pytest.param("import function.__main__", id="command"),
    ],
)
def test_onnx_runtime_is_told_not_to_report_home_before_it_is_imported(start: str) -> None:
    name = "ORT_DISABLE_TELEMETRY"
    env = {key: value for key, value in os.environ.items() if key != name}
    code = f"{start}; import os; print(os.environ['{name}'])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"
