# MLflow behind a password, on SQLite and a folder.
ARG BASE=python:3.12-slim-bookworm
FROM ${BASE}
ARG PIP_INDEX_URL
RUN python3 -m venv /opt/mlflow && \
    /opt/mlflow/bin/pip install --quiet --no-cache-dir --disable-pip-version-check "mlflow[auth]>=3,<4"
ENV PATH=/opt/mlflow/bin:/usr/local/bin:/usr/bin:/bin HOME=/tmp
EXPOSE 5000
ENTRYPOINT ["sh", "-c", "export MLFLOW_FLASK_SERVER_SECRET_KEY=$(cat /run/secrets/mlflow-key); exec mlflow server --host 0.0.0.0 --port 5000 --app-name basic-auth --backend-store-uri sqlite:////mlflow/mlflow.db --serve-artifacts --artifacts-destination /mlflow/artifacts"]
