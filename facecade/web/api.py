"""The HTTP API: `POST /predict` returns JSON, documented at /openapi.json."""

from __future__ import annotations

import shutil
import tempfile
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, File, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from facecade.base.errors import FacecadeError
from facecade.base.progress import note
from facecade.faces.decode import MAX_JPEG_PIXELS, MAX_PIXELS, MAX_WEBP_PIXELS
from facecade.web.limits import Limits, RefusedError, file_too_large, require_count
from facecade.web.predictor import Predictor
from facecade.web.problem import problem
from facecade.web.request_limits import RequestLimits
from facecade.web.schema import (
    ErrorModel,
    ExplanationModel,
    HealthModel,
    PredictionsModel,
    ProblemModel,
    ResultModel,
)
from facecade.web.turns import Turns

INTERNAL_ERROR = ("internal error of the server", "try again; the server's log has the traceback")
"""Message and hint."""


def _description(limits: Limits) -> str:
    return f"""Send images; get for every face mask, gender and age band with probabilities, the age by both
regressors, each stage's prediction, and the contributions to the prediction. At most {limits.files} images per request, each of
at most {limits.megabytes:g} MB, of {MAX_JPEG_PIXELS:,} pixels as JPEG, {MAX_WEBP_PIXELS:,} as WebP or {MAX_PIXELS:,} in other formats.

`curl -F images=@one.jpg -F images=@two.jpg ADDRESS/predict`"""


def make_api(predictor: Predictor, version: str) -> FastAPI:
    """The application without the web page. There is no /docs: Swagger's page would load files from other hosts."""
    turns = Turns()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        turns.close()

    app = FastAPI(
        title="Facecade",
        version=version,
        description=_description(predictor.limits),
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.add_middleware(RequestLimits, limits=predictor.limits)
    app.add_exception_handler(Exception, _unexpected)
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid_form)
    app.add_exception_handler(ClientDisconnect, _client_left)
    problems: dict[int | str, dict[str, Any]] = {
        status: {"model": ProblemModel, "description": meaning}
        for status, meaning in {
            400: "No image was given.",
            408: "The request arrives too slowly.",
            413: "Too many, too large, or too many pixels.",
            415: "Not an image.",
            422: "An image that cannot be read, or a form without files.",
            500: "Internal error.",
            503: "Too many requests are waiting.",
        }.items()
    }

    @app.post("/predict", response_model_exclude_unset=True, responses=problems)
    async def predict(
        request: Request,
        images: Annotated[list[UploadFile], File(description="One or more images.")] = [],  # noqa: B006 an empty list gets our own error message
    ) -> PredictionsModel:
        """Predict every face of each image, in the given order. 200 if at least one image could be predicted; otherwise the
        status of the first image's error."""
        require_count(len(images), predictor.limits)
        results = [await turns.run(request, partial(_result, predictor, image)) for image in images]
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


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RefusedError)
    results = error.results if isinstance(error, _AllRefusedError) else ()
    return problem(error.status, str(error), error.hint, results)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    """Errors of the framework: an unknown path, a wrong method, a malformed form."""
    assert isinstance(error, HTTPException)
    hint = "send images to POST /predict; /openapi.json describes it"
    return problem(error.status_code, str(error.detail).lower(), hint, headers=error.headers)


async def _client_left(request: Request, error: Exception) -> Response:
    """Nobody receives it."""
    return Response(status_code=499)


async def _invalid_form(request: Request, error: Exception) -> JSONResponse:
    hint = "send multipart/form-data: curl -F images=@image.jpg ADDRESS/predict"
    return problem(422, "images must be files", hint)


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    """The server continues; uvicorn logs the traceback."""
    return problem(500, *INTERNAL_ERROR)


def internal_error(error: Exception) -> FacecadeError:
    """Log an unexpected error's traceback, and return the error that the user sees."""
    note("".join(traceback.format_exception(error)).rstrip())
    return FacecadeError(*INTERNAL_ERROR)
