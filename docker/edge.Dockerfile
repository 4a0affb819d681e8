# syntax=docker/dockerfile:1.7
# The daemon on x86 vehicles. From the repository's root:
#   docker build -f docker/edge.Dockerfile --target cpu  -t traffic-vision-edge:cpu .
#   docker build -f docker/edge.Dockerfile --target cuda -t traffic-vision-edge:cuda .
ARG PYTHON_IMAGE=python:3.11.13-slim-bookworm
# CUDA 13 and cuDNN 9, as onnxruntime-gpu 1.31 is built for.
ARG CUDA_IMAGE=nvidia/cuda:13.0.1-cudnn-runtime-ubuntu24.04

FROM ${PYTHON_IMAGE} AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM ${PYTHON_IMAGE} AS cpu-environment
COPY constraints.txt /tmp/constraints.txt
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    python -m venv /opt/traffic-vision \
    && /opt/traffic-vision/bin/pip install --no-cache-dir -c /tmp/constraints.txt \
        "traffic-vision[edge] @ file://$(ls /wheels/traffic_vision-*.whl)"

# Debian's and Ubuntu's packages are those of the pinned image's release, with its security updates.
FROM ${PYTHON_IMAGE} AS cpu
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        libgl1 libglib2.0-0 \
        gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-libav \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --groups video --home-dir /var/lib/traffic-vision traffic-vision \
    && install -d -o traffic-vision -m 0700 /var/lib/traffic-vision \
    && install -d -o traffic-vision -m 0750 /run/traffic-vision
COPY --from=cpu-environment /opt/traffic-vision /opt/traffic-vision
USER 10001
WORKDIR /var/lib/traffic-vision
VOLUME /var/lib/traffic-vision
# The daemon answers signals by itself, and waits for the children that it starts: no init is needed.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["/opt/traffic-vision/bin/python", "-I", "-B", "-m", "tools.cli", "edge", "health", \
         "--config", "/etc/traffic-vision/edge.toml"]
ENTRYPOINT ["/opt/traffic-vision/bin/python", "-I", "-B", "-X", "faulthandler", "-m", "tools.cli"]
CMD ["edge", "run", "--config", "/etc/traffic-vision/edge.toml"]

FROM ${CUDA_IMAGE} AS cuda-environment
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY constraints.txt /tmp/constraints.txt
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    python3 -m venv /opt/traffic-vision \
    && /opt/traffic-vision/bin/pip install --no-cache-dir -c /tmp/constraints.txt \
        "traffic-vision[edge-gpu] @ file://$(ls /wheels/traffic_vision-*.whl)"

FROM ${CUDA_IMAGE} AS cuda
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        python3 libgl1 libglib2.0-0 \
        gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-libav \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --groups video --home-dir /var/lib/traffic-vision traffic-vision \
    && install -d -o traffic-vision -m 0700 /var/lib/traffic-vision \
    && install -d -o traffic-vision -m 0750 /run/traffic-vision
COPY --from=cuda-environment /opt/traffic-vision /opt/traffic-vision
USER 10001
WORKDIR /var/lib/traffic-vision
VOLUME /var/lib/traffic-vision
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=600s --retries=3 \
    CMD ["/opt/traffic-vision/bin/python", "-I", "-B", "-m", "tools.cli", "edge", "health", \
         "--config", "/etc/traffic-vision/edge.toml"]
ENTRYPOINT ["/opt/traffic-vision/bin/python", "-I", "-B", "-X", "faulthandler", "-m", "tools.cli"]
CMD ["edge", "run", "--config", "/etc/traffic-vision/edge.toml"]
