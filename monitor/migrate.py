"""Bring the database's schema up to date: `python -m monitor.migrate`"""

from __future__ import annotations

import logging
import sys

from sqlalchemy.exc import DBAPIError

from events.log import configure_logging
from monitor.config import Config
from monitor.database import migrate, open_database
from monitor.process_checks import check_if_asked

log = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Migrate; return the exit code."""
    check_if_asked("monitor.migrate", __doc__, arguments)
    configure_logging()
    try:
        engine = open_database(Config.from_env().database_url)
    except ValueError as err:  # a setting, or an address that names no database
        log.critical("migrate.misconfigured", extra={"error": str(err)})
        return 2
    try:
        migrate(engine)
    except DBAPIError as err:
        log.error("migrate.failed", extra={"error": str(err.orig)})
        return 1
    log.info("migrate.done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
