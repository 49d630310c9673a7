"""What a report says first: the score, the weakest class, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping

from facecade.faces.labels import class_name
from facecade.report.evaluate import Evaluation
from facecade.report.nested import NestedPredictions

FEW_PEOPLE = 20
"""People of a class below which more of them are the first thing to add: networks learn people, not images."""

ADVICE = {
    "mask accuracy": "look at the masks first: run audit, and check how incorrectly worn masks are labelled",
    "gender accuracy": "look at the genders first: run audit, which lists people whose recorded gender is doubtful",
    "band accuracy": "work on ages first: run audit for wrong ages, then add people near 30 and 60 years, the edges of the bands",
}
"""What to do where an axis has the lowest accuracy."""


def verdict(nested: NestedPredictions, evaluation: Evaluation | None) -> list[str]:
    """About three sentences: what to expect of new people, what is weakest, and what to do first.

    Args:
        evaluation: of predictions of the same run, if there is one.
    """
    choice = nested.combiner.nested_choice
    score = f"On new people, expect a macro-F1 of {_in_words(choice['macro-F1'])} and an accuracy of {_in_words(choice['accuracy'])}."
    if evaluation:
        counted = evaluation.counted("other ")
        score += f" On {counted} macro-F1 was {_in_words(evaluation.score['macro-F1'])}."
    known = {label: f1 for label, f1 in enumerate(nested.combiner.per_class_f1) if f1 is not None}
    people = {label: nested.table["person"][nested.label == label].nunique() for label in known}
    axis = min(ADVICE, key=lambda name: choice[name]["value"])
    names = ", ".join(
        f"{name.removesuffix(' accuracy')} {choice[name]['value']:.3f}" for name in ADVICE if name != axis
    )
    axes = f"of mask, gender and band, {axis.removesuffix(' accuracy')} is right least often ({choice[axis]['value']:.3f}; {names})"
    if not known:
        return [score, f"{axes[:1].upper()}{axes[1:]}.", f"{ADVICE[axis][:1].upper()}{ADVICE[axis][1:]}."]
    weakest = min(known, key=lambda label: (known[label], people[label]))
    weak = f"The weakest class is {weakest}, {class_name(weakest)} (F1 {known[weakest]:.2f}, {people[weakest]} people); {axes}."
    if people[weakest] < FEW_PEOPLE:
        advice = f"Add people of {class_name(weakest)} first: {people[weakest]} are too few to learn from; then {ADVICE[axis].replace(' first:', ':')}."
    else:
        advice = f"{ADVICE[axis][:1].upper()}{ADVICE[axis][1:]}."
    return [score, weak, advice]


def _in_words(value: Mapping[str, float]) -> str:
    """A score with its interval."""
    return f"{value['value']:.3f} (95 % interval {value['low']:.3f} to {value['high']:.3f})"
