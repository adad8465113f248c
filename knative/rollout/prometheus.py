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
PROXY_STATUS: Final = "http_response_status_code"  # queue-proxy's label, Knative 1.23
MIN_REQUESTS: Final = 20  # fewer say nothing of a rate
MIN_REFUSED: Final = 3  # fewer may be somebody else's events
MIN_WINDOW_SECONDS: Final = 120  # rate() wants two scrapes, 30 s apart, and one may fail
TIMEOUT: Final = urllib3.Timeout(connect=3, read=10)


def queries(namespace: str, revision: str, seconds: float) -> dict[str, str]:
    """Write the queries of a revision's figures: shares from 0 to 1, and the p95 in seconds.

    503 is no error: it says "later" and scales the service out, and clients come again. What a
    container that dies owes its callers only queue-proxy counts, as `met`. A refused event is a
    dead letter, most often by a setting; 401 is left out: strangers get it, and the source waits.
    """
    window = f"{max(round(seconds), MIN_WINDOW_SECONDS)}s"
    of = f'namespace="{namespace}",{REVISION}="{revision}"'
    name, proxy = "shelfwatch_request_seconds", "kn_serving_invocation_duration_seconds_count"
    served = f'{name}_bucket{{{of},method="POST",status=~"2.."}}[{window}]'
    asked = f'{name}_count{{{of},method="POST"}}[{window}]'
    failed = f'{name}_count{{{of},method="POST",status=~"5..",status!="503"}}[{window}]'
    passed = f"{proxy}{{{of}}}[{window}]"
    met = f'{proxy}{{{of},{PROXY_STATUS}=~"5..",{PROXY_STATUS}!="503"}}[{window}]'
    events = f'{name}_count{{{of},method="POST",route="/"}}[{window}]'
    refused = f'{name}_count{{{of},method="POST",route="/",status=~"4..",status!="401"}}[{window}]'
    enough = f"sum(increase({asked})) >= {MIN_REQUESTS}"
    p95 = f"histogram_quantile(0.95, sum by (le) (rate({served})))"
    return {
        "errors": f"({_share(failed, asked)}) and ({enough})",
        "met": f"({_share(met, passed)}) and (sum(increase({passed})) >= {MIN_REQUESTS})",
        "refused": f"({_share(refused, events)}) and (sum(increase({refused})) >= {MIN_REFUSED})",
        "p95": f"({p95}) and ({enough})",
        "deaths": f"sum(changes(process_start_time_seconds{{{of}}}[{window}]))",
    }


def _share(part: str, whole: str) -> str:
    return f"(sum(rate({part})) or vector(0)) / sum(rate({whole}))"


def request_metrics(
    http: urllib3.PoolManager, url: str, namespace: str, revision: str, seconds: float
) -> RequestMetrics:
    """Ask for errors, refusals and p95; None where one is unknown. Logs a query without answer."""
    asked = queries(namespace, revision, seconds)
    found = {name: _number(http, url, query) for name, query in asked.items()}
    errors = [share for share in (found["errors"], found["met"]) if share is not None]
    return RequestMetrics(
        error_rate=max(errors, default=None),
        p95_ms=None if found["p95"] is None else found["p95"] * 1000,
        refused_rate=found["refused"],
        deaths=found["deaths"],
    )


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
