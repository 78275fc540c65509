FROM python:3.13-slim AS build
WORKDIR /build
# Without pip, which a worker does not need; the base image's own installs into the environment.
RUN python -m venv --without-pip /opt/worker
COPY requirements.lock .
RUN python -m pip --python /opt/worker/bin/python install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY worker worker
COPY schema schema
RUN python -m pip --python /opt/worker/bin/python install --no-cache-dir --no-deps .

FROM python:3.13-slim
ENV PATH=/opt/worker/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=build /opt/worker /opt/worker
USER 10001:10001
EXPOSE 9464
HEALTHCHECK --interval=15s --timeout=5s --start-period=10s CMD ["python", "-c", "import http.client, os, sys; host = os.environ.get('METRICS_HOST') or '::'; page = http.client.HTTPConnection('127.0.0.1' if host in ('::', '0.0.0.0') else host, int(os.environ.get('PORT') or 9464), timeout=4); page.request('GET', '/healthz'); sys.exit(page.getresponse().status != 200)"]
ENTRYPOINT ["health-worker"]
CMD ["run"]
