"""Parser for the losses of a recipe: a weighted sum of named losses with options."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from facecade.base.errors import FacecadeError, excerpt, first_line, unknown_name

MAX_NUMBER = 1000
"""Largest weight of a loss, and of a number among its options."""


@dataclass(frozen=True)
class Term:
    """One named loss of a sum."""

    weight: float
    name: str
    options: Mapping[str, Any]


def parse(text: str) -> list[Term]:
    """The terms of `0.3*ce + 0.7*focal(gamma=2)`.

    Raises:
        FacecadeError: the text is not such a sum.
    """
    try:
        return _sum(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        reason = excerpt(error.msg) if isinstance(error, SyntaxError) else first_line(error)
        raise FacecadeError(
            f"'{excerpt(text)}' is not a loss: {reason}", "write as 0.3*ce + 0.7*focal(gamma=2)"
        ) from None


def _sum(node: ast.expr) -> list[Term]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _sum(node.left) + _sum(node.right)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        weight, loss = node.left, node.right
        if not isinstance(weight, ast.Constant) or not isinstance(weight.value, int | float):
            raise ValueError(f"'{ast.unparse(weight)}' is not a number")
        return [Term(float(weight.value) * term.weight, term.name, term.options) for term in [_loss(loss)]]
    return [_loss(node)]


def _loss(node: ast.expr) -> Term:
    if isinstance(node, ast.Name):
        return Term(1.0, node.id, {})
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
        return Term(1.0, node.func.id, {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords})
    raise ValueError(f"'{ast.unparse(node)}' is not the name of a loss, with or without options")


def check_terms(kind: str, terms: list[Term], losses: Mapping[str, Callable[..., Any]]) -> None:
    """Check that every term is a known loss with known options.

    The options of a loss are its keyword-only parameters with defaults.

    Raises:
        FacecadeError: an unknown loss or option; it names the nearest known one.
    """
    for term in terms:
        if term.name not in losses:
            raise unknown_name(kind, term.name, losses)
        known = options_of(losses[term.name])
        if term.options and not known:
            raise FacecadeError(f"{kind} {term.name} takes no options", f"write {term.name} alone")
        for option, value in term.options.items():
            if option not in known:
                raise unknown_name(f"option of {kind} {term.name}", option, known)
            several = isinstance(known[option], tuple)
            if not (_are_numbers(value) if several else _are_numbers([value])):
                raise FacecadeError(
                    f"{kind} {term.name}: {option} = {excerpt(value)} is no {'list of numbers' if several else 'number'} up to {MAX_NUMBER}",
                    f"for example {option} = {known[option]}",
                )
        if not _are_numbers([term.weight]):
            raise FacecadeError(
                f"{kind} {term.name} has the weight {term.weight:g}", f"give a weight of at most {MAX_NUMBER}"
            )


def _are_numbers(values: object) -> bool:
    """Whether a list has numbers, none of them absurd; nan is."""
    return isinstance(values, tuple | list) and all(
        isinstance(value, int | float) and abs(value) <= MAX_NUMBER for value in values
    )


def options_of(loss: Callable[..., Any]) -> dict[str, Any]:
    """The options of a loss and their defaults."""
    parameters = inspect.signature(loss).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is not p.empty}
