import io.micrometer.core.instrument.Tags;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * `java -cp 'target/micrometer/classes:target/micrometer/lib/*' Main out=FOLDER [KEY=VALUE ...]`
 *
 * Runs applications whose meters go through the same rounds each time, publishes after each round, and writes what
 * Micrometer itself says to FOLDER: `simpleclient/TIME.NAME.txt` and `client1/TIME.NAME.txt`, the pages of both generations of
 * the Prometheus registry after each round and at the end, and `influx.lp`, all lines of the Influx registry.
 *
 * Keys: those of `Application`; `set=one` (the default: one application with a meter of each kind) or `set=fleet` (streams,
 * tasks, servers and Kafka, for boards); `rounds=6`; `step=10` in seconds; `clock=scripted` (the default, which needs no time)
 * or `clock=real`; `drive=stdin`: waits for a line before each round and before the end, and writes one after each.
 */
public final class Main {
    private Main() {}

    public static void main(String[] words) throws Exception {
        Map<String, String> settings = new HashMap<>();
        for (String word : words) {
            settings.put(word.substring(0, word.indexOf('=')), word.substring(word.indexOf('=') + 1));
        }
        Path folder = Path.of(settings.get("out"));
        int rounds = Integer.parseInt(settings.getOrDefault("rounds", "6"));
        Duration step = Duration.ofSeconds(Long.parseLong(settings.getOrDefault("step", "10")));
        for (String registry : List.of("influx", "wavefront")) {
            settings.putIfAbsent(registry + ".step", step.toSeconds() + "s");
        }
        settings.putIfAbsent("influx.db", "myinfluxdb");
        settings.putIfAbsent("wavefront.source", "demo-scdf-source");
        Script script = new Script(settings.getOrDefault("clock", "scripted").equals("real"), step, rounds);
        List<Meters> sets = settings.getOrDefault("set", "one").equals("fleet") ? Fleet.all() : List.of(new Meters("one",
            Tags.of("stream.name", "ticktock", "application.name", "time", "application.type", "source",
                "application.guid", "guid-1", "instance.index", "0")));
        BufferedReader driver = settings.getOrDefault("drive", "").equals("stdin")
            ? new BufferedReader(new InputStreamReader(System.in)) : null;

        List<Application> applications = new ArrayList<>();
        for (Meters meters : sets) {
            applications.add(new Application(settings, folder, script, meters));
        }
        applications.forEach(Application::connect);
        System.out.println("started");
        for (int number = 1; number <= rounds; number++) {
            await(driver);
            script.goOn(step.multipliedBy(9).dividedBy(10));
            for (Application application : applications) {
                application.round(number);
            }
            script.goOn(step.dividedBy(10));
            for (Application application : applications) {
                application.publish(script.wallTime());
            }
            System.out.println("round " + number);
        }
        await(driver);
        // The last step ends early: closing sends it.
        script.goOn(step.multipliedBy(9).dividedBy(10));
        for (Application application : applications) {
            application.round(rounds + 1);
            application.close(script.wallTime());
        }
        System.out.println("ended");
        // Threads of the clients would keep it alive.
        System.exit(0);
    }

    private static void await(BufferedReader driver) throws Exception {
        if (driver != null) {
            driver.readLine();
        }
    }
}
