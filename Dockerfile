# serve or infer from an export, without torch.
#
#   python cli.py export cascade/
#   docker build -t facecade .
#   docker run --rm -p 127.0.0.1:7860:7860 -v "$PWD/cascade:/cascade:ro" facecade
#   docker run --rm -v "$PWD/cascade:/cascade:ro" -v "$PWD/images:/images:ro" -v "$PWD/output:/output" \
#       facecade infer /images --artifacts /cascade --output /output
FROM python:3.12-slim

RUN useradd --create-home --uid 1000 facecade
WORKDIR /src
COPY . .
# The packages that an export needs (facecade.inference.exported.NEEDED), and those of the page; torch is not among them.
RUN pip install --no-cache-dir --no-deps . \
    && pip install --no-cache-dir numpy scipy pandas pillow opencv-python-headless xgboost-cpu scikit-learn \
        pydantic click rich filelock onnxruntime \
        "gradio>=6,<7" "jinja2>=3.1,<4" "fastapi>=0.115,<1" "uvicorn>=0.30,<1" "python-multipart>=0.0.18,<1" \
    && rm -rf /src

USER facecade
WORKDIR /home/facecade
EXPOSE 7860
ENTRYPOINT ["facecade"]
CMD ["serve", "--artifacts", "/cascade", "--engine", "onnx", "--host", "0.0.0.0"]
