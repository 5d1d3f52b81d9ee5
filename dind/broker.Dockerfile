# The broker of this wyolo, for the compose stack: it runs jobs on the sandboxes alone, and needs no torch.
ARG BASE=python:3.12-slim-bookworm
FROM ${BASE}
ARG PIP_INDEX_URL
COPY requirements.txt /opt/wyolo/
RUN python3 -m venv /opt/wyolo/venv && \
    /opt/wyolo/venv/bin/pip install --quiet --no-cache-dir --disable-pip-version-check -r /opt/wyolo/requirements.txt
COPY src /opt/wyolo/src
ENV PATH=/opt/wyolo/venv/bin:/usr/local/bin:/usr/bin:/bin PYTHONPATH=/opt/wyolo/src HOME=/tmp
EXPOSE 23450
ENTRYPOINT ["python3", "-P", "-m", "broker", "--config", "/run/secrets/broker.toml"]
