# Predictions on a CPU:
#   docker build -t pointrend .
#   docker run --rm -v "$PWD:/work" pointrend predict photo.jpg --out out
FROM python:3.11-slim
WORKDIR /opt/pointrend
COPY pyproject.toml README.md LICENSE ./
COPY src src
# Where packages come from is pip's business: an index of CPU builds of PyTorch makes the image much smaller
# (--build-arg PIP_ARGUMENTS=...).
ARG PIP_ARGUMENTS=
RUN pip install --no-cache-dir $PIP_ARGUMENTS ".[openvino]"
WORKDIR /work
ENTRYPOINT ["pointrend"]
CMD ["--help"]
