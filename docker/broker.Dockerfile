# The three programs of mqttzoo in one image:
#   docker build -f docker/broker.Dockerfile -t mqttzoo/broker:dev .
#   docker run --rm -p 1883:1883 mqttzoo/broker:dev --host 0.0.0.0 --allow-anonymous
# To pin the bases by digest: --build-arg RUST=rust@sha256:... --build-arg DEBIAN=debian@sha256:...
ARG RUST=rust:1.95.0-slim-bookworm
ARG DEBIAN=debian:bookworm-slim

FROM ${RUST} AS build
# jemalloc is built by make. Debian keeps the newest version of a package only: none is pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY src src
# Caches last from build to build; what is to stay in the image is copied out of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bins \
    && mkdir -p /out/bin /out/state \
    && cp target/release/mqtt_broker target/release/mqtt_pub target/release/mqtt_sub /out/bin/

FROM ${DEBIAN}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="mqttzoo" \
      org.opencontainers.image.description="An MQTT 3.1.1 and 5.0 broker, many of which are one" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# What clients trust by default when they speak TLS.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/bin/ /usr/local/bin/
# The only place that is written to: mount a volume or a tmpfs over it and the root may be read-only.
COPY --from=build --chown=10001:10001 /out/state /var/lib/mqttzoo
ENV MQTTZOO_DATA_DIR=/var/lib/mqttzoo
# By number, so that Kubernetes can tell that it is not root.
USER 10001:10001
# MQTT, MQTT over TLS, links between brokers, administration.
EXPOSE 1883 8883 7883 9090
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/mqtt_broker"]
