# The image that trainings run in: Ultralytics, and the trainer of this wyolo. Runs as anybody, writes nothing to itself.
# BASE needs Python 3.11 or newer with venv; or it brings Ultralytics, and requirements.txt is empty.
ARG BASE=python:3.12-slim-bookworm
FROM ${BASE}

# What a proxy that inspects TLS signs with: trusted while this is built, by what pip and uv fetch. Empty: nobody more.
COPY ca.pem requirements.txt overrides.txt /opt/wyolo/
# Set from outside where packages come from elsewhere: PIP_INDEX_URL, UV_INDEX_URL, UV_EXTRA_INDEX_URL.
ARG PIP_INDEX_URL
ARG UV_INDEX_URL
ARG UV_EXTRA_INDEX_URL
RUN set -eu; cd /opt/wyolo; \
    if [ -s requirements.txt ]; then \
        if [ -s ca.pem ]; then \
            cat ca.pem /etc/ssl/certs/ca-certificates.crt >all.pem 2>/dev/null || cp ca.pem all.pem; \
            export PIP_CERT=/opt/wyolo/all.pem SSL_CERT_FILE=/opt/wyolo/all.pem; \
        fi; \
        python3 -m venv venv; \
        venv/bin/python -m pip install --quiet --no-cache-dir --disable-pip-version-check uv; \
        venv/bin/uv pip install --quiet --no-cache --python venv/bin/python --overrides overrides.txt -r requirements.txt; \
        venv/bin/python -m compileall -q venv/lib || true; \
        rm -f all.pem; \
    fi

# Ultralytics looks here for weights that a job does not bring; a job's own folder goes before it.
COPY weights /opt/wyolo/weights
COPY settings.json /opt/wyolo/config/Ultralytics/settings.json
COPY src /opt/wyolo/src
ENV PATH=/opt/wyolo/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONPATH=/opt/wyolo/src PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    YOLO_CONFIG_DIR=/opt/wyolo/config HOME=/tmp
USER 65534:65534
WORKDIR /tmp
ENTRYPOINT ["python3", "-m", "trainer"]
