package io.micrometer.core.instrument.push;

/** Publishes when the script says so: from this package a registry's `publish`, which its schedule calls, can be called. */
public final class Publishing {
    private Publishing() {}

    /** Sends what the registry would send at the end of a step, and returns when it is sent. */
    public static void now(PushMeterRegistry registry) {
        registry.publish();
    }
}
