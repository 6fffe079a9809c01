"""One step of a batch job's life with prometheus_client: push replaces the group, pushadd adds to it, delete ends it. The same to each gateway."""

import sys

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, delete_from_gateway
from prometheus_client import push_to_gateway, pushadd_to_gateway

*bases, step = sys.argv[1:]
group = {"instance": "i/1", "empty": ""}
registry = CollectorRegistry()
if step == "push":
    Gauge("py_last", "Last run.", registry=registry).set(11)
    Counter("py_runs", "Runs.", ["how"], registry=registry).labels("well").inc(3)
    Histogram("py_took", "Seconds.", buckets=[0.1, 1.0], registry=registry).observe(0.5)
    for base in bases:
        push_to_gateway(base, job="batch", registry=registry, grouping_key=group)
elif step == "pushadd":
    Gauge("py_more", "More.", registry=registry).set(5)
    for base in bases:
        pushadd_to_gateway(base, job="batch", registry=registry, grouping_key=group)
elif step == "replace":
    Gauge("py_only", "What is left.", registry=registry).set(1)
    for base in bases:
        push_to_gateway(base, job="batch", registry=registry, grouping_key=group)
elif step == "slash":
    Gauge("py_slash", "In a job with a slash.", registry=registry).set(2)
    for base in bases:
        push_to_gateway(base, job="a/b", registry=registry, grouping_key={"path": "/var/tmp", "plain": "x y"})
elif step == "delete slash":
    for base in bases:
        delete_from_gateway(base, job="a/b", grouping_key={"path": "/var/tmp", "plain": "x y"})
elif step == "delete":
    for base in bases:
        delete_from_gateway(base, job="batch", grouping_key=group)
else:
    sys.exit(f"no step {step}")
