"""Settings from the environment."""

from pathlib import Path

import pytest

from events.settings import SettingError
from function.config import Config


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Config.from_env({}) == Config()
    assert Config().model_path.is_file()


def test_every_setting_is_read() -> None:
    config = Config.from_env(
        {
            "SHELFWATCH_MODEL": "/models/own.onnx",
            "SHELFWATCH_THREADS": "2",
            "SHELFWATCH_CONFIDENCE": "0.4",
            "SHELFWATCH_IOU": "0.5",
            "SHELFWATCH_MAX_DETECTIONS": "300",
            "EVENTS_AUTH": "none",
            "EVENTS_TOKEN": "secret",
            "EVENTS_BUCKETS": "shelves, backroom,",
            "RESULTS_BUCKET": " results ",
            "TOPIC_ARN": "arn:aws:sns:eu-central-1:1:events",
            "K_REVISION": "detector-00003",
        }
    )
    assert config.model_path == Path("/models/own.onnx")
    assert (config.threads, config.events_auth, config.events_token) == (2, "none", "secret")
    assert (config.thresholds.confidence, config.thresholds.iou) == (0.4, 0.5)
    assert config.thresholds.max_detections == 300
    assert config.events_buckets == {"shelves", "backroom"}
    assert (config.results_bucket, config.revision) == ("results", "detector-00003")
    assert config.topic_arn == "arn:aws:sns:eu-central-1:1:events"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EVENTS_AUTH", "off"),
        ("SHELFWATCH_THREADS", "many"),
        ("SHELFWATCH_THREADS", "-1"),
        ("SHELFWATCH_THREADS", "1.5"),
        ("SHELFWATCH_CONFIDENCE", "2"),
        ("SHELFWATCH_CONFIDENCE", "nan"),
        ("SHELFWATCH_IOU", "high"),
        ("SHELFWATCH_MAX_DETECTIONS", "0"),
        ("TOPIC_ARN", "arn:aws:sns:eu-central-1:1:events.fifo"),
    ],
)
def test_an_odd_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingError, match=name):
        Config.from_env({name: value})


BUCKETS = ("EVENTS_BUCKETS", "PREDICT_S3_BUCKETS")
BUCKET = ("RESULTS_BUCKET", "REFERENCES_BUCKET", "UPLOADS_BUCKET")


@pytest.mark.parametrize("variable", [*BUCKETS, *BUCKET])
@pytest.mark.parametrize(
    ("value", "good"),
    [
        ("", True),
        (" ", True),
        ("shelves-1", True),
        ("photos.shop.example", True),
        ("point-abc1234567890-s3alias", True),  # of an access point
        (63 * "a", True),
        (64 * "a", False),
        ("ab", False),
        ("s3://shelves", False),
        ("shelves/", False),
        ("arn:aws:s3:us-east-1:123456789012:accesspoint/shelves", False),
        ("arn:aws:s3:::shelves", False),
        ("Shelves", False),
        ("our shelves", False),
        ("shelves..photos", False),
        ("-shelves", False),
        ("shelves\n.", False),
    ],
)
def test_a_bucket_has_a_name_that_s3_takes(variable: str, value: str, good: bool) -> None:
    if good:
        name = getattr(Config.from_env({variable: value}), variable.lower())
        assert name == (value.strip() if variable in BUCKET else {value.strip()} - {""})
    else:
        with pytest.raises(SettingError, match=f"^`{variable}` must be the name of a bucket: "):
            Config.from_env({variable: value})


def test_the_token_is_not_shown() -> None:
    assert "secret" not in repr(Config(events_token="secret"))
