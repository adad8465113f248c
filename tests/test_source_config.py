"""The source's settings come from the environment; an odd one is named."""

import pytest

from events.settings import SettingError
from events.source.config import SourceConfig


def test_settings_come_from_the_environment() -> None:
    env = {"QUEUE_URL": "http://q", "K_SINK": "http://s", "IN_FLIGHT": "4"}
    config = SourceConfig.from_env(env)
    assert (config.queue_url, config.sink, config.in_flight) == ("http://q", "http://s", 4)
    assert config == SourceConfig(queue_url="http://q", sink="http://s", in_flight=4)


@pytest.mark.parametrize(
    ("text", "extensions"),
    [
        ("", {}),
        ("{}", {}),
        ('{"extensions": null}', {}),
        ('{"extensions": {"environment": "prod"}}', {"environment": "prod"}),
    ],
)
def test_overrides_are_those_of_knative(text: str, extensions: dict[str, str]) -> None:
    env = {"QUEUE_URL": "http://q", "K_SINK": "http://s", "K_CE_OVERRIDES": text}
    assert SourceConfig.from_env(env).extensions == extensions


def test_the_token_is_not_shown() -> None:
    assert "s3cret" not in repr(SourceConfig(queue_url="q", sink="s", token="s3cret"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"QUEUE_URL": ""}, "`QUEUE_URL` must be set, got ''"),
        ({"K_SINK": ""}, "`K_SINK` must be set"),
        ({"K_SINK": "localhost:8080"}, "`K_SINK` must be an http or https .*, got 'localhost"),
        ({"K_SINK": "127.0.0.1:8080"}, "K_SINK"),
        ({"K_SINK": "http://"}, "K_SINK"),
        ({"K_SINK": "http:///events"}, "K_SINK"),
        ({"K_SINK": "ftp://s"}, "K_SINK"),
        ({"K_SINK": "http://s:99999"}, "K_SINK"),
        ({"EVENTS_TOKEN": "s3cret\n"}, "`EVENTS_TOKEN` must be ASCII .*, got 7 characters"),
        ({"EVENTS_TOKEN": "schlüssel"}, "EVENTS_TOKEN"),
        ({"QUEUE_URL": "http://q/photos.fifo"}, "must be a standard queue"),
        ({"IN_FLIGHT": "0"}, "`IN_FLIGHT` must be a whole number from 1 to 100, got '0'"),
        ({"IN_FLIGHT": "two"}, "`IN_FLIGHT` must be .*, got 'two'"),
        ({"RECEIVE_WAIT_SECONDS": "21"}, "RECEIVE_WAIT_SECONDS"),
        ({"VISIBILITY_TIMEOUT": "1"}, "VISIBILITY_TIMEOUT"),
        ({"SINK_TIMEOUT": "-5"}, "SINK_TIMEOUT"),
        ({"AUDIT_GENERATION": "1.5"}, "AUDIT_GENERATION"),
        ({"METRICS_PORT": "65536"}, "METRICS_PORT"),
        ({"RESULTS_BUCKET": "s3://results"}, "`RESULTS_BUCKET` must be the name of a bucket"),
        ({"K_CA_CERTS": "no certificate"}, "K_CA_CERTS"),
        ({"K_CE_OVERRIDES": "{"}, "K_CE_OVERRIDES"),
        ({"K_CE_OVERRIDES": "[]"}, "K_CE_OVERRIDES"),
        ({"K_CE_OVERRIDES": '{"extensions": ["a"]}'}, "K_CE_OVERRIDES"),
        (
            {"K_CE_OVERRIDES": '{"extensions": {"Env": "a"}}'},
            "letters and digits, .*'Env'",
        ),
        ({"K_CE_OVERRIDES": '{"extensions": {"id": "a"}}'}, "got 'id'"),
        ({"K_CE_OVERRIDES": '{"extensions": {"env": 1}}'}, "got 'env': 1"),
    ],
)
def test_an_odd_setting_is_named(changes: dict[str, str], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        SourceConfig.from_env({"QUEUE_URL": "http://q", "K_SINK": "http://s", **changes})
