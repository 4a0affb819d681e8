# syntax=docker/dockerfile:1.7
# The daemon on a Jetson with JetPack 6: Python 3.10, CUDA 12.6, TensorRT 10. On the Jetson, from the repository's
# root, with NVIDIA's wheel of ONNX Runtime in docker/wheels/ (the package index has none for aarch64 and CUDA):
#   docker build -f docker/jetson.Dockerfile --build-arg ONNXRUNTIME_WHEEL=NAME.whl -t traffic-vision-edge:jetson .
ARG JETPACK_IMAGE=nvcr.io/nvidia/l4t-jetpack:r36.4.0

FROM ${JETPACK_IMAGE} AS environment
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
ARG ONNXRUNTIME_WHEEL
WORKDIR /source
COPY . .
# OpenCV comes from the package index: JetPack's own is bound to the system's Python and to numpy 1.
RUN test -f "docker/wheels/${ONNXRUNTIME_WHEEL}" \
    || { echo "give --build-arg ONNXRUNTIME_WHEEL=NAME.whl, a file in docker/wheels/" >&2; exit 1; } \
    && python3 -m venv /opt/traffic-vision \
    && /opt/traffic-vision/bin/pip install --no-cache-dir --upgrade "pip==25.3" \
    && /opt/traffic-vision/bin/pip install --no-cache-dir -c constraints.txt . \
    && /opt/traffic-vision/bin/pip install --no-cache-dir -c constraints.txt "docker/wheels/${ONNXRUNTIME_WHEEL}"

FROM ${JETPACK_IMAGE} AS jetson
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        python3 libgl1 libglib2.0-0 \
        gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --groups video --home-dir /var/lib/traffic-vision traffic-vision \
    && install -d -o traffic-vision -m 0700 /var/lib/traffic-vision \
    && install -d -o traffic-vision -m 0750 /run/traffic-vision
COPY --from=environment /opt/traffic-vision /opt/traffic-vision
USER 10001
WORKDIR /var/lib/traffic-vision
VOLUME /var/lib/traffic-vision
STOPSIGNAL SIGTERM
# The first start builds TensorRT's engines.
HEALTHCHECK --interval=10s --timeout=10s --start-period=900s --retries=3 \
    CMD ["/opt/traffic-vision/bin/python", "-I", "-B", "-m", "tools.cli", "edge", "health", \
         "--config", "/etc/traffic-vision/edge.toml"]
ENTRYPOINT ["/opt/traffic-vision/bin/python", "-I", "-B", "-X", "faulthandler", "-m", "tools.cli"]
CMD ["edge", "run", "--config", "/etc/traffic-vision/edge.toml"]
