# A ZooKeeper server, with Debian's packages and nothing else:
#   docker build -f docker/zookeeper.Dockerfile -t mqttzoo/zookeeper:dev .
# To pin the base by digest: --build-arg DEBIAN=debian@sha256:...
ARG DEBIAN=debian:bookworm-slim

FROM ${DEBIAN}
ARG REVISION=unknown
LABEL org.opencontainers.image.title="mqttzoo-zookeeper" \
      org.opencontainers.image.description="A ZooKeeper server for mqttzoo" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${REVISION}"
# Debian keeps the newest version of a package only, with its security fixes: none is pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        default-jre-headless libslf4j-java libzookeeper-java \
    && rm -rf /var/lib/apt/lists/* \
    && mkdir -p /var/lib/zookeeper/data /var/lib/zookeeper/log \
    && chown -R 10002:10002 /var/lib/zookeeper
COPY --chmod=0755 docker/zookeeper/zookeeper-server docker/zookeeper/zookeeper-probe /usr/local/bin/
COPY --chmod=0644 zoo/zoo.cfg /etc/zookeeper/zoo.cfg
# By number, so that Kubernetes can tell that it is not root.
USER 10002:10002
# Clients, the leader's followers, elections.
EXPOSE 2181 2888 3888
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/zookeeper-server"]
