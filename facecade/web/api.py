"""The HTTP API: `POST /predict` returns JSON, documented at /openapi.json."""

from __future__ import annotations

import shutil
import tempfile
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, File, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from facecade.base.errors import FacecadeError
from facecade.base.progress import note
from facecade.faces.decode import MAX_JPEG_PIXELS, MAX_PIXELS
from facecade.web.limits import Limits, RefusedError, file_too_large, require_count
from facecade.web.predictor import Predictor
from facecade.web.schema import (
    ErrorModel,
    ExplanationModel,
    HealthModel,
    PredictionsModel,
    ProblemModel,
    ResultModel,
)

INTERNAL_ERROR = ErrorModel(
    status=500, message="internal error of the server", hint="try again; the server's log has the traceback"
)

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "connect-src 'self' data: blob:; form-action 'self'; base-uri 'self'; frame-ancestors 'self'"
)
"""Lets the page request nothing but this server, whatever its libraries try."""


def _description(limits: Limits) -> str:
    return f"""Send images; get for every face mask, gender and age band with probabilities, the age by both
regressors, each stage's prediction, and the contributions to the prediction. At most {limits.files} images per request, each of
at most {limits.megabytes:g} MB, of {MAX_JPEG_PIXELS:,} pixels as JPEG or {MAX_PIXELS:,} in other formats.

`curl -F images=@one.jpg -F images=@two.jpg ADDRESS/predict`"""


def make_api(predictor: Predictor, version: str) -> FastAPI:
    """The application without the web page. There is no /docs: Swagger's page would load files from other hosts."""
    app = FastAPI(
        title="Facecade", version=version, description=_description(predictor.limits), docs_url=None, redoc_url=None
    )
    app.add_middleware(RequestLimits, limits=predictor.limits)
    app.add_exception_handler(Exception, _unexpected)
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid_form)
    problems: dict[int | str, dict[str, Any]] = {
        status: {"model": ProblemModel, "description": meaning}
        for status, meaning in {
            400: "No image was given.",
            413: "Too many, too large, or too many pixels.",
            415: "Not an image.",
            422: "An image that cannot be read, or a form without files.",
            500: "Internal error.",
        }.items()
    }

    @app.post("/predict", response_model_exclude_unset=True, responses=problems)
    def predict(
        images: Annotated[list[UploadFile], File(description="One or more images.")] = [],  # noqa: B006 an empty list gets our own error message
    ) -> PredictionsModel:
        """Predict every face of each image, in the given order. 200 if at least one image could be predicted; otherwise the
        status of the first image's error."""
        require_count(len(images), predictor.limits)
        results = [_result(predictor, image) for image in images]
        refused = [result.error for result in results if result.error]
        if len(refused) == len(results):
            raise _AllRefusedError(refused[0], results)
        return PredictionsModel(results=results)

    @app.get("/health")
    async def health() -> HealthModel:
        """The server's status and limits; responds during predictions, too."""
        limits = predictor.limits
        return HealthModel(
            status="ok",
            megabytes=limits.megabytes,
            files=limits.files,
            attention=predictor.has_attention,
        )

    return app


class _AllRefusedError(RefusedError):
    def __init__(self, first: ErrorModel, results: list[ResultModel]) -> None:
        super().__init__(first.status, first.message, first.hint)
        self.results = results


def _result(predictor: Predictor, upload: UploadFile) -> ResultModel:
    name = upload.filename or "image"
    try:
        if (upload.size or 0) > predictor.limits.bytes:
            raise file_too_large(upload.size or 0, predictor.limits)
        with tempfile.NamedTemporaryFile(prefix="facecade-") as file:
            shutil.copyfileobj(upload.file, file)
            file.flush()
            explanation = predictor(Path(file.name), name).explanation
    except RefusedError as error:
        return ResultModel(name=name, error=_error_model(error))
    return ResultModel(name=name, explanation=ExplanationModel.model_validate(explanation.json()))


def _error_model(error: RefusedError) -> ErrorModel:
    return ErrorModel(status=error.status, message=str(error), hint=error.hint)


def _problem(error: ErrorModel, results: list[ResultModel] | None = None) -> JSONResponse:
    problem = ProblemModel(error=error, results=results or [])
    return JSONResponse(problem.model_dump(exclude_unset=True, mode="json"), error.status)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RefusedError)
    return _problem(_error_model(error), error.results if isinstance(error, _AllRefusedError) else None)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    """Errors of the framework: an unknown path, a wrong method, a malformed form."""
    assert isinstance(error, HTTPException)
    hint = "send images to POST /predict; /openapi.json describes it"
    return _problem(ErrorModel(status=error.status_code, message=str(error.detail).lower(), hint=hint))


async def _invalid_form(request: Request, error: Exception) -> JSONResponse:
    hint = "send multipart/form-data: curl -F images=@image.jpg ADDRESS/predict"
    return _problem(ErrorModel(status=422, message="images must be files", hint=hint))


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    """The server continues; uvicorn logs the traceback."""
    return _problem(INTERNAL_ERROR)


def internal_error(error: Exception) -> FacecadeError:
    """Log an unexpected error's traceback, and return the error that the user sees."""
    note("".join(traceback.format_exception(error)).rstrip())
    return FacecadeError(INTERNAL_ERROR.message, INTERNAL_ERROR.hint)


class RequestLimits:
    """ASGI middleware that refuses too large requests while they arrive, and sets security headers."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app, self.max_bytes = app, limits.request_bytes
        self.refusal = RefusedError(
            413,
            f"the request is too large: over {self.max_bytes / 2**20:.0f} MB",
            f"at most {limits.files} images of {limits.megabytes:g} MB",
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.max_bytes:
            await _problem(_error_model(self.refusal))(scope, receive, send)
            return
        await self.app(scope, self._limited(receive), _with_security_headers(send))

    def _limited(self, receive: Receive) -> Receive:
        """Count the received bytes: a request may have no content length, or a wrong one."""
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                raise HTTPException(413, str(self.refusal))
            return message

        return limited


def _with_security_headers(send: Send) -> Callable[[Message], Awaitable[None]]:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            security = [
                (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
                (b"x-content-type-options", b"nosniff"),
            ]
            message = {**message, "headers": [*message["headers"], *security]}
        await send(message)

    return send_with_headers
