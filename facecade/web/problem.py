"""The JSON response of a request that is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.responses import JSONResponse

from facecade.web.schema import ErrorModel, ProblemModel, ResultModel


def problem(
    status: int, message: str, hint: str, results: Sequence[ResultModel] = (), headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """A response with what is wrong and what to do, and the results of single images, if there are any."""
    model = ProblemModel(error=ErrorModel(status=status, message=message, hint=hint), results=list(results))
    return JSONResponse(model.model_dump(exclude_unset=True, mode="json"), status, headers)
