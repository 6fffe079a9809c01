import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.DistributionSummary;
import io.micrometer.core.instrument.FunctionCounter;
import io.micrometer.core.instrument.FunctionTimer;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.LongTaskTimer;
import io.micrometer.core.instrument.Measurement;
import io.micrometer.core.instrument.Meter;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.Statistic;
import io.micrometer.core.instrument.Tags;
import io.micrometer.core.instrument.TimeGauge;
import io.micrometer.core.instrument.Timer;
import io.micrometer.wavefront.WavefrontMeterRegistry;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.function.IntConsumer;

/** The meters of an application, registered with every registry alike, and what happens to them in each round. */
class Meters {
    /** Longer than any run: maxima and percentiles of the registries, which forget at different speed, stay comparable. */
    private static final Duration FOR_EVER = Duration.ofHours(1);

    private final String name;
    private final Tags commonTags;
    private final List<IntConsumer> happening = new ArrayList<>();
    private int round;

    Meters(String name, Tags commonTags) {
        this.name = name;
        this.commonTags = commonTags;
    }

    String name() {
        return name;
    }

    Tags commonTags() {
        return commonTags;
    }

    /** What happens in each round, to all registries. */
    void round(int number) {
        round = number;
        happening.forEach(each -> each.accept(number));
    }

    /** One of every kind, with values that differ from round to round, and tags that are awkward to write. */
    void register(MeterRegistry registry) {
        timer(registry, "spring.integration.send", 10, "type", "channel", "name", "output", "result", "success",
            "exception", "none");
        timer(registry, "spring.integration.send", 3, "type", "handler", "name", "timeSource.handler", "result", "success",
            "exception", "none");
        Timer failures = timer("spring.integration.send").tags("type", "channel", "name", "errorChannel", "result", "failure",
            "exception", "MessagingException").register(registry);
        each(number -> { if (number == 3) failures.record(7, TimeUnit.MILLISECONDS); });

        Timer requests = Timer.builder("http.server.requests").tags("method", "GET", "status", "200", "outcome", "SUCCESS",
            "exception", "none", "uri", "/tasks/{id}").serviceLevelObjectives(millis(50), millis(250)).register(registry);
        each(number -> { for (int at : List.of(40, 120, 300)) requests.record(millis(at)); });
        Timer histogram = timer("http.client.requests").publishPercentileHistogram().register(registry);
        each(number -> { if (number == 1) histogram.record(millis(10)); });
        Timer percentiles = timer("app.latency").publishPercentiles(0.5, 0.95).register(registry);
        each(number -> percentiles.record(millis(100L * number)));

        DistributionSummary payload = DistributionSummary.builder("payload.size").baseUnit("bytes")
            .distributionStatisticExpiry(FOR_EVER).register(registry);
        each(number -> payload.record(1000.5 * number));
        DistributionSummary batch = DistributionSummary.builder("batch.size").serviceLevelObjectives(10, 100)
            .register(registry);
        each(number -> { for (int size : List.of(5, 50, 500)) batch.record(size); });

        counter(registry, "spring.integration.receive", null, 3, "type", "source", "name", "timeSource", "result", "success",
            "exception", "none");
        counter(registry, "jvm.gc.memory.allocated", "bytes", 1_048_576);
        counter(registry, "logback.events", "events", 2, "level", "info");
        FunctionCounter.builder("jvm.classes.unloaded", this, self -> 7.0 * self.round).baseUnit("classes").register(registry);
        FunctionTimer.builder("cache.gets.latency", this, self -> 5L * self.round, self -> 2.5 * self.round,
            TimeUnit.SECONDS).register(registry);

        gauge(registry, "jvm.memory.used", "bytes", 123_456_789.125, "area", "heap", "id", "G1 Eden Space");
        gauge(registry, "jvm.memory.max", "bytes", -1, "area", "nonheap", "id", "Metaspace");
        gauge(registry, "jvm.threads.live", "threads", 42);
        gauge(registry, "process.files.open", "files", 17);
        gauge(registry, "jvm.classes.loaded", "classes", 9001);
        gauge(registry, "process.cpu.usage", null, 0.000_001_234_5);
        gauge(registry, "system.load.average.1m", null, 0.25);
        gauge(registry, "not.a.number", null, Double.NaN);
        gauge(registry, "spring.integration.channels", null, 4);
        Gauge.builder("queue.depth", this, self -> 100 - self.round).register(registry);
        TimeGauge.builder("process.uptime", this, TimeUnit.SECONDS, self -> 90.0 + self.round).register(registry);

        LongTaskTimer.builder("spring.cloud.task.active").tags("task.name", "timestamp", "task.execution.id", "7")
            .register(registry).start();
        timer(registry, "spring.cloud.task", 1500, "task.name", "timestamp", "task.execution.id", "7");
        timer(registry, "spring.batch.job", 900, "name", "job1", "status", "COMPLETED");
        Meter.builder("custom.meter", Meter.Type.OTHER, List.of(
            new Measurement(() -> 1.5 * round, Statistic.TOTAL), new Measurement(() -> 2.0 * round, Statistic.COUNT),
            new Measurement(() -> 9.0, Statistic.MAX), new Measurement(() -> 4.0, Statistic.VALUE))).register(registry);

        counter(registry, "awkward.tags", null, 1, "uri", "/a b,c=\"x\"", "path", "C:\\temp\\x", "unicode", "Größe ∆ 測試",
            "lines", "one\ntwo", "dash-key.x", "v");
        counter(registry, "weird-name.with/slash", null, 1);
        // Micrometer does not escape it: InfluxDB refuses this line, and only this one.
        counter(registry, "trailing.backslash", null, 1, "path", "C:\\");
        // Wavefront's SDK refuses it in the application, and with it all that would have been sent behind it.
        if (!(registry instanceof WavefrontMeterRegistry)) {
            counter(registry, "blank.tag", null, 1, "empty", "", "blank", " ");
        }
    }

    final void each(IntConsumer happens) {
        happening.add(happens);
    }

    static Duration millis(long millis) {
        return Duration.ofMillis(millis);
    }

    private static Timer.Builder timer(String name) {
        return Timer.builder(name).distributionStatisticExpiry(FOR_EVER);
    }

    /** Two calls a round, the second one longer from round to round. */
    final void timer(MeterRegistry registry, String name, int millis, String... tags) {
        Timer timer = timer(name).tags(tags).register(registry);
        each(number -> {
            timer.record(millis, TimeUnit.MILLISECONDS);
            timer.record(1000L * millis + 500L * number, TimeUnit.MICROSECONDS);
        });
    }

    /** Grows in each round, more from round to round. */
    final void counter(MeterRegistry registry, String name, String unit, int amount, String... tags) {
        Counter counter = Counter.builder(name).baseUnit(unit).tags(tags).register(registry);
        each(number -> counter.increment(amount * (double) number));
    }

    final void gauge(MeterRegistry registry, String name, String unit, double value, String... tags) {
        Gauge.builder(name, () -> value).baseUnit(unit).tags(tags).register(registry);
    }
}
