# Training on NVIDIA GPUs (and all that the other images do).   docker build -f docker/train.Dockerfile .
# torch brings its own CUDA libraries; the base gives the driver's hooks.
ARG BASE=docker.io/nvidia/cuda:13.0.1-base-ubuntu24.04

# hadolint ignore=DL3006
FROM ${BASE} AS build
# Ubuntu removes old versions from its mirrors: pinned ones would stop building; the base is what is pinned.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY . /src
WORKDIR /src
RUN python3 -m venv /opt/edge \
    && /opt/edge/bin/pip install --no-cache-dir -c requirements.lock '.[compress,raster,h5,table,plot,card,nvml]'

# hadolint ignore=DL3006
FROM ${BASE}
# NNCF compiles its fake quantizer: gcc and Python's headers.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends g++ ninja-build python3 python3-dev \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin edge
COPY --from=build /opt/edge /opt/edge
# Caches of torch, its extensions and matplotlib are in /tmp, the only place besides /data that is written to.
ENV PATH=/opt/edge/bin:$PATH PYTHONDONTWRITEBYTECODE=1 EDGE_CACHE=/tmp/edge HOME=/tmp
USER 10001
WORKDIR /data
HEALTHCHECK --interval=60s --timeout=20s --start-period=10s CMD ["edge", "doctor", "--json"]
ENTRYPOINT ["edge"]
CMD ["--help"]
