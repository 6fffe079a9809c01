# syntax=docker/dockerfile:1
# One static binary in an image with nothing else but the certificates of public authorities and a client for the health check.
#
#   docker build -t sluicegate .
#   docker run -p 8900:8900 -v sluicegate:/var/lib/sluicegate sluicegate

FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
COPY Cargo.toml Cargo.lock build.rs README.md ./
COPY proto proto
COPY benches benches
COPY src src
# glibc, linked statically: the allocator that sluicegate is measured with, for the processor that builds.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/build/target \
    target="$(rustc --print host-tuple)" && \
    RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --bin sluicegate --target "$target" && \
    install -D --strip "target/$target/release/sluicegate" /image/usr/bin/sluicegate
COPY deploy/docker/sluicegate.yaml /image/etc/sluicegate/sluicegate.yaml
RUN install -d -m 1777 /image/tmp && \
    install -d -o 1000 -g 1000 /image/var/lib/sluicegate && \
    install -D -m 644 /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt && \
    echo 'sluicegate:x:1000:1000::/var/lib/sluicegate:/usr/bin/sluicegate' >/image/etc/passwd && \
    echo 'sluicegate:x:1000:' >/image/etc/group

FROM busybox:1.37-musl AS client

FROM scratch
COPY --from=build /image/ /
COPY --from=client /bin/wget /usr/bin/wget
USER 1000:1000
WORKDIR /var/lib/sluicegate
VOLUME /var/lib/sluicegate
# HTTP, Wavefront, RSocket over TCP and over WebSocket
EXPOSE 8900 2878 7001 8081
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s \
    CMD ["/usr/bin/wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8900/-/healthy"]
ENTRYPOINT ["/usr/bin/sluicegate"]
CMD ["run", "--config", "/etc/sluicegate/sluicegate.yaml"]
