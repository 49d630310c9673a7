"""Which way of combining is best, by nested score; and keeping it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from facecade.base.artifact import read_arrays, read_json, write_arrays, write_atomic, write_json
from facecade.base.seeding import derive
from facecade.combiner.decision import NO_WEIGHTS, decide, fit_weights, lead, scores
from facecade.combiner.features import Voices
from facecade.combiner.meta import Boosted
from facecade.combiner.nested import Candidate, Nested, Rule, nested, select
from facecade.combiner.rules import AsTrained, HardCascade, LogisticStack, SoftVote
from facecade.recipe import Combiner
from facecade.report.metrics import confusion, macro_f1

RULES: dict[str, Any] = {
    "plain": AsTrained,
    "hard": HardCascade,
    "soft": SoftVote,
    "logistic": LogisticStack,
    "boosted": Boosted,
}


@dataclass(frozen=True)
class Way:
    """A way to combine: its rule, the embeddings it sees (`none`, `raw`, `aligned`), and whether
    decision weights follow."""

    rule: str
    embedding: str
    weighted: bool


WAYS = {
    "as trained": Way("plain", "none", False),
    "as trained + decision rule": Way("plain", "none", True),
    "hard cascade": Way("hard", "none", False),
    "soft vote": Way("soft", "none", False),
    "soft vote + decision rule": Way("soft", "none", True),
    "logistic regression + decision rule": Way("logistic", "none", True),
    "XGBoost, logits": Way("boosted", "none", False),
    "XGBoost, logits + decision rule": Way("boosted", "none", True),
    "XGBoost, raw embeddings + decision rule": Way("boosted", "raw", True),
    "XGBoost, aligned embeddings": Way("boosted", "aligned", False),
    "XGBoost, aligned embeddings + decision rule": Way("boosted", "aligned", True),
}
"""Everything compared, of what the stages allow. Raw embeddings are here to be measured, and are never chosen."""

GRADED = ("soft", "logistic", "boosted")
"""Rules whose probabilities tell how near an answer is to another; the others jump at a cut."""

UNSTACKED = {"as trained": "as-trained", "hard cascade": "hard-cascade"}
"""Ways that stack nothing, with the folder where each is kept beside the best: what a comparison sets against it."""


def ways_for(voices: Voices) -> dict[str, Way]:
    """The ways that these voices allow: without years there is no cascade, without classes nothing to take as it is."""
    possible = {"plain": AsTrained.knows(voices), "hard": HardCascade.knows(voices)}
    return {name: way for name, way in WAYS.items() if possible.get(way.rule, True)}


@dataclass(frozen=True)
class Combination:
    """A fitted way: voices of N rows → probabilities (N, 18) and answers (N,)."""

    name: str
    rule: Rule
    weights: np.ndarray

    def __call__(self, voices: Voices) -> tuple[np.ndarray, np.ndarray]:
        probability = self.rule.probability(self.hears(voices))
        return probability, decide(probability, self.weights)

    def hears(self, voices: Voices) -> Voices:
        """What the rule is told of the voices: all, or the logits alone."""
        return voices if WAYS[self.name].embedding == "aligned" else voices.without_embedding()

    @property
    def graded(self) -> bool:
        """Whether the probabilities tell how near an answer is to another."""
        return WAYS[self.name].rule in GRADED

    def lead(self, voices: Voices) -> np.ndarray:
        """How far each answer is ahead of the next class, in nats, float (N,)."""
        return lead(self(voices)[0], self.weights)

    def scores(self, voices: Voices) -> np.ndarray:
        """What the answer is the largest of, in nats, (N, 18)."""
        return scores(self(voices)[0], self.weights)


def _fitter(rule: str, settings: Combiner, seed: int) -> Callable[[Voices, np.ndarray], Rule]:
    if rule == "boosted":
        return partial(Boosted.fit, settings=settings, seed=derive(seed, "xgboost") % 2**31)
    return RULES[rule].fit  # type: ignore[no-any-return]


def compare(
    aligned: Voices,
    raw: Voices,
    label: np.ndarray,
    fold: np.ndarray,
    settings: Combiner,
    seed: int,
    advance: Callable[[], None] = lambda: None,
) -> tuple[dict[str, Nested], np.ndarray]:
    """Nested results of every way, and of choosing among them inside the folds.

    Args:
        aligned, raw: out-of-fold voices of the same N rows; they differ in their embeddings alone.

    Returns:
        A result for each of WAYS, and the answers (N,) of the nested choice.
    """
    seen = {"aligned": aligned, "raw": raw, "none": aligned.without_embedding()}
    fitted: dict[tuple[str, str], dict[bool, Nested]] = {}
    results = {}
    for name, way in ways_for(aligned).items():
        if (way.rule, way.embedding) not in fitted:
            candidate = Candidate(_fitter(way.rule, settings, seed), seen[way.embedding])
            fitted[way.rule, way.embedding] = nested(candidate, label, fold, advance)
        results[name] = fitted[way.rule, way.embedding][way.weighted]
    eligible = {name: result for name, result in results.items() if WAYS[name].embedding != "raw"}
    return results, select(eligible, fold)


def best_way(results: dict[str, Nested], label: np.ndarray) -> str:
    """The eligible way with the highest nested macro-F1; among equals the first, which is the simplest."""
    scores = {
        name: float(macro_f1(confusion(label, result.answer)))
        for name, result in results.items()
        if WAYS[name].embedding != "raw"
    }
    return max(scores, key=lambda name: scores[name])


def finish(name: str, result: Nested, aligned: Voices, label: np.ndarray, settings: Combiner, seed: int) -> Combination:
    """Fit a way on all rows; its decision weights come from its out-of-fold probabilities."""
    way = WAYS[name]
    seen = aligned if way.embedding == "aligned" else aligned.without_embedding()
    weights = fit_weights(result.probability, label) if way.weighted else NO_WEIGHTS
    return Combination(name, _fitter(way.rule, settings, seed)(seen, label), weights)


def save(folder: Path, combination: Combination, record: dict[str, Any]) -> None:
    """Keep a combination: rule.npz, model.ubj where there are trees, meta.json last."""
    (folder / "meta.json").unlink(missing_ok=True)
    write_arrays(folder / "rule.npz", combination.rule.arrays())
    if isinstance(combination.rule, Boosted):
        write_atomic(folder / "model.ubj", combination.rule.booster.save_model)
    write_json(folder / "meta.json", {**record, "way": combination.name, "decision_weights": combination.weights})


def load(folder: Path) -> tuple[Combination, dict[str, Any]]:
    """A kept combination and its record."""
    record = read_json(folder / "meta.json")
    arrays = read_arrays(folder / "rule.npz")
    rule = WAYS[record["way"]].rule
    fitted = Boosted.load(arrays, folder / "model.ubj") if rule == "boosted" else RULES[rule].load(arrays)
    return Combination(record["way"], fitted, np.array(record["decision_weights"])), record
