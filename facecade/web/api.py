"""The answers for programs: `POST /predict` with JSON, documented at /openapi.json."""

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
from facecade.web.limits import Limits, RefusedError, require_count, too_large
from facecade.web.predictor import Predictor
from facecade.web.schema import (
    ErrorModel,
    ExplanationModel,
    HealthModel,
    PredictionsModel,
    ProblemModel,
    ResultModel,
)

CRASHED = ErrorModel(
    status=500, message="something went wrong here, not with what was sent", hint="try again; the log has the traceback"
)

OWN_HOST_ALONE = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "connect-src 'self' data: blob:; form-action 'self'; base-uri 'self'; frame-ancestors 'self'"
)
"""What a browser lets the page ask for: nothing but this process, whatever the page's libraries bring."""


def _about(limits: Limits) -> str:
    return f"""Send images, get for every face in them mask, gender and age band with probabilities, the age by both
regressors, what each stage says and what contributed to the prediction. At most {limits.files} images a request, each of at most
{limits.megabytes:g} MB and {limits.pixels:,} pixels.

`curl -F images=@one.jpg -F images=@two.jpg ADDRESS/predict`"""


def make_api(predictor: Predictor, version: str) -> FastAPI:
    """The application, without its page. Swagger's page would be fetched from elsewhere: there is /openapi.json alone."""
    app = FastAPI(
        title="Facecade", version=version, description=_about(predictor.limits), docs_url=None, redoc_url=None
    )
    app.add_middleware(Bounded, limits=predictor.limits)
    app.add_exception_handler(Exception, _crashed)
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(HTTPException, _other)
    app.add_exception_handler(RequestValidationError, _no_files)
    problems: dict[int | str, dict[str, Any]] = {
        status: {"model": ProblemModel, "description": meaning}
        for status, meaning in {
            400: "No image was given.",
            413: "Too many, too large, or too many pixels.",
            415: "No image.",
            422: "An image that cannot be read, or a form that holds no files.",
            500: "Something went wrong here.",
        }.items()
    }

    @app.post("/predict", response_model_exclude_unset=True, responses=problems)
    def predict(
        images: Annotated[list[UploadFile], File(description="One image or several.")] = [],  # noqa: B006 that none is given is said in words
    ) -> PredictionsModel:
        """Answer for every face of each image, in the order given. 200 where at least one could be answered for; where none
        could, the status of the first."""
        require_count(len(images), predictor.limits)
        results = [_result(predictor, image) for image in images]
        refused = [result.error for result in results if result.error]
        if len(refused) == len(results):
            raise _AllRefusedError(refused[0], results)
        return PredictionsModel(results=results)

    @app.get("/health")
    async def health() -> HealthModel:
        """Whether the process is up; answered while networks are at work, too."""
        limits = predictor.limits
        return HealthModel(
            status="ok",
            megabytes=limits.megabytes,
            pixels=limits.pixels,
            files=limits.files,
            attention=predictor.maps is not None,
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
            raise too_large(upload.size or 0, predictor.limits)
        with tempfile.NamedTemporaryFile(prefix="facecade-") as file:
            shutil.copyfileobj(upload.file, file)
            file.flush()
            explanation = predictor(Path(file.name), name).explanation
    except RefusedError as error:
        return ResultModel(name=name, error=_said(error))
    return ResultModel(name=name, explanation=ExplanationModel.model_validate(explanation.json()))


def _said(error: RefusedError) -> ErrorModel:
    return ErrorModel(status=error.status, message=str(error), hint=error.hint)


def _problem(error: ErrorModel, results: list[ResultModel] | None = None) -> JSONResponse:
    said = ProblemModel(error=error, results=results or [])
    return JSONResponse(said.model_dump(exclude_unset=True, mode="json"), error.status)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RefusedError)
    return _problem(_said(error), error.results if isinstance(error, _AllRefusedError) else None)


async def _other(request: Request, error: Exception) -> JSONResponse:
    """What the framework refuses: another path, another method, a broken form."""
    assert isinstance(error, HTTPException)
    hint = "POST /predict takes images; /openapi.json describes it"
    return _problem(ErrorModel(status=error.status_code, message=str(error.detail).lower(), hint=hint))


async def _no_files(request: Request, error: Exception) -> JSONResponse:
    hint = "send multipart/form-data: curl -F images=@image.jpg ADDRESS/predict"
    return _problem(ErrorModel(status=422, message="images must be files", hint=hint))


async def _crashed(request: Request, error: Exception) -> JSONResponse:
    """The process goes on; its log gets the traceback, from the server."""
    return _problem(CRASHED)


def crash(error: Exception) -> FacecadeError:
    """A failure that is nobody's mistake, for a person who cannot see the log; the log gets its traceback."""
    note("".join(traceback.format_exception(error)).rstrip())
    return FacecadeError(CRASHED.message, CRASHED.hint)


class Bounded:
    """Refuses requests that are too large, while they come, and tells browsers to ask nobody else for anything."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app, self.most = app, limits.request_bytes
        self.refusal = RefusedError(
            413,
            f"the request is too large: over {self.most / 2**20:.0f} MB",
            f"at most {limits.files} images of {limits.megabytes:g} MB",
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.most:
            await _problem(_said(self.refusal))(scope, receive, send)
            return
        await self.app(scope, self._counted(receive), _guarded(send))

    def _counted(self, receive: Receive) -> Receive:
        """What is received, until it is too much: a request need not tell its length, or tell it truly."""
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self.most:
                raise HTTPException(413, str(self.refusal))
            return message

        return counted


def _guarded(send: Send) -> Callable[[Message], Awaitable[None]]:
    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            told = [(b"content-security-policy", OWN_HOST_ALONE.encode()), (b"x-content-type-options", b"nosniff")]
            message = {**message, "headers": [*message["headers"], *told]}
        await send(message)

    return guarded
