"""Writes with the InfluxDB 1 client, as applications of its time do: create the database, then points."""

import sys

from influxdb import InfluxDBClient
from influxdb.exceptions import InfluxDBClientError

port = int(sys.argv[1])
for gzip in (False, True):
    client = InfluxDBClient(host="127.0.0.1", port=port, username="u", password="p", database="metrics", gzip=gzip)
    assert client.ping(), "ping answers with a version"
    client.create_database("metrics")
    client.get_list_database()
    points = [
        {"measurement": "py_v1", "tags": {"gzip": str(gzip), "odd, tag": "a b=c"}, "fields": {"value": 0.25, "n": 7, "s": 'say "x"', "on": True}},
        {"measurement": "py_v1_at", "tags": {"gzip": str(gzip)}, "time": "2026-01-02T03:04:05.678Z", "fields": {"value": 1.0}},
    ]
    assert client.write_points(points), "list"
    assert client.write_points(points, time_precision="ms", batch_size=1), "batches with a precision"
    assert client.write_points([f"py_v1_line,gzip={gzip} value=4"], protocol="line"), "lines"
    try:
        client.write_points(["broken value="], protocol="line")
    except InfluxDBClientError as error:
        assert error.code == 400, error
    else:
        raise AssertionError("a line without value was taken")
    client.close()
