"""Asks Prometheus how a revision does with the requests of users."""

from __future__ import annotations

import json
import logging
import math
from typing import Final

import urllib3

from knative.rollout.judge import RequestMetrics

log = logging.getLogger(__name__)

# The label that the PodMonitor makes of the pods' serving.knative.dev/revision.
REVISION: Final = "serving_knative_dev_revision"
MIN_REQUESTS: Final = 20  # fewer say nothing of a rate
MIN_REFUSED: Final = 3  # fewer may be somebody else's events
MIN_WINDOW_SECONDS: Final = 120  # rate() wants two scrapes, 30 s apart, and one may fail
TIMEOUT: Final = urllib3.Timeout(connect=3, read=10)


def queries(namespace: str, revision: str, seconds: float) -> tuple[str, str, str]:
    """Write the queries of the error rate (0 to 1), of refused events (0 to 1) and of the p95 in s.

    503 is no error: it says "later" and scales the service out, and clients come again. A refused
    event is a dead letter, most often by a setting. 401 is left out: strangers get it, and the
    source waits.
    """
    window = f"{max(round(seconds), MIN_WINDOW_SECONDS)}s"
    of = f'namespace="{namespace}",{REVISION}="{revision}",method="POST"'
    name = "shelfwatch_request_seconds"
    failed = f'{name}_count{{{of},status=~"5..",status!="503"}}[{window}]'
    served = f'{name}_bucket{{{of},status=~"2.."}}[{window}]'
    events = f'{name}_count{{{of},route="/"}}[{window}]'
    refused = f'{name}_count{{{of},route="/",status=~"4..",status!="401"}}[{window}]'
    enough = f"sum(increase({name}_count{{{of}}}[{window}])) >= {MIN_REQUESTS}"
    rate = f"(sum(rate({failed})) or vector(0)) / sum(rate({name}_count{{{of}}}[{window}]))"
    share = f"sum(rate({refused})) / sum(rate({events}))"
    p95 = f"histogram_quantile(0.95, sum by (le) (rate({served})))"
    return (
        f"({rate}) and ({enough})",
        f"({share}) and (sum(increase({refused})) >= {MIN_REFUSED})",
        f"({p95}) and ({enough})",
    )


def request_metrics(
    http: urllib3.PoolManager, url: str, namespace: str, revision: str, seconds: float
) -> RequestMetrics:
    """Ask for errors, refusals and p95; None where one is unknown. Logs a query without answer."""
    errors, refused, p95 = (
        _number(http, url, query) for query in queries(namespace, revision, seconds)
    )
    return RequestMetrics(errors, None if p95 is None else p95 * 1000, refused)


def _number(http: urllib3.PoolManager, url: str, query: str) -> float | None:
    try:
        response = http.request(
            "GET", f"{url}/api/v1/query", fields={"query": query}, timeout=TIMEOUT, retries=False
        )
        if response.status != 200:
            log.warning("prometheus.refused", extra={"status": response.status})
            return None
        result = json.loads(response.data)["data"]["result"]
        number = float(result[0]["value"][1]) if result else math.nan
    except (urllib3.exceptions.HTTPError, ValueError, KeyError, IndexError, TypeError) as err:
        log.warning("prometheus.unreachable", extra={"error": type(err).__name__})
        return None
    return None if math.isnan(number) else number
