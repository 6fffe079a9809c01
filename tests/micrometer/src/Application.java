import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.push.PushMeterRegistry;
import io.micrometer.core.instrument.push.Publishing;
import io.micrometer.core.ipc.http.HttpSender;
import io.micrometer.core.ipc.http.HttpUrlConnectionSender;
import io.micrometer.influx.InfluxConfig;
import io.micrometer.influx.InfluxMeterRegistry;
import io.micrometer.prometheus.rsocket.PrometheusRSocketClient;
import io.micrometer.wavefront.WavefrontConfig;
import io.micrometer.wavefront.WavefrontMeterRegistry;
import io.prometheus.client.CollectorRegistry;
import io.prometheus.client.exporter.PushGateway;
import io.prometheus.metrics.model.registry.PrometheusRegistry;
import io.rsocket.transport.ClientTransport;
import io.rsocket.transport.netty.client.TcpClientTransport;
import io.rsocket.transport.netty.client.WebsocketClientTransport;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.function.Supplier;
import java.util.zip.GZIPInputStream;

/**
 * One application: its meters in every registry that was asked for, and both Prometheus registries, which say what is right.
 *
 * A registry is asked for by its own property: `influx.uri=...`, `wavefront.uri=...`, with any other property of Micrometer
 * beside it. Beyond those: `rsocket=tcp://host:port` or `ws://host:port`, `pushgateway=host:port` with `job=...`.
 */
final class Application {
    private final Map<String, String> settings;
    private final Path folder;
    private final Meters meters;
    private final io.micrometer.prometheus.PrometheusMeterRegistry simpleclient;
    private final io.micrometer.prometheusmetrics.PrometheusMeterRegistry client1;
    private final List<PushMeterRegistry> pushing = new ArrayList<>();
    private PrometheusRSocketClient rsocket;

    Application(Map<String, String> settings, Path folder, Script script, Meters meters) throws IOException {
        this.settings = settings;
        this.folder = folder;
        this.meters = meters;
        simpleclient = new io.micrometer.prometheus.PrometheusMeterRegistry(
            io.micrometer.prometheus.PrometheusConfig.DEFAULT, new CollectorRegistry(), script);
        client1 = new io.micrometer.prometheusmetrics.PrometheusMeterRegistry(
            io.micrometer.prometheusmetrics.PrometheusConfig.DEFAULT, new PrometheusRegistry(), script);
        List<MeterRegistry> registries = new ArrayList<>(List.of(simpleclient, client1));
        if (settings.containsKey("influx.uri")) {
            InfluxConfig config = settings::get;
            pushing.add(InfluxMeterRegistry.builder(config).clock(script).httpClient(this::send).build());
        }
        if (settings.containsKey("wavefront.uri")) {
            WavefrontConfig config = settings::get;
            pushing.add(WavefrontMeterRegistry.builder(config).clock(script).build());
        }
        registries.addAll(pushing);
        for (MeterRegistry registry : registries) {
            registry.config().commonTags(meters.commonTags());
            meters.register(registry);
        }
        if (!script.isReal()) {
            pushing.forEach(PushMeterRegistry::stop);
        }
        Files.createDirectories(folder.resolve("simpleclient"));
        Files.createDirectories(folder.resolve("client1"));
    }

    private final HttpSender sender = new HttpUrlConnectionSender(Duration.ofSeconds(5), Duration.ofSeconds(30));

    /** Keeps the lines that the Influx registry says, and sends them. */
    private HttpSender.Response send(HttpSender.Request request) throws Throwable {
        if (request.getUrl().getPath().endsWith("/write")) {
            byte[] body = request.getEntity();
            if (request.getRequestHeaders().getOrDefault("Content-Encoding", "").equals("gzip")) {
                body = new GZIPInputStream(new ByteArrayInputStream(body)).readAllBytes();
            }
            String lines = new String(body, StandardCharsets.UTF_8).stripTrailing() + "\n";
            Files.writeString(folder.resolve("influx.lp"), lines, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        }
        HttpSender.Response response = sender.send(request);
        if (!response.isSuccessful()) {
            System.out.println("answered " + response.code() + " " + response.body());
        }
        return response;
    }

    /** Dials the proxy and waits until it has sent its key. */
    void connect() {
        String address = settings.get("rsocket");
        if (address == null) {
            return;
        }
        URI uri = URI.create(address);
        ClientTransport transport = uri.getScheme().equals("ws")
            ? WebsocketClientTransport.create(uri.getHost(), uri.getPort())
            : TcpClientTransport.create(uri.getHost(), uri.getPort());
        rsocket = PrometheusRSocketClient.build(simpleclient, generation(), transport).connectBlockingly();
    }

    private boolean old() {
        return settings.getOrDefault("generation", "simpleclient").equals("simpleclient");
    }

    private Supplier<String> generation() {
        return old() ? simpleclient::scrape : client1::scrape;
    }

    void round(int number) {
        meters.round(number);
    }

    /** Ends a step: the pages of both Prometheus registries to files named by the time, the rest to where it goes. */
    void publish(long time) throws IOException {
        pages(time);
        pushing.forEach(Publishing::now);
        push();
    }

    void pages(long time) throws IOException {
        String name = time + "." + meters.name() + ".txt";
        Files.writeString(folder.resolve("simpleclient").resolve(name), simpleclient.scrape());
        Files.writeString(folder.resolve("client1").resolve(name), client1.scrape());
    }

    private void push() throws IOException {
        String address = settings.get("pushgateway");
        if (address == null) {
            return;
        }
        String job = settings.getOrDefault("job", meters.name());
        if (old()) {
            new PushGateway(address).pushAdd(simpleclient.getPrometheusRegistry(), job);
        } else {
            io.prometheus.metrics.exporter.pushgateway.PushGateway.builder().address(address).job(job)
                .registry(client1.getPrometheusRegistry()).build().pushAdd();
        }
    }

    /** Ends it as Spring does: the last scrape over RSocket is pushed, the registries send what is left of their step. */
    void close(long time) throws IOException {
        pages(time);
        push();
        if (rsocket != null) {
            rsocket.pushAndCloseBlockingly();
        }
        pushing.forEach(PushMeterRegistry::close);
    }
}
