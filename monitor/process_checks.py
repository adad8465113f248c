"""What the monitor's processes need of their settings, looked at before they begin: `--check`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator

import boto3
from sqlalchemy import func, select

from events.checks import (
    BOTO_CONFIG,
    Check,
    CheckFailed,
    bucket_check,
    failed_check,
    has_region,
    identity_checks,
    queue_check,
    run_checks,
    topic_check,
)
from events.settings import NO_REGION, SettingError
from monitor.config import Config
from monitor.database import StoreAway, is_migrated, open_database, reading
from monitor.tables import views


def check_if_asked(module: str, description: str | None, arguments: list[str] | None) -> None:
    """Read a command's options; with `--check` look at what it needs, and end the process."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=description,
        epilog="Settings are environment variables: docs/settings.md has them all.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="look at settings, database, clock and what AWS has, and end",
    )
    if parser.parse_args(arguments).check:
        sys.exit(0 if run_checks(monitor_checks(), sys.stdout) else 1)


def monitor_checks() -> Iterator[Check]:
    """List what to look at, by what the settings ask for; odd settings are the last."""
    try:
        config = Config.from_env()
    except SettingError as err:
        yield failed_check("settings", str(err))
        return
    yield Check("settings", lambda: _settings(config))
    yield Check("database", lambda: _database(config.database_url))
    topics = [arn for arn in (config.topic_arn, config.digest_topic_arn) if arn]
    if not (topics or config.results_bucket or config.watched_queues):
        return
    if not has_region():
        yield failed_check("region", NO_REGION)
        return
    sts = boto3.client("sts", config=BOTO_CONFIG)
    yield from identity_checks(sts)
    if config.results_bucket:
        s3 = boto3.client("s3", config=BOTO_CONFIG)
        yield bucket_check(s3, config.results_bucket, "RESULTS_BUCKET")
    for arn in topics:
        yield topic_check(boto3.client("sns", config=BOTO_CONFIG), arn)
    for url in config.watched_queues:
        yield queue_check(boto3.client("sqs", config=BOTO_CONFIG), url)


def _settings(config: Config) -> str:
    if config.events_auth == "token" and not config.events_token:
        msg = "`EVENTS_TOKEN` must be set, got nothing; or set `EVENTS_AUTH` to 'none'"
        raise CheckFailed(msg)
    stores = config.register.stores.values()
    known = sum(len(store.views) for store in stores)
    return f"{len(stores)} stores with {known} views are registered"


def _database(url: str) -> str:
    try:
        engine = open_database(url)
    except ValueError as err:
        raise CheckFailed(str(err)) from err
    path = engine.url.database or ""
    sqlite = engine.dialect.name == "sqlite"
    if sqlite and not os.path.exists(path):  # to look would be to make it
        if os.access(os.path.dirname(path) or ".", os.W_OK):
            return f"{path} is made at the first start"
        msg = f"{path} can not be made: create its folder, or mend `DATABASE_URL`"
        raise CheckFailed(msg)
    try:
        with reading(engine) as connection:
            migrated = is_migrated(connection)
            known = (
                connection.execute(select(func.count()).select_from(views)).scalar_one()
                if migrated
                else 0
            )
    except StoreAway as err:
        where = engine.url.host or path
        msg = f"{where} does not answer: start it, or mend `DATABASE_URL`"
        raise CheckFailed(msg) from err
    finally:
        engine.dispose()
    if not migrated:
        if sqlite:
            return f"{path} is migrated at the next start"
        msg = "the schema is not this release's: run `python -m monitor.migrate`"
        raise CheckFailed(msg)
    return f"{engine.dialect.name}, {known} views"
