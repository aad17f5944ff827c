# bbbmeter for a TimescaleDB server. The embedded engine needs Node, which this image lacks.

FROM python:3.13-slim-trixie AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/build && python -m venv /opt/bbbmeter
COPY requirements.lock requirements-build.lock ./
RUN /opt/build/bin/pip install --require-hashes --requirement requirements-build.lock \
    && /opt/bbbmeter/bin/pip install --require-hashes --only-binary :all: \
        --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY collector collector
COPY schema schema
COPY embedded/*.mjs embedded/*.json embedded/
COPY docs/sbom.cdx.json docs/
RUN /opt/build/bin/python -m pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && /opt/bbbmeter/bin/pip install --no-index --no-deps dist/*.whl \
    && /opt/bbbmeter/bin/pip uninstall --yes pip \
    && mkdir /opt/spool

FROM python:3.13-slim-trixie
LABEL org.opencontainers.image.title="bbbmeter" \
      org.opencontainers.image.description="Usage metering for BigBlueButton fleets" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/bbbmeter /opt/bbbmeter
# A new volume gets the owner of this folder.
COPY --from=build --chown=10001:10001 /opt/spool /var/lib/bbbmeter/spool
# bbbmeter writes only the spool, and logs to standard error. So the root file system can be
# read-only. HTTP listens on all addresses, because requests come from outside of the container.
ENV PATH=/opt/bbbmeter/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    BBBMETER_HTTP__HOST=0.0.0.0 \
    BBBMETER_HTTP__PORT=9713 \
    BBBMETER_SPOOL__DIRECTORY=/var/lib/bbbmeter/spool \
    BBBMETER_LOG_FORMAT=json
USER 10001:10001
WORKDIR /etc/bbbmeter
EXPOSE 9713
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ['BBBMETER_HTTP__PORT']}/healthz\", timeout=4)"]
ENTRYPOINT ["bbbmeter"]
CMD ["run"]
