# Two targets: `api` (small, no torch) and `worker` (torch and the engines). TORCH_INDEX passes an index with other builds of torch.
FROM python:3.12-slim-bookworm AS api
WORKDIR /app
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY pyproject.toml README.md ./
COPY api api
COPY store store
COPY worker worker
COPY compression compression
COPY migrations migrations
RUN pip install --no-cache-dir -e . && useradd --create-home niwaki && mkdir /data && chown niwaki /data
ENV NIWAKI_DATA_DIR=/data NIWAKI_HOST=0.0.0.0
USER niwaki
EXPOSE 8765
CMD ["uvicorn", "--factory", "api.app:create_app", "--host", "0.0.0.0", "--port", "8765", "--no-access-log", "--timeout-graceful-shutdown", "3"]

FROM api AS worker
ARG TORCH_INDEX=""
USER root
RUN apt-get update && apt-get install -y --no-install-recommends bubblewrap && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} -e '.[worker,fast]'
USER niwaki
CMD ["python", "-m", "worker", "run", "--queues", "cpu"]
