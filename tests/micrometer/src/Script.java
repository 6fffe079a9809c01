import io.micrometer.core.instrument.Clock;
import java.time.Duration;
import java.util.concurrent.TimeUnit;

/**
 * The time of a run. A scripted one stands still until it is told to go on, begins with a step and ends about now, so that a
 * run takes no longer than its requests and every step has the same values each time; a real one sleeps instead.
 */
final class Script implements Clock {
    private final boolean real;
    private long now;

    Script(boolean real, Duration step, int rounds) {
        this.real = real;
        long millis = step.toMillis();
        now = (System.currentTimeMillis() / millis - rounds - 1) * millis;
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
