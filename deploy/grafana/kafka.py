"""Gauges of Kafka's clients and of Kafka Streams, which are named alike everywhere: title, unit, metrics with their words."""

CONSUMER = [
    ("Lag in records", "short", [("records_lag_max", "max"), ("records_lag_avg", "mean")]),
    ("Records", "cps", [("records_consumed_rate", "")]),
    ("Bytes", "Bps", [("bytes_consumed_rate", "")]),
    ("Time of a fetch", "ms", [("fetch_latency_max", "max"), ("fetch_latency_avg", "mean")]),
    ("Fetches", "reqps", [("fetch_rate", "")]),
]
PRODUCER = [
    ("Records", "cps", [("record_send_rate", "")]),
    ("Errors and retries", "cps", [("record_error_rate", "errors"), ("record_retry_rate", "retries")]),
    ("Bytes", "Bps", [("outgoing_byte_rate", "")]),
    ("Time of a request", "ms", [("request_latency_max", "max"), ("request_latency_avg", "mean")]),
    ("Size of a record", "bytes", [("record_size_max", "max"), ("record_size_avg", "mean")]),
    ("Size of a batch", "bytes", [("batch_size_avg", "")]),
    ("Time in the queue", "ms", [("record_queue_time_avg", "")]),
    ("Compression", "percentunit", [("compression_rate_avg", "")]),
    ("Requests and answers", "reqps", [("request_rate", "requests"), ("response_rate", "answers")]),
]
_STEPS = ("poll", "process", "commit", "punctuate")
THREAD = [
    ("Steps", "cps", [(f"{step}_rate", step) for step in _STEPS]),
    ("Time of a step", "ms", [(f"{step}_latency_avg", step) for step in _STEPS]),
    ("Tasks created and closed", "cps", [("task_created_rate", "created"), ("task_closed_rate", "closed")]),
]
TASK = [
    ("Records processed", "cps", [("process_rate", "")]),
    ("Time of a record", "ms", [("process_latency_avg", "")]),
    ("Commits", "cps", [("commit_rate", "")]),
    ("Time of a commit", "ms", [("commit_latency_avg", "")]),
    ("Lateness of records", "ms", [("record_lateness_max", "max"), ("record_lateness_avg", "mean")]),
    ("Records dropped", "cps", [("dropped_records_rate", "")]),
    ("Enforced processing", "cps", [("enforced_processing_rate", "")]),
]
NODE = [("Records processed", "cps", [("process_rate", "")])]
