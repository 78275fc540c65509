FROM python:3.13-slim AS build
WORKDIR /build
RUN python -m venv /opt/worker
COPY requirements.lock .
RUN /opt/worker/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY worker worker
COPY schema schema
RUN /opt/worker/bin/pip install --no-cache-dir --no-deps .

FROM python:3.13-slim
ENV PATH=/opt/worker/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=build /opt/worker /opt/worker
USER 10001:10001
EXPOSE 9464
HEALTHCHECK --interval=15s --timeout=5s --start-period=10s CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ.get('PORT', '9464') + '/healthz', timeout=4)"]
ENTRYPOINT ["health-worker"]
CMD ["run"]
