FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md ./
COPY agent agent
COPY api api
COPY evals evals
COPY runbooks runbooks
COPY tools tools
RUN python -m venv /opt/redis-oncall \
    && /opt/redis-oncall/bin/pip install --no-cache-dir --constraint constraints.txt .

FROM python:3.12-slim
# pg_dump and pg_restore, for `redis-oncall database`
RUN apt-get update && apt-get install --yes --no-install-recommends postgresql-client \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --system --uid 10001 --home-dir /var/lib/redis-oncall --create-home oncall
COPY --from=build /opt/redis-oncall /opt/redis-oncall
ENV PATH=/opt/redis-oncall/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    REDIS_ONCALL_DATA=/var/lib/redis-oncall
USER oncall
VOLUME /var/lib/redis-oncall
EXPOSE 8321
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8321/healthz', timeout=2)"]
ENTRYPOINT ["redis-oncall"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8321"]
