"""The boards over Prometheus. Names are those of Micrometer's Prometheus registry, of either generation."""

from board import Board, Prometheus, graph, stat, table, variable
from kafka import CONSUMER, NODE, PRODUCER, TASK, THREAD

R = "[$__rate_interval]"
STREAM = 'stream_name=~"$stream_name"'
APPLICATION = STREAM + ',application_name=~"$application_name"'
INSTANCE = APPLICATION + ',application_guid=~"$application_guid"'
SEND = "spring_integration_send_seconds"
OWNER = "{{application_name}} {{application_guid}}"


def rate(metric, labels, by=None):
    text = f"rate({metric}{{{labels}}}{R})"
    return f"sum by ({by}) ({text})" if by else f"sum({text})"


def mean(timer, labels, by):
    """Seconds a call took, of the calls of the interval."""
    return f'{rate(timer + "_sum", labels, by)} / ({rate(timer + "_count", labels, by)} > 0)'


def count(selector, by):
    return f"count(count by ({by}) ({selector}))"


STREAM_NAME = variable("stream_name", "Stream", f"label_values({SEND}_count, stream_name)")
OF_STREAM = [
    variable("stream_name", "Stream", f"label_values({SEND}_count, stream_name)", many=False),
    variable("application_name", "Application", f"label_values(process_uptime_seconds{{{STREAM}}}, application_name)"),
    variable("application_guid", "Instance", f"label_values(process_uptime_seconds{{{APPLICATION}}}, application_guid)"),
]


def process(labels, by, legend):
    """What every JVM tells of itself."""
    return [
        graph("Processor", "percentunit", (f"avg by ({by}) (process_cpu_usage{{{labels}}})", legend)),
        graph("Heap", "bytes", (f'sum by ({by}) (jvm_memory_used_bytes{{{labels},area="heap"}})', legend)),
        graph("Time in garbage collection", "percentunit", (rate("jvm_gc_pause_seconds_sum", labels, by), legend)),
        graph("Live threads", "short", (f"sum by ({by}) (jvm_threads_live_threads{{{labels}}})", legend)),
        graph("Open files", "short", (f"sum by ({by}) (process_files_open_files{{{labels}}})", legend)),
        graph("Loaded classes", "short", (f"sum by ({by}) (jvm_classes_loaded_classes{{{labels}}})", legend)),
        graph("Warnings and errors logged", "cps",
              (rate("logback_events_total", labels + ',level=~"warn|error"', by + ", level"), legend + " {{level}}")),
    ]


def streams():
    sent = f"{SEND}_count{{{STREAM}}}"
    good, failed = STREAM + ',type="channel",result="success"', STREAM + ',result="failure"'
    return Board(Prometheus, "scdf-streams", "Streams", "All streams: what goes in, what comes out, what fails.",
                 ["sluicegate", "scdf"], [STREAM_NAME], [
        ("Now", [
            stat("Streams", "short", (count(sent, "stream_name"), "")),
            stat("Applications", "short", (count(sent, "stream_name, application_name"), "")),
            stat("Instances", "short", (count(sent, "application_guid"), "")),
            stat("Messages sent", "cps", (rate(SEND + "_count", good), "")),
            stat("Sends failed", "cps", (rate(SEND + "_count", failed), ""), bad_above=0.001),
            stat("Heap", "bytes", (f'sum(jvm_memory_used_bytes{{{STREAM},area="heap"}})', "")),
        ]),
        ("Messages", [
            graph("Into the streams", "cps",
                  (rate(SEND + "_count", good + ',application_type="source"', "stream_name"), "{{stream_name}}"),
                  text="Messages that sources sent to their channels."),
            graph("Out of the streams", "cps",
                  (rate(SEND + "_count", good + ',application_type="sink"', "stream_name"), "{{stream_name}}"),
                  text="Messages that arrived in the channels of sinks."),
            graph("Failures", "cps",
                  (rate(SEND + "_count", failed, "stream_name, exception"), "{{stream_name}} {{exception}}")),
            graph("Mean time of a send", "s", (mean(SEND, good, "stream_name"), "{{stream_name}}")),
            graph("Longest send", "s", (f"max by (stream_name) ({SEND}_max{{{STREAM}}})", "{{stream_name}}")),
            graph("Polled by sources", "cps",
                  (rate("spring_integration_receive_total", STREAM, "stream_name, result"), "{{stream_name}} {{result}}")),
            graph("Into error channels", "cps",
                  (rate(SEND + "_count", STREAM + ',name="errorChannel"', "stream_name"), "{{stream_name}}")),
        ]),
        ("Applications", [
            table("Instances", "short",
                  (f"count by (stream_name, application_name, application_type) (process_uptime_seconds{{{STREAM}}})", ""),
                  hidden=["Time"], links=[
                      ("stream_name", "Applications of the stream",
                       "/d/scdf-applications/applications?var-stream_name=${__data.fields.stream_name}"),
                      ("application_name", "The application",
                       "/d/scdf-applications/applications?var-stream_name=${__data.fields.stream_name}"
                       "&var-application_name=${__data.fields.application_name}")]),
        ]),
        ("Processes", process(STREAM, "stream_name", "{{stream_name}}")),
    ])


def applications():
    named = INSTANCE + ',name=~"$name"'
    channel, handler = named + ',type="channel"', named + ',type="handler"'
    by, legend = "application_name, application_guid, name", "{{application_name}} {{name}} {{application_guid}}"
    return Board(Prometheus, "scdf-applications", "Applications", "The applications of a stream and their instances.",
                 ["sluicegate", "scdf"],
                 [*OF_STREAM, variable("name", "Channel or handler", f"label_values({SEND}_count{{{APPLICATION}}}, name)")], [
        ("Now", [
            stat("Instances", "short", (f"count(process_uptime_seconds{{{INSTANCE}}})", "")),
            stat("Youngest", "s", (f"min(process_uptime_seconds{{{INSTANCE}}})", "")),
            stat("Messages sent", "cps", (rate(SEND + "_count", channel + ',result="success"'), "")),
            stat("Sends failed", "cps", (rate(SEND + "_count", named + ',result="failure"'), ""), bad_above=0.001),
            stat("Processor", "percentunit", (f"avg(process_cpu_usage{{{INSTANCE}}})", "")),
            stat("Heap", "bytes", (f'sum(jvm_memory_used_bytes{{{INSTANCE},area="heap"}})', "")),
        ]),
        ("Channels", [
            graph("Messages", "cps", (rate(SEND + "_count", channel + ',result="success"', by), legend)),
            graph("Mean time of a send", "s", (mean(SEND, channel + ',result="success"', by), legend)),
            graph("Longest send", "s", (f"max by ({by}) ({SEND}_max{{{channel}}})", legend)),
            graph("Failures", "cps",
                  (rate(SEND + "_count", named + ',result="failure"', by + ", exception"), legend + " {{exception}}")),
        ]),
        ("Handlers and sources", [
            graph("Messages handled", "cps", (rate(SEND + "_count", handler, by), legend)),
            graph("Mean time of handling", "s", (mean(SEND, handler, by), legend)),
            graph("Polled by sources", "cps",
                  (rate("spring_integration_receive_total", INSTANCE, by + ", result"), legend + " {{result}}")),
            graph("Parts of Spring Integration", "short", *[
                (f"sum by (application_name, application_guid) (spring_integration_{part}{{{INSTANCE}}})", f"{part} {OWNER}")
                for part in ("channels", "handlers", "sources")]),
        ]),
        ("Processes", process(INSTANCE, "application_name, application_guid", OWNER)),
    ])


def tasks():
    task = 'task_name=~"$task_name",task_execution_id=~"$task_execution_id"'
    by, legend = "task_name, task_execution_id", "{{task_name}} {{task_execution_id}}"

    def active(meter, what, labels):
        # Micrometer's registry on client_java 1.x says `_count` and `_sum` where that on simpleclient says these two.
        names = {"number": "(active_count|count)", "time": "(duration_sum|sum)"}[what]
        return f'{{__name__=~"{meter}_active_seconds_{names}",{labels}}}'

    return Board(Prometheus, "scdf-tasks", "Tasks", "Tasks and the batch jobs in them.", ["sluicegate", "scdf"], [
        variable("task_name", "Task", "label_values(spring_cloud_task_seconds_count, task_name)"),
        variable("task_execution_id", "Execution",
                 'label_values(spring_cloud_task_seconds_count{task_name=~"$task_name"}, task_execution_id)'),
    ], [
        ("Now", [
            stat("Tasks", "short", (count(f"spring_cloud_task_seconds_count{{{task}}}", "task_name"), "")),
            stat("Executions", "short", (count(f"spring_cloud_task_seconds_count{{{task}}}", by), "")),
            stat("Running", "short", (f'sum({active("spring_cloud_task", "number", task)})', "")),
            stat("Jobs", "short", (count(f"spring_batch_job_seconds_count{{{task}}}", by + ", name"), "")),
            stat("Jobs running", "short", (f'sum({active("spring_batch_job", "number", task)})', "")),
        ]),
        ("Tasks", [
            graph("Duration", "s", (f"max by ({by}, task_status) (spring_cloud_task_seconds_max{{{task}}})",
                                    legend + " {{task_status}}")),
            graph("Running for", "s", (f'sum by ({by}) ({active("spring_cloud_task", "time", task)})', legend)),
            graph("Ended", "short", (f"sum by (task_name, task_status) (spring_cloud_task_seconds_count{{{task}}})",
                                     "{{task_name}} {{task_status}}")),
        ]),
        ("Batch", [
            graph("Longest job", "s", (f"max by ({by}, name) (spring_batch_job_seconds_max{{{task}}})", legend + " {{name}}")),
            graph("Jobs running for", "s",
                  (f'sum by ({by}, name) ({active("spring_batch_job", "time", task)})', legend + " {{name}}")),
            graph("Longest step", "s",
                  (f"max by ({by}, job_name, name) (spring_batch_step_seconds_max{{{task}}})", legend + " {{job_name}} {{name}}")),
            graph("Items", "cps", *[(rate(f"spring_batch_{what}_seconds_count", task, by + ", job_name, step_name"),
                                     what.replace("_", " ") + " " + legend + " {{step_name}}")
                                    for what in ("item_read", "item_process", "chunk_write")]),
            graph("Mean time of an item", "s", *[(mean(f"spring_batch_{what}_seconds", task, by + ", job_name, step_name"),
                                                  what.replace("_", " ") + " " + legend + " {{step_name}}")
                                                 for what in ("item_read", "item_process", "chunk_write")]),
        ]),
        ("Processes", process(task, by, legend)),
    ])


def servers():
    server = 'application=~"$application"'
    requests = "http_server_requests_seconds"
    return Board(Prometheus, "scdf-servers", "Servers", "Data Flow and Skipper: requests, database, JVM.",
                 ["sluicegate", "scdf"],
                 [variable("application", "Server", f"label_values({requests}_count, application)", many=False)], [
        ("Now", [
            stat("Up for", "s", (f"min(process_uptime_seconds{{{server}}})", "")),
            stat("Requests", "reqps", (rate(requests + "_count", server), "")),
            stat("Server errors", "reqps", (rate(requests + "_count", server + ',outcome="SERVER_ERROR"'), ""),
                 bad_above=0.001),
            stat("Processor", "percentunit", (f"max(process_cpu_usage{{{server}}})", "")),
            stat("Heap in use", "percentunit", (
                f'sum(jvm_memory_used_bytes{{{server},area="heap"}}) / sum(jvm_memory_max_bytes{{{server},area="heap"}} > 0)', "")),
            stat("Connections in use", "short", (f"sum(hikaricp_connections_active{{{server}}})", "")),
        ]),
        ("Requests", [
            graph("By outcome", "reqps", (rate(requests + "_count", server, "outcome, status"), "{{outcome}} {{status}}")),
            graph("Busiest paths", "reqps",
                  (f'topk(10, {rate(requests + "_count", server, "method, uri")})', "{{method}} {{uri}}")),
            graph("Mean time", "s", (mean(requests, server, "method, uri"), "{{method}} {{uri}}")),
            graph("Quantiles", "s", *[
                (f'histogram_quantile({quantile}, {rate(requests + "_bucket", server, "le")})', str(quantile))
                for quantile in (0.5, 0.95, 0.99)], text="Where the server publishes histograms of its requests."),
            graph("Longest", "s", (f"max by (uri) ({requests}_max{{{server}}})", "{{uri}}")),
        ]),
        ("Database", [
            graph("Connections", "short", *[
                (f"sum by (pool) (hikaricp_connections{state}{{{server}}})", "{{pool}}" + state.replace("_", " "))
                for state in ("", "_active", "_idle", "_pending", "_max")]),
            graph("Mean time to get one", "s", (mean("hikaricp_connections_acquire_seconds", server, "pool"), "{{pool}}")),
            graph("Mean time of use", "s", (mean("hikaricp_connections_usage_seconds", server, "pool"), "{{pool}}")),
            graph("Waited in vain", "cps", (rate("hikaricp_connections_timeout_total", server, "pool"), "{{pool}}")),
        ]),
        ("Memory", [
            graph(area.capitalize(), "bytes", *[
                (f'sum(jvm_memory_{what}_bytes{{{server},area="{area}"}})', what) for what in ("used", "committed", "max")])
            for area in ("heap", "nonheap")] + [
            graph("Buffers", "bytes", (f"sum by (id) (jvm_buffer_memory_used_bytes{{{server}}})", "{{id}}")),
            graph("Threads", "short", (f"sum by (state) (jvm_threads_states_threads{{{server}}})", "{{state}}"),
                  stacked=True),
            graph("Pauses", "s", (f"max by (action, cause) (jvm_gc_pause_seconds_max{{{server}}})", "{{action}} {{cause}}")),
            graph("Allocated", "Bps", (rate("jvm_gc_memory_allocated_bytes_total", server, "application"), "allocated"),
                  (rate("jvm_gc_memory_promoted_bytes_total", server, "application"), "promoted")),
        ]),
        ("Processes", [
            *process(server, "application", "{{application}}"),
            graph("Load of the machine", "short", (f"max(system_load_average_1m{{{server}}})", "load"),
                  (f"max(system_cpu_count{{{server}}})", "processors")),
        ]),
    ])


def clients(part, metrics, legend, by, labels=INSTANCE):
    return [graph(title, unit, *[(f"max by ({by}) ({part}_{metric}{{{labels}}})",
                                  legend + (" " + word if word else "")) for metric, word in pairs])
            for title, unit, pairs in metrics]


def kafka():
    by, legend = "application_name, application_guid, client_id", "{{application_name}} {{client_id}}"
    consumer, producer = "kafka_consumer_fetch_manager", "kafka_producer"
    return Board(Prometheus, "scdf-kafka", "Kafka", "Consumers and producers of the applications of a stream.",
                 ["sluicegate", "scdf"], OF_STREAM, [
        ("Now", [
            stat("Consumed", "cps", (f"sum({consumer}_records_consumed_rate{{{INSTANCE}}})", "")),
            stat("Sent", "cps", (f"sum({producer}_record_send_rate{{{INSTANCE}}})", "")),
            stat("Largest lag", "short", (f"max({consumer}_records_lag_max{{{INSTANCE}}})", "")),
            stat("Sends failed", "cps", (f"sum({producer}_record_error_rate{{{INSTANCE}}})", ""), bad_above=0.001),
            stat("Requests in flight", "short", (f"sum({producer}_requests_in_flight{{{INSTANCE}}})", "")),
        ]),
        ("Consumers", clients(consumer, CONSUMER, legend, by)),
        ("Producers", clients(producer, PRODUCER, legend, by)),
    ])


def kafka_streams():
    thread = "application_name, application_guid, thread_id"
    task = thread + ", task_id"
    of_thread, of_task = "{{application_name}} {{thread_id}}", "{{application_name}} {{task_id}}"
    return Board(Prometheus, "scdf-kafka-streams", "Kafka Streams", "Threads, tasks and nodes of Kafka Streams.",
                 ["sluicegate", "scdf"], OF_STREAM, [
        ("Now", [
            stat("Records processed", "cps", (f"sum(kafka_stream_thread_process_rate{{{INSTANCE}}})", "")),
            stat("Threads", "short", (count(f"kafka_stream_thread_process_rate{{{INSTANCE}}}", thread), "")),
            stat("Tasks", "short", (count(f"kafka_stream_task_process_rate{{{INSTANCE}}}", task), "")),
            stat("Records dropped", "cps", (rate("kafka_stream_task_dropped_records_total", INSTANCE), ""), bad_above=0.001),
        ]),
        ("Threads", clients("kafka_stream_thread", THREAD, of_thread, thread)),
        ("Tasks", clients("kafka_stream_task", TASK, of_task, task)),
        ("Nodes", clients("kafka_stream_processor_node", NODE,
                          "{{application_name}} {{task_id}} {{processor_node_id}}", task + ", processor_node_id")),
    ])


def sluicegate():
    here = 'instance=~"$instance"'

    def by(metric, *labels):
        return rate(f"sluicegate_{metric}", here, ", ".join(labels)), " ".join(f"{{{{{label}}}}}" for label in labels)

    def level(metric, *labels, function="sum"):
        text = f'{function} by ({", ".join(labels)}) (sluicegate_{metric}{{{here}}})'
        return text, " ".join(f"{{{{{label}}}}}" for label in labels)

    return Board(Prometheus, "sluicegate", "sluicegate", "The gateway itself: what it took, delivered, dropped and holds.",
                 ["sluicegate"], [variable("instance", "Gateway", "label_values(sluicegate_build_info, instance)")], [
        ("Now", [
            stat("Taken", "cps", (rate("sluicegate_samples_accepted_total", here), "")),
            stat("Delivered", "cps", (rate("sluicegate_samples_delivered_total", here), "")),
            stat("Refused and dropped", "cps", (f'{rate("sluicegate_samples_rejected_total", here)} or vector(0)', "refused"),
                 (f'{rate("sluicegate_samples_dropped_total", here)} or vector(0)', "dropped"), bad_above=0.001),
            stat("Waiting", "short", (f"max(sluicegate_samples_pending{{{here}}})", "")),
            stat("Behind by", "s", (f"max(sluicegate_output_lag_seconds{{{here}}})", ""), bad_above=60),
            stat("Outputs set up wrongly", "short", (f"sum(sluicegate_output_misconfigured{{{here}}})", ""), bad_above=1),
            stat("Log in use", "percentunit",
                 (f"max(sluicegate_log_bytes{{{here}}} / sluicegate_log_bytes_max{{{here}}})", ""), bad_above=0.9),
        ]),
        ("Inputs", [
            graph("Samples taken", "cps", by("samples_accepted_total", "input"), stacked=True),
            graph("Samples refused", "cps", by("samples_rejected_total", "input", "reason")),
            graph("Connections", "short", level("connections", "instance")),
        ]),
        ("Outputs", [
            graph("Samples delivered", "cps", by("samples_delivered_total", "output")),
            graph("Samples dropped", "cps", by("samples_dropped_total", "output", "reason")),
            graph("Samples waiting", "short", level("samples_pending", "output")),
            graph("Behind by", "s", level("output_lag_seconds", "output", function="max")),
            graph("Lost in translation", "cps", by("translation_losses_total", "output", "reason")),
            graph("Requests and repeats", "reqps", by("output_requests_total", "output"),
                  (by("output_retries_total", "output")[0], "{{output}} repeats")),
            graph("Sent again", "cps", by("samples_resent_total", "output")),
            graph("Dead letters", "short", level("dead_letter_samples", "output")),
        ]),
        ("The gateway", [
            graph("Log", "bytes", level("log_bytes", "instance"),
                  (f"max(sluicegate_log_bytes_max{{{here}}})", "limit")),
            graph("Memory", "bytes", level("memory_bytes", "instance")),
            graph("Series", "short", level("series", "instance"), (level("scrape_series", "instance")[0], "on /scrape")),
            graph("Families of metadata", "short", level("families", "instance")),
            graph("Healthy", "short", level("log_healthy", "instance", function="min")),
            graph("Up for", "s", level("uptime_seconds", "instance", function="min")),
        ]),
    ])


BOARDS = [streams, applications, tasks, servers, kafka, kafka_streams, sluicegate]
