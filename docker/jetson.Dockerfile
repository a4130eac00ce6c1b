# Jetson: TensorRT of the JetPack in the base.   docker build -f docker/jetson.Dockerfile --build-arg L4T=r36.4.0 .
# r36.4.0 is JetPack 6.1 and runs on 6.2, too. Another base: --build-arg BASE=... (Python 3.10 or newer, TensorRT in it).
ARG L4T=r36.4.0
ARG BASE=nvcr.io/nvidia/l4t-jetpack:${L4T}

# hadolint ignore=DL3006
FROM ${BASE} AS build
# Ubuntu removes old versions from its mirrors: pinned ones would stop building; the base is what is pinned.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY . /src
WORKDIR /src
# The system's packages are seen, for TensorRT is one of them; cuda-python 12.6 runs with the drivers of all JetPack 6.
ARG CUDA_PYTHON=cuda-python>=12.6,<12.7
RUN python3 -m venv --system-site-packages /opt/edge \
    && /opt/edge/bin/pip install --no-cache-dir -c requirements.lock '.[cpu]' "${CUDA_PYTHON}" \
    && /opt/edge/bin/pip uninstall -y pip setuptools

# hadolint ignore=DL3006
FROM ${BASE}
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin --groups video edge
COPY --from=build /opt/edge /opt/edge
# Plans and the timing cache outlive the container in a volume on /cache, whoever runs it (--user).
RUN install -d -m 1777 /cache
ENV PATH=/opt/edge/bin:$PATH PYTHONDONTWRITEBYTECODE=1 EDGE_CACHE=/cache
VOLUME /cache
USER 10001
WORKDIR /data
HEALTHCHECK --interval=60s --timeout=20s --start-period=10s CMD ["edge", "doctor", "--json"]
ENTRYPOINT ["edge"]
CMD ["--help"]
