"""The boards over InfluxDB 1.x (InfluxQL). Measurements and fields are those of Micrometer's Influx registry: counts and sums
are those of a step, times are milliseconds."""

from board import Board, InfluxDB, graph, stat, table, variable
from kafka import CONSUMER, NODE, PRODUCER, TASK, THREAD

STREAM = '"stream_name" =~ /^$stream_name$/'
APPLICATION = STREAM + ' AND "application_name" =~ /^$application_name$/'
INSTANCE = APPLICATION + ' AND "application_guid" =~ /^$application_guid$/'
SEND = "spring_integration_send"
OWNER = ("application_name", "application_guid")
# The step of Micrometer: in shorter intervals a rate would be drawn as spikes.
STEP = "1m"


def select(what, measurement, where, by=(), every=True):
    groups = ([f"time($__interval)"] if every else []) + [f'"{tag}"' for tag in by]
    group = f' GROUP BY {", ".join(groups)}' if groups else ""
    return f'SELECT {what} FROM "{measurement}" WHERE {where} AND $timeFilter{group}' + (" fill(none)" if every else "")


def legend(by, *words):
    return " ".join([*(f"$tag_{tag}" for tag in by), *words])


def rate(field, measurement, where, by=(), *words):
    """A second, of what came in each step."""
    return select(f'sum("{field}") * 1000 / $__interval_ms', measurement, where, by), legend(by, *words)


def mean(timer, where, by=(), *words):
    return select('sum("sum") / sum("count")', timer, where + ' AND "count" > 0', by), legend(by, *words)


def most(field, measurement, where, by=(), *words):
    return select(f'max("{field}")', measurement, where, by), legend(by, *words)


def total(field, measurement, where, parts, by=(), *words):
    """The sum over series of their last value in each interval; `parts` are the tags that tell them apart."""
    inner = select(f'last("{field}") AS "last"', measurement, where, (*by, *parts))
    groups = ", ".join(["time($__interval)", *(f'"{tag}"' for tag in by)])
    return f'SELECT sum("last") FROM ({inner}) WHERE $timeFilter GROUP BY {groups} fill(none)', legend(by, *words)


def count(field, measurement, where, by):
    inner = select(f'last("{field}") AS "last"', measurement, where, by, every=False)
    return f'SELECT count("last") FROM ({inner})', ""


def values(tag, measurement, where=None):
    return f'SHOW TAG VALUES FROM "{measurement}" WITH KEY = "{tag}"' + (f" WHERE {where}" if where else "")


def board(uid, title, text, variables, rows):
    return Board(InfluxDB, uid, title, text, ["sluicegate", "scdf"], variables, rows, interval=STEP)


OF_STREAM = [
    variable("stream_name", "Stream", values("stream_name", SEND), many=False),
    variable("application_name", "Application", values("application_name", "process_uptime", STREAM)),
    variable("application_guid", "Instance", values("application_guid", "process_uptime", APPLICATION)),
]


def process(where, by):
    """What every JVM tells of itself."""
    heap, levels = where + " AND \"area\" = 'heap'", where + ' AND "level" =~ /^(warn|error)$/'
    return [
        graph("Processor", "percentunit", (select('mean("value")', "process_cpu_usage", where, by), legend(by))),
        graph("Heap", "bytes", total("value", "jvm_memory_used", heap, ("application_guid", "id"), by)),
        graph("Time in garbage collection", "percentunit", (
            select('sum("sum") / $__interval_ms', "jvm_gc_pause", where, by), legend(by))),
        graph("Live threads", "short", total("value", "jvm_threads_live", where, ("application_guid",), by)),
        graph("Open files", "short", total("value", "process_files_open", where, ("application_guid",), by)),
        graph("Loaded classes", "short", total("value", "jvm_classes_loaded", where, ("application_guid",), by)),
        graph("Warnings and errors logged", "cps", rate("value", "logback_events", levels, (*by, "level"))),
    ]


def streams():
    good = STREAM + " AND \"type\" = 'channel' AND \"result\" = 'success'"
    failed = STREAM + " AND \"result\" = 'failure'"
    by = ("stream_name",)
    heap = STREAM + " AND \"area\" = 'heap'"
    return board("scdf-streams", "Streams", "All streams: what goes in, what comes out, what fails.",
                 [variable("stream_name", "Stream", values("stream_name", SEND))], [
        ("Now", [
            stat("Streams", "short", count("count", SEND, STREAM, by)),
            stat("Applications", "short", count("count", SEND, STREAM, (*by, "application_name"))),
            stat("Instances", "short", count("count", SEND, STREAM, ("application_guid",))),
            stat("Messages sent", "cps", rate("count", SEND, good)),
            stat("Sends failed", "cps", rate("count", SEND, failed), bad_above=0.001),
            stat("Heap", "bytes", total("value", "jvm_memory_used", heap, ("application_guid", "id"))),
        ]),
        ("Messages", [
            graph("Into the streams", "cps", rate("count", SEND, good + " AND \"application_type\" = 'source'", by),
                  text="Messages that sources sent to their channels."),
            graph("Out of the streams", "cps", rate("count", SEND, good + " AND \"application_type\" = 'sink'", by),
                  text="Messages that arrived in the channels of sinks."),
            graph("Failures", "cps", rate("count", SEND, failed, (*by, "exception"))),
            graph("Mean time of a send", "ms", mean(SEND, good, by)),
            graph("Longest send", "ms", most("upper", SEND, STREAM, by)),
            graph("Polled by sources", "cps", rate("value", "spring_integration_receive", STREAM, (*by, "result"))),
            graph("Into error channels", "cps", rate("count", SEND, STREAM + " AND \"name\" = 'errorChannel'", by)),
        ]),
        ("Applications", [
            table("Instances", "ms",
                  (select('last("value") AS "up for"', "process_uptime", STREAM,
                          ("stream_name", "application_name", "application_type", "application_guid"), every=False), ""),
                  hidden=["Time"], links=[
                      ("stream_name", "Applications of the stream",
                       "/d/scdf-applications/applications?var-stream_name=${__data.fields.stream_name}"),
                      ("application_name", "The application",
                       "/d/scdf-applications/applications?var-stream_name=${__data.fields.stream_name}"
                       "&var-application_name=${__data.fields.application_name}")]),
        ]),
        ("Processes", process(STREAM, by)),
    ])


def applications():
    named = INSTANCE + ' AND "name" =~ /^$name$/'
    channel = named + " AND \"type\" = 'channel'"
    handler, good = named + " AND \"type\" = 'handler'", channel + " AND \"result\" = 'success'"
    failed = named + " AND \"result\" = 'failure'"
    by = ("application_name", "name", "application_guid")
    heap = INSTANCE + " AND \"area\" = 'heap'"
    return board("scdf-applications", "Applications", "The applications of a stream and their instances.",
                 [*OF_STREAM, variable("name", "Channel or handler", values("name", SEND, APPLICATION))], [
        ("Now", [
            stat("Instances", "short", count("value", "process_uptime", INSTANCE, ("application_guid",))),
            stat("Youngest", "ms", (select('min("value")', "process_uptime", INSTANCE), "")),
            stat("Messages sent", "cps", rate("count", SEND, good)),
            stat("Sends failed", "cps", rate("count", SEND, failed), bad_above=0.001),
            stat("Processor", "percentunit", (select('mean("value")', "process_cpu_usage", INSTANCE), "")),
            stat("Heap", "bytes", total("value", "jvm_memory_used", heap, ("application_guid", "id"))),
        ]),
        ("Channels", [
            graph("Messages", "cps", rate("count", SEND, good, by)),
            graph("Mean time of a send", "ms", mean(SEND, good, by)),
            graph("Longest send", "ms", most("upper", SEND, channel, by)),
            graph("Failures", "cps", rate("count", SEND, failed, (*by, "exception"))),
        ]),
        ("Handlers and sources", [
            graph("Messages handled", "cps", rate("count", SEND, handler, by)),
            graph("Mean time of handling", "ms", mean(SEND, handler, by)),
            graph("Polled by sources", "cps", rate("value", "spring_integration_receive", INSTANCE, (*by, "result"))),
            graph("Parts of Spring Integration", "short", *[
                total("value", f"spring_integration_{part}", INSTANCE, (), OWNER, part)
                for part in ("channels", "handlers", "sources")]),
        ]),
        ("Processes", process(INSTANCE, OWNER)),
    ])


def tasks():
    task = '"task_name" =~ /^$task_name$/ AND "task_execution_id" =~ /^$task_execution_id$/'
    by = ("task_name", "task_execution_id")
    item = (*by, "step_name")
    items = ("spring_batch_item_read", "spring_batch_item_process", "spring_batch_chunk_write")
    return board("scdf-tasks", "Tasks", "Tasks and the batch jobs in them.", [
        variable("task_name", "Task", values("task_name", "spring_cloud_task")),
        variable("task_execution_id", "Execution",
                 values("task_execution_id", "spring_cloud_task", '"task_name" =~ /^$task_name$/')),
    ], [
        ("Now", [
            stat("Tasks", "short", count("count", "spring_cloud_task", task, ("task_name",))),
            stat("Executions", "short", count("count", "spring_cloud_task", task, by)),
            stat("Running", "short", total("active_tasks", "spring_cloud_task_active", task, by)),
            stat("Jobs", "short", count("count", "spring_batch_job", task, (*by, "name"))),
            stat("Jobs running", "short", total("active_tasks", "spring_batch_job_active", task, (*by, "name"))),
        ]),
        ("Tasks", [
            graph("Duration", "ms", most("upper", "spring_cloud_task", task, (*by, "task_status"))),
            graph("Running for", "ms", most("duration", "spring_cloud_task_active", task, by)),
            graph("Ended", "short", (
                select('sum("count")', "spring_cloud_task", task, ("task_name", "task_status")),
                legend(("task_name", "task_status")))),
        ]),
        ("Batch", [
            graph("Longest job", "ms", most("upper", "spring_batch_job", task, (*by, "name"))),
            graph("Jobs running for", "ms", most("duration", "spring_batch_job_active", task, (*by, "name"))),
            graph("Longest step", "ms", most("upper", "spring_batch_step", task, (*by, "job_name", "name"))),
            graph("Items", "cps", *[rate("count", what, task, item, what[13:].replace("_", " ")) for what in items]),
            graph("Mean time of an item", "ms", *[mean(what, task, item, what[13:].replace("_", " ")) for what in items]),
        ]),
        ("Processes", process(task, by)),
    ])


def servers():
    server = '"application" =~ /^$application$/'
    requests, pool = "http_server_requests", ("pool",)
    heap = server + " AND \"area\" = 'heap'"
    return board("scdf-servers", "Servers", "Data Flow and Skipper: requests, database, JVM.",
                 [variable("application", "Server", values("application", requests), many=False)], [
        ("Now", [
            stat("Up for", "ms", (select('min("value")', "process_uptime", server), "")),
            stat("Requests", "reqps", rate("count", requests, server)),
            stat("Server errors", "reqps", rate("count", requests, server + " AND \"outcome\" = 'SERVER_ERROR'"),
                 bad_above=0.001),
            stat("Processor", "percentunit", (select('max("value")', "process_cpu_usage", server), "")),
            stat("Heap", "bytes", total("value", "jvm_memory_used", heap, ("application", "id"))),
            stat("Connections in use", "short", total("value", "hikaricp_connections_active", server, ("application", "pool"))),
        ]),
        ("Requests", [
            graph("By outcome", "reqps", rate("count", requests, server, ("outcome", "status"))),
            graph("By path", "reqps", rate("count", requests, server, ("method", "uri"))),
            graph("Mean time", "ms", mean(requests, server, ("method", "uri"))),
            graph("Longest", "ms", most("upper", requests, server, ("uri",))),
        ]),
        ("Database", [
            graph("Connections", "short", *[
                total("value", f"hikaricp_connections{state}", server, ("application",), pool, state[1:])
                for state in ("", "_active", "_idle", "_pending", "_max")]),
            graph("Mean time to get one", "ms", mean("hikaricp_connections_acquire", server, pool)),
            graph("Mean time of use", "ms", mean("hikaricp_connections_usage", server, pool)),
            graph("Waited in vain", "cps", rate("value", "hikaricp_connections_timeout", server, pool)),
        ]),
        ("Memory", [
            graph(area.capitalize(), "bytes", *[
                total("value", f"jvm_memory_{what}", server + f" AND \"area\" = '{area}'", ("application", "id"), (), what)
                for what in ("used", "committed", "max")]) for area in ("heap", "nonheap")] + [
            graph("Buffers", "bytes", total("value", "jvm_buffer_memory_used", server, ("application",), ("id",))),
            graph("Threads", "short", total("value", "jvm_threads_states", server, ("application",), ("state",)), stacked=True),
            graph("Pauses", "ms", most("upper", "jvm_gc_pause", server, ("action", "cause"))),
            graph("Allocated", "Bps", rate("value", "jvm_gc_memory_allocated", server, (), "allocated"),
                  rate("value", "jvm_gc_memory_promoted", server, (), "promoted")),
        ]),
        ("Processes", [
            *process(server, ("application",)),
            graph("Load of the machine", "short", most("value", "system_load_average_1m", server, (), "load"),
                  most("value", "system_cpu_count", server, (), "processors")),
        ]),
    ])


def clients(part, metrics, by, where=INSTANCE):
    return [graph(title, unit, *[most("value", f"{part}_{metric}", where, by, *([word] if word else []))
                                 for metric, word in pairs]) for title, unit, pairs in metrics]


def kafka():
    by = ("application_name", "client_id")
    each = ("application_guid", "client_id")
    consumer, producer = "kafka_consumer_fetch_manager", "kafka_producer"
    return board("scdf-kafka", "Kafka", "Consumers and producers of the applications of a stream.", OF_STREAM, [
        ("Now", [
            stat("Consumed", "cps", total("value", consumer + "_records_consumed_rate", INSTANCE, each)),
            stat("Sent", "cps", total("value", producer + "_record_send_rate", INSTANCE, each)),
            stat("Largest lag", "short", most("value", consumer + "_records_lag_max", INSTANCE)),
            stat("Sends failed", "cps", total("value", producer + "_record_error_rate", INSTANCE, each), bad_above=0.001),
            stat("Requests in flight", "short", total("value", producer + "_requests_in_flight", INSTANCE, each)),
        ]),
        ("Consumers", clients(consumer, CONSUMER, by)),
        ("Producers", clients(producer, PRODUCER, by)),
    ])


def kafka_streams():
    thread = ("application_name", "thread_id")
    task = ("application_name", "task_id")
    each = ("application_guid", "thread_id")
    return board("scdf-kafka-streams", "Kafka Streams", "Threads, tasks and nodes of Kafka Streams.", OF_STREAM, [
        ("Now", [
            stat("Records processed", "cps", total("value", "kafka_stream_thread_process_rate", INSTANCE, each)),
            stat("Threads", "short", count("value", "kafka_stream_thread_process_rate", INSTANCE, each)),
            stat("Tasks", "short", count("value", "kafka_stream_task_process_rate", INSTANCE, (*each, "task_id"))),
            stat("Records dropped", "cps", rate("value", "kafka_stream_task_dropped_records_total", INSTANCE), bad_above=0.001),
        ]),
        ("Threads", clients("kafka_stream_thread", THREAD, thread)),
        ("Tasks", clients("kafka_stream_task", TASK, task)),
        ("Nodes", clients("kafka_stream_processor_node", NODE,
                          (*task, "processor_node_id"))),
    ])


BOARDS = [streams, applications, tasks, servers, kafka, kafka_streams]
