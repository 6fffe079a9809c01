import io.micrometer.core.instrument.Clock;
import java.time.Duration;
import java.util.concurrent.TimeUnit;

/**
 * The time of a run. A scripted one stands still until it is told to go on, begins with a minute and ends in the
 * last one, so that a run takes no longer than its requests and says the same each time; a real one sleeps instead.
 */
final class Script implements Clock {
    private final boolean real;
    private long now;

    Script(boolean real, Duration step, int rounds) {
        this.real = real;
        long minute = Duration.ofMinutes(1).toMillis();
        now = (System.currentTimeMillis() - (rounds + 1) * step.toMillis()) / minute * minute;
    }

    void goOn(Duration duration) throws InterruptedException {
        if (real) {
            Thread.sleep(duration.toMillis());
        } else {
            synchronized (this) {
                now += duration.toMillis();
            }
        }
    }

    boolean isReal() {
        return real;
    }

    @Override
    public long wallTime() {
        if (real) {
            return System.currentTimeMillis();
        }
        synchronized (this) {
            return now;
        }
    }

    @Override
    public long monotonicTime() {
        return real ? System.nanoTime() : TimeUnit.MILLISECONDS.toNanos(wallTime());
    }
}
