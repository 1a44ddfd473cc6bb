# The page of fader app with the light runtime: no PyTorch. Build it in a checkout:
#   docker build -t fader .
#   docker run --rm -p 7860:7860 -e FADER_TOKEN=choose-a-secret fader
# and open http://localhost:7860/?token=choose-a-secret
FROM python:3.12-slim

COPY requirements/ /src/requirements/
RUN pip install --no-cache-dir --no-compile -r /src/requirements/onnx-app.txt
COPY pyproject.toml setup.py README.md LICENSE /src/
COPY docs/model-card.md docs/cgan-card.md /src/docs/
COPY fader/ /src/fader/
COPY cgan/ /src/cgan/
RUN pip install --no-cache-dir --no-compile --no-deps /src && rm -rf /src

RUN useradd --create-home fader
USER fader
WORKDIR /home/fader
ENV PYTHONDONTWRITEBYTECODE=1
EXPOSE 7860
# Reachable from outside the container, so the page asks for the secret in $FADER_TOKEN.
CMD ["fader", "app", "--host", "0.0.0.0", "--runtime", "onnx"]
