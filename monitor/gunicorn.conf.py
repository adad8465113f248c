"""How gunicorn serves the monitor: `gunicorn -c monitor/gunicorn.conf.py`."""

import os

from events.log import LOGGING
from function import serving

wsgi_app = "monitor.app:serve()"
bind = serving.address(os.environ, 8081)
# One process: with SQLite there is one writer, with PostgreSQL there are more pods.
workers = 1
worker_class = "gthread"
threads = 9  # as many as the pool has connections
timeout = serving.TIMEOUT
graceful_timeout = serving.GRACEFUL_TIMEOUT
keepalive = serving.KEEPALIVE
worker_tmp_dir = serving.WORKER_TMP_DIR
post_worker_init = serving.keep_for_good
accesslog = None
logconfig_dict = LOGGING
control_socket_disable = True  # it would be a file in the home directory
