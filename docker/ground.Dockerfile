# Ground station: verify, measure and predict on a CPU, x86-64 and aarch64.   docker build -f docker/ground.Dockerfile .
ARG BASE=docker.io/library/debian:bookworm-20250520-slim

# hadolint ignore=DL3006
FROM ${BASE} AS build
# Debian removes old versions from its mirrors: pinned ones would stop building; the base is what is pinned.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY . /src
WORKDIR /src
RUN python3 -m venv /opt/edge \
    && /opt/edge/bin/pip install --no-cache-dir -c requirements.lock '.[cpu,raster]' \
    && /opt/edge/bin/pip uninstall -y pip setuptools

# hadolint ignore=DL3006
FROM ${BASE}
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin edge
COPY --from=build /opt/edge /opt/edge
ENV PATH=/opt/edge/bin:$PATH PYTHONDONTWRITEBYTECODE=1 EDGE_CACHE=/tmp/edge
USER 10001
WORKDIR /data
HEALTHCHECK --interval=60s --timeout=20s --start-period=10s CMD ["edge", "doctor", "--json"]
ENTRYPOINT ["edge"]
CMD ["--help"]
