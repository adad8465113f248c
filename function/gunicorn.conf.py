"""How gunicorn serves the function: `gunicorn -c function/gunicorn.conf.py`."""

import os

from events.log import LOGGING

wsgi_app = "function.app:serve()"
# Loopback unless told otherwise; the container sets HOST=0.0.0.0.
host = os.environ.get("HOST", "127.0.0.1")
bind = f"{f'[{host}]' if ':' in host else host}:{os.environ.get('PORT', '8080')}"
# One process holds one model and fills the processor; threads wait on sockets and S3.
workers = 1
worker_class = "function.worker.Worker"  # gthread with time limits
threads = 32  # four of them for probes
# Silent ones cost a socket each; the longest idle makes room for the next.
worker_connections = 4000
# Not a request's time-out with gthread: it ends a worker whose main loop has stalled this long.
timeout = 60
# Longer than the longest request (the sink gives up after 55 s), shorter than Spot's 120 s notice.
graceful_timeout = 58
keepalive = 75  # longer than the proxies in front keep idle connections, so that they close first
# Heartbeats in memory: on a read-only root or a slow disk the worker would look dead.
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None
# Requests are counted and timed in /metrics.
accesslog = None
logconfig_dict = LOGGING
control_socket_disable = True  # it would be a file in the home directory
