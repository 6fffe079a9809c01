import io.micrometer.core.instrument.FunctionCounter;
import io.micrometer.core.instrument.LongTaskTimer;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.Tags;
import io.micrometer.core.instrument.TimeGauge;
import io.micrometer.core.instrument.Timer;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/** What boards look at: two streams on Kafka, one of Kafka Streams, a task with its batch job, and the servers of SCDF. */
final class Fleet extends Meters {
    private enum Kind { SOURCE, PROCESSOR, SINK, KAFKA_STREAMS, TASK, SERVER }

    private final Kind kind;
    private int round;

    private Fleet(Kind kind, String name, Tags tags) {
        super(name, tags);
        this.kind = kind;
    }

    static List<Meters> all() {
        return List.of(
            streamed(Kind.SOURCE, "ticktock", "time", "source"), streamed(Kind.PROCESSOR, "ticktock", "filter", "processor"),
            streamed(Kind.SINK, "ticktock", "log", "sink"), streamed(Kind.SOURCE, "orders", "http", "source"),
            streamed(Kind.SINK, "orders", "jdbc", "sink"),
            streamed(Kind.KAFKA_STREAMS, "words", "word-count", "processor"),
            new Fleet(Kind.TASK, "timestamp-batch", Tags.of("task.name", "timestamp-batch", "task.execution.id", "7",
                "task.external.execution.id", "timestamp-batch-1", "task.parent.execution.id", "unknown")),
            new Fleet(Kind.SERVER, "dataflow-server", Tags.of("application", "spring-cloud-dataflow-server")),
            new Fleet(Kind.SERVER, "skipper-server", Tags.of("application", "spring-cloud-skipper-server")));
    }

    private static Meters streamed(Kind kind, String stream, String application, String type) {
        return new Fleet(kind, stream + "-" + application, Tags.of("stream.name", stream, "application.name", application,
            "application.type", type, "application.guid", stream + "-" + application + "-0", "instance.index", "0",
            "application", "stream-app-" + type));
    }

    @Override
    void register(MeterRegistry registry) {
        each(number -> round = number);
        process(registry);
        switch (kind) {
            case TASK -> task(registry);
            case SERVER -> server(registry);
            default -> {
                messages(registry);
                kafka(registry);
            }
        }
        if (kind == Kind.KAFKA_STREAMS) {
            kafkaStreams(registry);
        }
    }

    /** What every JVM tells. */
    private void process(MeterRegistry registry) {
        for (String area : List.of("heap", "nonheap")) {
            String id = area.equals("heap") ? "G1 Old Gen" : "Metaspace";
            gauge(registry, "jvm.memory.used", "bytes", 80e6, "area", area, "id", id);
            gauge(registry, "jvm.memory.committed", "bytes", 120e6, "area", area, "id", id);
            gauge(registry, "jvm.memory.max", "bytes", 500e6, "area", area, "id", id);
        }
        for (String id : List.of("direct", "mapped")) {
            gauge(registry, "jvm.buffer.count", "buffers", 5, "id", id);
            gauge(registry, "jvm.buffer.memory.used", "bytes", 8192, "id", id);
            gauge(registry, "jvm.buffer.total.capacity", "bytes", 16384, "id", id);
        }
        gauge(registry, "jvm.threads.live", "threads", 40);
        gauge(registry, "jvm.threads.daemon", "threads", 30);
        gauge(registry, "jvm.threads.peak", "threads", 45);
        for (String state : List.of("runnable", "blocked", "waiting")) {
            gauge(registry, "jvm.threads.states", "threads", 3, "state", state);
        }
        gauge(registry, "jvm.classes.loaded", "classes", 12_000);
        Timer pause = Timer.builder("jvm.gc.pause").tags("action", "end of minor GC", "cause", "G1 Evacuation Pause")
            .register(registry);
        each(number -> pause.record(5, TimeUnit.MILLISECONDS));
        counter(registry, "jvm.gc.memory.allocated", "bytes", 1_000_000);
        counter(registry, "jvm.gc.memory.promoted", "bytes", 1000);
        gauge(registry, "process.cpu.usage", null, 0.05);
        gauge(registry, "system.cpu.usage", null, 0.4);
        gauge(registry, "system.cpu.count", null, 4);
        gauge(registry, "system.load.average.1m", null, 1.5);
        gauge(registry, "process.files.open", "files", 60);
        gauge(registry, "process.files.max", "files", 1024);
        TimeGauge.builder("process.uptime", () -> 600, TimeUnit.SECONDS).register(registry);
        TimeGauge.builder("process.start.time", () -> 1.76e9, TimeUnit.SECONDS).register(registry);
        for (String level : List.of("error", "warn", "info")) {
            counter(registry, "logback.events", "events", 2, "level", level);
        }
    }

    private void messages(MeterRegistry registry) {
        Tags fine = Tags.of("result", "success", "exception", "none");
        for (String channel : List.of("input", "output")) {
            send(registry, 12, fine.and("type", "channel", "name", channel));
        }
        send(registry, 4, fine.and("type", "handler", "name", name() + ".handler"));
        Tags failed = Tags.of("result", "failure", "exception", "MessagingException", "type", "channel");
        send(registry, 2, failed.and("name", "errorChannel"));
        send(registry, 2, failed.and("name", "output"));
        for (String result : List.of("success", "failure")) {
            counter(registry, "spring.integration.receive", null, 3, "type", "source", "name", "poller", "exception", "none",
                "result", result);
        }
        for (String part : List.of("channels", "handlers", "sources")) {
            gauge(registry, "spring.integration." + part, null, 4);
        }
        FunctionCounter.builder("tomcat.global.error", this, self -> self.round).tag("name", "http-nio-8080")
            .register(registry);
    }

    private void send(MeterRegistry registry, int millis, Tags tags) {
        Timer timer = Timer.builder("spring.integration.send").tags(tags).register(registry);
        each(number -> { for (int at = 0; at < 5; at++) timer.record(millis, TimeUnit.MILLISECONDS); });
    }

    private void kafka(MeterRegistry registry) {
        String[] consumer = {"client.id", name() + "-consumer-1", "kafka.version", "3.6.2"};
        for (String metric : List.of("bytes.consumed.rate", "fetch.latency.avg", "fetch.latency.max", "fetch.rate",
            "records.consumed.rate", "records.lag.avg", "records.lag.max")) {
            gauge(registry, "kafka.consumer.fetch.manager." + metric, null, 3.5, consumer);
        }
        String[] producer = {"client.id", name() + "-producer-1", "kafka.version", "3.6.2"};
        for (String metric : List.of("batch.size.avg", "compression.rate.avg", "io.wait.ratio", "io.wait.time.ns.avg",
            "network.io.rate", "outgoing.byte.rate", "record.error.rate", "record.queue.time.avg", "record.retry.rate",
            "record.send.rate", "record.size.avg", "record.size.max", "records.per.request.avg", "request.latency.avg",
            "request.latency.max", "request.rate", "requests.in.flight", "response.rate", "waiting.threads")) {
            gauge(registry, "kafka.producer." + metric, null, 1.25, producer);
        }
    }

    private void kafkaStreams(MeterRegistry registry) {
        Tags thread = Tags.of("thread.id", "words-StreamThread-1", "client.id", "words-StreamThread-1-consumer");
        for (String metric : List.of("commit.latency.avg", "commit.rate", "poll.latency.avg", "poll.rate",
            "process.latency.avg", "process.rate", "punctuate.latency.avg", "punctuate.rate", "task.closed.rate",
            "task.created.rate")) {
            gauge(registry, "kafka.stream.thread." + metric, null, 2.5, words(thread));
        }
        Tags task = thread.and("task.id", "0_1");
        for (String metric : List.of("commit.latency.avg", "commit.rate", "dropped.records.rate",
            "enforced.processing.rate", "process.latency.avg", "process.rate", "record.lateness.avg",
            "record.lateness.max")) {
            gauge(registry, "kafka.stream.task." + metric, null, 0.5, words(task));
        }
        gauge(registry, "kafka.stream.processor.node.process.rate", null, 0.5,
            words(task.and("processor.node.id", "KSTREAM-SOURCE-0000000000")));
        for (String metric : List.of("task.commit.total", "task.dropped.records.total", "task.enforced.processing.total",
            "processor.node.process.total")) {
            FunctionCounter.builder("kafka.stream." + metric, this, self -> 10.0 * self.round).tags(task).register(registry);
        }
    }

    private static String[] words(Tags tags) {
        return tags.stream().flatMap(tag -> Stream.of(tag.getKey(), tag.getValue())).toArray(String[]::new);
    }

    private void task(MeterRegistry registry) {
        String[] job = {"name", "job1", "status", "COMPLETED"};
        String[] step = {"name", "step1", "job.name", "job1", "status", "COMPLETED"};
        String[] item = {"step.name", "step1", "job.name", "job1", "status", "SUCCESS"};
        timer(registry, "spring.cloud.task", 1500, "task.status", "success", "task.exit.code", "0", "task.exception", "none");
        timer(registry, "spring.batch.job", 900, job);
        timer(registry, "spring.batch.step", 700, step);
        for (String metric : List.of("item.read", "item.process", "chunk.write")) {
            timer(registry, "spring.batch." + metric, 20, item);
        }
        LongTaskTimer.builder("spring.cloud.task.active").register(registry).start();
        LongTaskTimer.builder("spring.batch.job.active").tags("name", "job1").register(registry).start();
    }

    private void server(MeterRegistry registry) {
        for (String status : List.of("200", "404", "500")) {
            String outcome = status.equals("200") ? "SUCCESS" : status.equals("404") ? "CLIENT_ERROR" : "SERVER_ERROR";
            Timer requests = Timer.builder("http.server.requests").tags("method", "GET", "uri", "/streams/definitions",
                "status", status, "outcome", outcome, "exception", "none")
                .serviceLevelObjectives(millis(10), millis(100), millis(1000)).register(registry);
            each(number -> { for (int millis : List.of(5, 50, 500)) requests.record(millis(millis)); });
        }
        for (String count : List.of("collections.deletes", "collections.fetches", "collections.loads",
            "collections.recreates", "collections.updates", "sessions.open", "sessions.closed", "optimistic.failures",
            "cache.update.timestamps.puts", "query.executions", "cache.query.puts", "second.level.cache.puts",
            "cache.natural.id.puts", "query.natural.id.executions", "flushes", "connections.obtained", "entities.deletes",
            "entities.inserts", "entities.fetches", "entities.loads", "entities.updates")) {
            hibernate(registry, count, Tags.empty());
        }
        for (String count : List.of("cache.update.timestamps.requests", "cache.query.requests",
            "second.level.cache.requests", "cache.natural.id.requests")) {
            hibernate(registry, count, Tags.of("result", "hit"));
        }
        hibernate(registry, "transactions", Tags.of("result", "success"));
        hibernate(registry, "statements", Tags.of("status", "prepared"));
        for (String query : List.of("query", "query.natural.id")) {
            TimeGauge.builder("hibernate." + query + ".executions.max", () -> 12, TimeUnit.MILLISECONDS).register(registry);
        }
        String[] pool = {"pool", "HikariPool-1"};
        for (String state : List.of("", ".idle", ".active", ".pending", ".max", ".min")) {
            gauge(registry, "hikaricp.connections" + state, null, 5, pool);
        }
        for (String use : List.of("acquire", "creation", "usage")) {
            timer(registry, "hikaricp.connections." + use, 3, pool);
        }
        counter(registry, "hikaricp.connections.timeout", null, 1, pool);
        for (String state : List.of("active", "idle", "max", "min")) {
            gauge(registry, "jdbc.connections." + state, null, 5, "name", "dataSource");
        }
        gauge(registry, "process.threads", null, 44);
        for (String memory : List.of("vss", "rss", "swap")) {
            gauge(registry, "process.memory." + memory, "bytes", 1e9);
        }
    }

    private void hibernate(MeterRegistry registry, String count, Tags tags) {
        FunctionCounter.builder("hibernate." + count, this, self -> 4.0 * self.round).tags(tags)
            .tag("entityManagerFactory", "entityManagerFactory").register(registry);
    }
}
