# The service as an image. For a GPU:
#     docker build -t scgn-live:0.1.0-gpu .
# and without one, a fraction of the size:
#     docker build -t scgn-live:0.1.0 --build-arg EXTRA=service .
# CUDA comes with PyTorch's wheels and the driver from the host (nvidia-container-toolkit), so both
# stand on the same small base.
ARG BASE=python:3.12.11-slim-bookworm

FROM ${BASE} AS builder
ARG EXTRA=gpu
ARG TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/scgn-live
ENV PATH=/opt/scgn-live/bin:$PATH
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
# Other people's packages first, beside empty ones of ours: they are gigabytes, and a change of our
# code should not bring them anew. Without a GPU, torch's CPU build, asked for alone: an open
# requirement would bring CUDA. OpenVINO's telemetry would report each start to a web service;
# without that package it goes on and reports nothing.
RUN for package in client/scgn_client models/scgn service/scgn_live; do \
        mkdir -p "$package" && touch "$package/__init__.py"; \
    done \
    && if [ "$EXTRA" = service ]; then \
        pip install --no-deps --index-url "$TORCH_CPU_INDEX" \
            "torch==$(sed -n 's/^torch==//p' constraints.txt)+cpu"; \
    fi \
    && pip install -c constraints.txt ".[$EXTRA]" \
    && pip uninstall --yes openvino-telemetry
COPY client client
COPY models models
COPY service service
RUN pip install --no-deps --force-reinstall .

FROM ${BASE}
ARG EXTRA=gpu
LABEL org.opencontainers.image.title="scgn-live" \
      org.opencontainers.image.description="Live denoising for the electron microscope" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT"
# A fixed number, so that volumes and manifests can name it. Engines are programs: theirs alone.
RUN groupadd --gid 10001 scgn \
    && useradd --uid 10001 --gid 10001 --home-dir /var/lib/scgn-live --no-create-home \
        --shell /usr/sbin/nologin scgn \
    && install -d -o scgn -g scgn -m 0700 /var/lib/scgn-live
COPY --from=builder /opt/scgn-live /opt/scgn-live
ENV PATH=/opt/scgn-live/bin:$PATH \
    SCGN_STATE_DIR=/var/lib/scgn-live \
    SCGN_ENGINE_CACHE=/var/lib/scgn-live/engines \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
WORKDIR /var/lib/scgn-live
# What a container would first fail at. TensorRT must be there: the next choice on a GPU, Inductor,
# wants a C compiler, and this stage has none.
RUN python -c "import scgn_client.cli, scgn.denoise, scgn_live.app, scgn_live.sidecar.app" \
    && scgn-live check > /dev/null \
    && if [ "$EXTRA" = gpu ]; then \
        python -c "import importlib.util as u; assert u.find_spec('tensorrt'), 'no TensorRT'"; \
    fi
VOLUME /var/lib/scgn-live
EXPOSE 8000
STOPSIGNAL SIGTERM
# Live, not ready: whatever replaces unhealthy containers must not end a first start that builds
# engines for minutes, nor a service that waits for its calibration.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-I", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000, timeout=4); c.request('GET', '/livez'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["scgn-live", "serve"]
