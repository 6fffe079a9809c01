"""Writes with the InfluxDB 2 client: objects, dictionaries and lines, gzipped, each answered at once."""

import sys

from influxdb_client import InfluxDBClient, Point, WritePrecision
from influxdb_client.client.write_api import SYNCHRONOUS

base = sys.argv[1]
with InfluxDBClient(url=base, token="any", org="o", enable_gzip=True) as client:
    assert client.ping(), "ping"
    health = client.health()
    assert health.status == "pass", health
    with client.write_api(write_options=SYNCHRONOUS) as api:
        api.write(bucket="b", record=Point("py_v2").tag("kind", "point").field("value", 1.5))
        api.write(bucket="b", record={"measurement": "py_v2", "tags": {"kind": "dict"}, "fields": {"value": 2}})
        api.write(bucket="b", record="py_v2,kind=line value=3 1700000000", write_precision=WritePrecision.S)
        api.write(bucket="b", record=[Point("py_v2").tag("kind", f"bulk{i}").field("value", i) for i in range(500)])
        try:
            api.write(bucket="b", record="py_v2 value=")
        except Exception as error:
            assert getattr(error, "status", None) == 400, error
        else:
            raise AssertionError("a line without value was taken")
