"""One step of a batch job's life with prometheus_client: push replaces the group, pushadd adds to it, delete ends it."""

import sys

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, delete_from_gateway
from prometheus_client import push_to_gateway, pushadd_to_gateway

base, step = sys.argv[1:]
group = {"instance": "i/1", "empty": ""}
registry = CollectorRegistry()
if step == "push":
    Gauge("py_last", "Last run.", registry=registry).set(11)
    Counter("py_runs", "Runs.", ["how"], registry=registry).labels("well").inc(3)
    Histogram("py_took", "Seconds.", buckets=[0.1, 1.0], registry=registry).observe(0.5)
    push_to_gateway(base, job="batch", registry=registry, grouping_key=group)
elif step == "pushadd":
    Gauge("py_more", "More.", registry=registry).set(5)
    pushadd_to_gateway(base, job="batch", registry=registry, grouping_key=group)
elif step == "replace":
    Gauge("py_only", "What is left.", registry=registry).set(1)
    push_to_gateway(base, job="batch", registry=registry, grouping_key=group)
elif step == "delete":
    delete_from_gateway(base, job="batch", grouping_key=group)
else:
    sys.exit(f"no step {step}")
