"""Sends with the Wavefront SDK, which logs a failed report and forgets it: any such log line fails the script."""

import io
import logging
import sys
import time

from wavefront_sdk.client_factory import WavefrontClientFactory
from wavefront_sdk.entities.histogram import histogram_granularity

log = io.StringIO()
logging.basicConfig(stream=log, level=logging.WARNING)
factory = WavefrontClientFactory()
factory.add_client(sys.argv[1], enable_internal_metrics=False)
client = factory.get_client()
now = int(time.time())
client.send_metric("py.wf/requests", 42.5, now, "host-1", {"dc": "north west", "quoted": 'a "b"'})
client.send_metric("py.wf.default", 1, None, "host-1", None)
client.send_distribution(
    "py.wf.latency", [(30.0, 20), (5.1, 10)], {histogram_granularity.MINUTE}, now, "host-1", {"dc": "n"}
)
client.flush_now()
errors = client.get_failure_count()
client.close()
assert errors == 0, errors
assert "error" not in log.getvalue().lower(), log.getvalue()
