"""Move S3 notifications from SQS to a sink as CloudEvents: `python -m events.source`

The source deletes a message after the sink has answered 2xx for each of its events, or after a copy
is in the dead-letter queue. SQS delivers every other message again, and moves it to the dead-letter
queue itself after maxReceiveCount.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from contextlib import ExitStack

import boto3
from botocore.config import Config as BotoConfig

from events.checks import BOTO_CONFIG, has_region, run_checks
from events.log import configure_logging
from events.settings import NO_REGION, SettingError
from events.source.config import SourceConfig
from events.source.health import serving_health
from events.source.metrics import SourceMetrics
from events.source.process_checks import source_checks
from events.source.queue_checks import NoDeadLetters, check_queue, check_results_bucket
from events.source.queue_depths import QueueDepths
from events.source.sink import Sink
from events.source.sqs_source import SqsSource

log = logging.getLogger(__name__)

# From SIGTERM on. The sink answers within 55 s, a long poll within 20; Spot gives 120.
STOP_SECONDS = 85.0


def main(arguments: list[str] | None = None) -> None:
    """Run the source until SIGTERM or Ctrl-C, or look at what it needs."""
    parser = argparse.ArgumentParser(
        prog="python -m events.source",
        description=__doc__,
        epilog="Settings are environment variables: docs/settings.md has them all.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--check", action="store_true", help="look at settings, clock, queues and sink, and end"
    )
    if parser.parse_args(arguments).check:
        sys.exit(0 if run_checks(source_checks(os.environ), sys.stdout) else 1)
    configure_logging()
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    try:
        config = SourceConfig.from_env()
        if not has_region():
            raise SettingError(NO_REGION)
        sqs = boto3.client("sqs", config=_boto_config(config))
        queue = check_queue(config, sqs, stop)
    except (SettingError, NoDeadLetters) as err:
        log.critical("source.misconfigured", extra={"error": str(err)})
        sys.exit(2)
    if config.results_bucket:
        s3 = boto3.client("s3", config=BOTO_CONFIG)
        # Beside all else: it only warns, and the photos must not wait for an S3 that is silent.
        threading.Thread(target=check_results_bucket, args=(config, s3), daemon=True).start()
    metrics = SourceMetrics()
    source = SqsSource(config, sqs, Sink.from_config(config), queue, metrics)
    threading.Thread(target=_end_in_time, args=(source, stop), daemon=True).start()
    with ExitStack() as serving:
        if config.metrics_port:
            health = serving_health(
                config.host, config.metrics_port, metrics.registry, source.live, source.ready
            )
            try:
                serving.enter_context(health)
            except OSError as err:
                must_be = f"a free port, and `HOST` an address of this machine ({err.strerror})"
                error = f"`METRICS_PORT` must be {must_be}, got {config.host}:{config.metrics_port}"
                log.critical("source.misconfigured", extra={"error": error})
                sys.exit(2)
            urls = {"images": config.queue_url, "dead_letters": queue.dlq_url}
            known = {label: url for label, url in urls.items() if url}
            serving.enter_context(QueueDepths(sqs, known, metrics.queue_messages))
        source.run(stop)


def _boto_config(config: SourceConfig) -> BotoConfig:
    return BotoConfig(
        connect_timeout=5,
        # It must outlast a long poll, or its messages are leased to nobody.
        read_timeout=config.wait_seconds + 10,
        retries={"mode": "standard"},
        # Workers release side by side, next to the poll, the heartbeat and the deletions.
        max_pool_connections=config.in_flight + 4,
    )


def _end_in_time(source: SqsSource, stop: threading.Event) -> None:
    """End the process some time after the word to stop, whatever still hangs."""
    stop.wait()
    time.sleep(STOP_SECONDS)
    source.abandon()
    os._exit(1)


if __name__ == "__main__":
    main()
