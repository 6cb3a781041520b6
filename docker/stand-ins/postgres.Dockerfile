# What docker/compose.yaml needs of the official image `postgres`.
ARG DEBIAN=debian:bookworm-slim

FROM ${DEBIAN}
# The user has the number it has there.
# hadolint ignore=DL3008
RUN groupadd --system --gid 999 postgres \
    && useradd --system --uid 999 --gid postgres --home-dir /var/lib/postgresql postgres \
    && apt-get update \
    && apt-get install --yes --no-install-recommends postgresql-15 \
    && rm -rf /var/lib/apt/lists/* /var/lib/postgresql/15 \
    && install --directory --owner 999 --group 999 --mode 0700 /var/lib/postgresql/data \
    && install --directory --owner 999 --group 999 /var/run/postgresql
COPY --chmod=0755 postgres-server /usr/local/bin/
ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/bin:/usr/bin:/bin PGDATA=/var/lib/postgresql/data
VOLUME /var/lib/postgresql/data
USER 999:999
EXPOSE 5432
STOPSIGNAL SIGINT
ENTRYPOINT ["/usr/local/bin/postgres-server"]
