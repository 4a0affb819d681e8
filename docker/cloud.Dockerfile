# syntax=docker/dockerfile:1.7
# The cloud's part, and the same with Apache Airflow beside it. From the repository's root:
#   docker build -f docker/cloud.Dockerfile --target cloud   -t traffic-vision-cloud:latest .
#   docker build -f docker/cloud.Dockerfile --target airflow -t traffic-vision-airflow:latest .
# With an NVIDIA GPU for training: --build-arg TORCH_INDEX=https://pypi.org/simple, some GB more.
ARG PYTHON_IMAGE=python:3.11.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM ${PYTHON_IMAGE} AS environment
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY constraints.txt /tmp/constraints.txt
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    python -m venv /opt/traffic-vision \
    && /opt/traffic-vision/bin/pip install --no-cache-dir -c /tmp/constraints.txt \
        --extra-index-url "${TORCH_INDEX}" \
        "traffic-vision[cloud,cloud-postgresql] @ file://$(ls /wheels/traffic_vision-*.whl)"

FROM ${PYTHON_IMAGE} AS airflow-environment
COPY cloud/airflow/requirements.txt cloud/airflow/constraints.txt /tmp/
RUN python -m venv /opt/airflow \
    && /opt/airflow/bin/pip install --no-cache-dir -c /tmp/constraints.txt -r /tmp/requirements.txt

# Debian's packages are those of the pinned image's release, with its security updates. DVC needs git.
FROM ${PYTHON_IMAGE} AS cloud
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 git \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --home-dir /srv/traffic-vision traffic-vision \
    && install -d -o traffic-vision -g traffic-vision -m 0700 /srv/traffic-vision /tickets
COPY --from=environment /opt/traffic-vision /opt/traffic-vision
# What Ultralytics, MLflow and DVC remember between runs is of no use in a container that ends.
ENV PATH=/opt/traffic-vision/bin:${PATH} \
    YOLO_CONFIG_DIR=/tmp/ultralytics \
    MLFLOW_DISABLE_TELEMETRY=true \
    DVC_NO_ANALYTICS=true
USER 10001
WORKDIR /srv/traffic-vision
VOLUME /srv/traffic-vision
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/traffic-vision/bin/python", "-I", "-B", "-X", "faulthandler", "-m", "tools.cli"]
CMD ["cloud", "serve", "--config", "/srv/traffic-vision/cloud.toml"]

FROM cloud AS airflow
COPY --from=airflow-environment /opt/airflow /opt/airflow
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s --retries=4 \
    CMD ["/opt/airflow/bin/python", "-I", "-c", \
         "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8081/api/v2/monitor/health', timeout=4)"]
CMD ["cloud", "airflow", "--airflow", "/opt/airflow/bin/airflow", "--listen", "0.0.0.0:8081", \
     "--config", "/srv/traffic-vision/cloud.toml"]
