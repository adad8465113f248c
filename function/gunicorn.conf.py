"""How gunicorn serves the function: `gunicorn -c function/gunicorn.conf.py`."""

import os

from events.log import LOGGING
from function import serving

# ONNX Runtime 1.31 reports home unless told not to before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

wsgi_app = "function.app:serve()"
bind = serving.address(os.environ, 8080)
# One process holds one model and fills the processor; threads wait on sockets and S3.
workers = 1
worker_class = "function.worker.Worker"  # gthread with time limits
threads = 32  # four of them for probes
# Silent ones cost a socket each; the longest idle makes room for the next.
worker_connections = 4000
timeout = serving.TIMEOUT
graceful_timeout = serving.GRACEFUL_TIMEOUT
keepalive = serving.KEEPALIVE
worker_tmp_dir = serving.WORKER_TMP_DIR
post_worker_init = serving.keep_for_good
# Requests are counted and timed in /metrics.
accesslog = None
logconfig_dict = LOGGING
control_socket_disable = True  # it would be a file in the home directory
