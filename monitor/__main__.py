"""Take in events and serve the board: `python -m monitor`

The same as `gunicorn -c monitor/gunicorn.conf.py`, which is what the image runs.
"""

from __future__ import annotations

import sys
from pathlib import Path

from gunicorn.app.wsgiapp import WSGIApplication

from monitor.process_checks import check_if_asked

CONFIG = Path(__file__).with_name("gunicorn.conf.py")


def main(arguments: list[str] | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C, or look at what that needs."""
    check_if_asked("monitor", __doc__, arguments)
    sys.argv = ["gunicorn", "-c", str(CONFIG)]
    WSGIApplication().run()


if __name__ == "__main__":
    main()
