"""What a box's surroundings say of it, which the network does not see or does not weigh.

A box that lies in a better one is a part of it, and one that the photo's edge cuts is seldom a
product that people count. A logistic regression over both corrects the scores
([contextual rescoring](https://doi.org/10.1109/TPAMI.2009.167)), and the mean of the boxes that
mean one product lies better than the best of them ([box voting](https://arxiv.org/abs/1505.01749)).
`model.calibrate` fits the weights and writes them into the model's file; a file without them is
served without either. Nothing here does IO.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy as np

from function.boxes import Floats, Ints, Real, apart_by_class, box_area, shared_with_better

METADATA = "context"  # of the model's file, where the weights are
# What is added up, times a weight each: `score` is the logit of the network's confidence, `held`
# the share of the box that the better one with most of it has, `edge` the distance to the photo's
# nearest edge in sides of the box, up to 1.
TERMS = ("one", "score", "held", "held_score", "edge", "edge_squared")
SHOWN = 200  # characters of wrong metadata
MOST_WEIGHT = 1000  # what a fit has none of; more is infinite in the sum
# Candidates that mean one product: by IoU 0.6 they also lie on its neighbours' edges.
VOTING_IOU = 0.8
LEAST = np.float32(1e-6)  # a score of 0 or 1 has no logit, a box without area no share

# The left, top, right and bottom edge of a photo, in the pixels that boxes are in.
Bounds = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Context:
    """The weight of each of `TERMS`."""

    weights: tuple[float, ...]

    @classmethod
    def read(cls, text: str) -> Context:
        """Read what `text` writes. Raises `ValueError` for anything else."""
        given = json.loads(text)
        if not isinstance(given, dict) or set(given) != set(TERMS):
            msg = f"the terms must be {', '.join(TERMS)}, got {text[:SHOWN]!r}"
            raise ValueError(msg)
        weights = [given[term] for term in TERMS]
        if not all(type(of) in (int, float) and abs(of) <= MOST_WEIGHT for of in weights):
            allowed = f"a number from -{MOST_WEIGHT} to {MOST_WEIGHT}"
            msg = f"each weight must be {allowed}, got {text[:SHOWN]!r}"
            raise ValueError(msg)
        if given["score"] <= 0 or given["score"] + given["held_score"] <= 0:
            msg = f"`score` must be above 0, also with `held_score`, got {text[:SHOWN]!r}"
            raise ValueError(msg)
        return cls(weights=tuple(map(float, weights)))

    def text(self) -> str:
        """Write the weights for the model's metadata, by their terms."""
        return json.dumps(
            {term: round(of, 4) for term, of in zip(TERMS, self.weights, strict=True)}
        )

    def rescore(self, xyxy: Floats, confidence: Floats, class_id: Ints, bounds: Bounds) -> Floats:
        """Correct the confidence (n,) of boxes (n, 4), best first, in a photo of those bounds.

        What is best need not stay so.
        """
        terms = terms_of(xyxy, confidence, class_id, bounds)
        return sigmoid(terms @ np.array(self.weights, np.float32))

    def least(self, confidence: float) -> float:
        """Say which score of the network may become a confidence, wherever the box lies."""
        one, score, held, held_score, edge, squared = self.weights
        # The sum is a parabola over `edge` and a line over `held`: most is at an end or on top.
        top = -edge / (2 * squared) if squared else 0
        at_edge = max(edge * at + squared * at * at for at in (0, 1, min(max(top, 0), 1)))
        wanted = logit(confidence) if confidence < 1 else math.inf
        alone = (wanted - one - at_edge) / score
        in_another = (wanted - one - at_edge - held) / (score + held_score)
        return float(sigmoid(np.array(min(alone, in_another))))


def logit(score: float) -> float:
    """Return the number whose sigmoid is `score`."""
    return math.log(score / (1 - score))


def sigmoid(logits: Real) -> Real:
    """Turn logits (...) into scores from 0 to 1."""
    scores: Real = np.asarray(1 / (1 + np.exp(-np.clip(logits, -50, 50))), logits.dtype)
    return scores


ALONE = Context(weights=tuple(float(term == "score") for term in TERMS))  # it leaves the scores


def terms_of(xyxy: Floats, confidence: Floats, class_id: Ints, bounds: Bounds) -> Floats:
    """Measure `TERMS` (n, 6) of boxes (n, 4), best first, in a photo of those bounds."""
    area = np.maximum(box_area(xyxy), LEAST)
    score = np.clip(confidence, LEAST, 1 - LEAST)
    score = np.log(score / (1 - score))
    own = apart_by_class(xyxy, class_id)  # a box is held by one of its class
    shared = [areas.max(axis=1) for _, areas in shared_with_better(own)]
    held = np.minimum(np.concatenate([score[:0], *shared]) / area, 1)
    left, top, right, bottom = xyxy.T
    away = np.minimum.reduce(
        (left - bounds[0], top - bounds[1], bounds[2] - right, bounds[3] - bottom)
    )
    edge = np.clip(away / np.sqrt(area), 0, 1)
    terms = (np.ones_like(score), score, held, held * score, edge, edge * edge)
    return np.stack(terms, axis=1).astype(np.float32)


def vote(xyxy: Floats, confidence: Floats, kept: Ints, better: Ints, worse: Ints) -> Floats:
    """Return those kept (k, 4), each the mean of itself and its like, weighed by confidence.

    `better` and `worse` (m,) are the pairs that are alike.
    """
    count, weight = len(xyxy), confidence[worse]
    total = np.bincount(better, weight, count)[kept] + confidence[kept]
    offsets = (xyxy[worse] - xyxy[better]).T * weight
    moved = [np.bincount(better, offset, count)[kept] / total for offset in offsets]
    voted: Floats = (xyxy[kept] + np.stack(moved, axis=1)).astype(np.float32)
    return voted
