"""`python -m knative.rollout`: one rollout of the latest revision, from within the cluster."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Mapping

from kubernetes import config as kubernetes_config
from kubernetes.client import ApiClient, Configuration

from events.checks import run_checks
from events.log import configure_logging
from knative.rollout.checks import rollout_checks
from knative.rollout.clock import SystemClock
from knative.rollout.cluster import Cluster
from knative.rollout.conductor import Conductor
from knative.rollout.config import Config, ConfigError
from knative.rollout.exam import ExamError, Examiner, read_exam
from knative.rollout.notice import sns_sender
from knative.rollout.trial import Trial
from knative.rollout.verdict import Code

log = logging.getLogger("knative.rollout")


def api_client(env: Mapping[str, str] = os.environ) -> ApiClient:
    """Reach the API as a pod does, or else as kubectl does."""
    configuration = Configuration()
    if "KUBERNETES_SERVICE_HOST" in env:
        kubernetes_config.load_incluster_config(client_configuration=configuration)
    else:
        kubernetes_config.load_kube_config(client_configuration=configuration)
    configuration.retries = False  # the conductor looks again by itself
    return ApiClient(configuration)


def main(arguments: list[str] | None = None, env: Mapping[str, str] = os.environ) -> int:
    """Run the command; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m knative.rollout",
        description=__doc__,
        epilog="Settings are environment variables: docs/canary.md has them all.",
    )
    parser.add_argument("--abort", action="store_true", help="only remove a candidate, if any")
    parser.add_argument(
        "--check", action="store_true", help="look at settings, judge, cluster and topic, and end"
    )
    options = parser.parse_args(arguments)
    if options.check:
        return Code.DONE if run_checks(rollout_checks(env, api_client), sys.stdout) else Code.FAILED
    configure_logging()
    clock = SystemClock()
    try:
        config = Config.from_env(env)
        exam = read_exam(config.judge)
        api = api_client(env)
    except (ConfigError, ExamError, kubernetes_config.ConfigException) as err:
        log.critical("rollout.failed_to_start", extra={"error": str(err)})
        return Code.MISUSED
    cluster = Cluster(api, config.namespace, config.ksvc)
    examiner = Examiner(exam, config.rounds, config.predict_token, clock)
    send = sns_sender(config.notice_topic_arn)
    return Conductor(cluster, Trial(examiner, config), send, clock, config).run(abort=options.abort)


if __name__ == "__main__":
    sys.exit(main())
