"""How gunicorn serves the monitor: `gunicorn -c monitor/gunicorn.conf.py`."""

import os

from events.log import LOGGING

wsgi_app = "monitor.app:serve()"
# Loopback unless told otherwise; the container sets HOST=0.0.0.0.
bind = f"{os.environ.get('HOST', '127.0.0.1')}:{os.environ.get('PORT', '8081')}"
# One process: with SQLite there is one writer, with PostgreSQL there are more pods.
workers = 1
worker_class = "gthread"
threads = 9  # as many as the pool has connections
timeout = 60
# Longer than the longest request (the source gives up after 55 s), shorter than Spot's notice.
graceful_timeout = 58
keepalive = 75  # longer than the proxies in front keep idle connections, so that they close first
# Heartbeats in memory: on a read-only root or a slow disk the worker would look dead.
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None
accesslog = None
logconfig_dict = LOGGING
control_socket_disable = True  # it would be a file in the home directory
