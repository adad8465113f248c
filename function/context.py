"""What a box's surroundings say of it, which the network does not see or does not weigh.

A box that lies in a better one is a part of it, and one that the photo's edge cuts is seldom a
product that people count. A logistic regression over both corrects the scores
([contextual rescoring](https://doi.org/10.1109/TPAMI.2009.167)), and the mean of the boxes that
mean one product lies better than the best of them ([box voting](https://arxiv.org/abs/1505.01749)).
`model.calibrate` fits the weights and writes them into the model's file; a file without them is
served without either. Nothing here does IO.
"""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass

import numpy as np

from function.boxes import Floats, Ints, box_area, box_iou, shared_area

METADATA = "context"  # of the model's file, where the weights are
# What is added up, times a weight each: `score` is the logit of the network's confidence, `held`
# the share of the box that the better one with most of it has, `edge` the distance to the photo's
# nearest edge in sides of the box, up to 1.
TERMS = ("one", "score", "held", "held_score", "edge", "edge_squared")
# Candidates that mean one product: by IoU 0.6 they also lie on its neighbours' edges.
VOTING_IOU = 0.8
BLOCK = 256  # boxes compared with all better ones at a time: 10 MB, not a gigabyte
LEAST = np.float32(1e-6)  # a score of 0 or 1 has no logit, a box without area no share


@dataclass(frozen=True, kw_only=True)
class Context:
    """The weight of each of `TERMS`."""

    weights: tuple[float, ...]

    @classmethod
    def read(cls, text: str) -> Context:
        """Read what `text` writes. Raises `ValueError` for anything else."""
        given = ast.literal_eval(text)
        if not isinstance(given, dict) or set(given) != set(TERMS):
            msg = f"the terms must be {', '.join(TERMS)}"
            raise ValueError(msg)
        weights = tuple(float(given[term]) for term in TERMS)
        if not all(map(math.isfinite, weights)):
            msg = "a weight is not finite"
            raise ValueError(msg)
        return cls(weights=weights)

    def text(self) -> str:
        """Write the weights for the model's metadata, by their terms."""
        return str({term: round(of, 4) for term, of in zip(TERMS, self.weights, strict=True)})

    def rescore(self, xyxy: Floats, confidence: Floats, size: tuple[int, int]) -> Floats:
        """Correct the confidence (n,) of boxes (n, 4), best first, in an image of (width, height).

        What is best need not stay so.
        """
        logit = terms_of(xyxy, confidence, size) @ np.array(self.weights, np.float32)
        rescored: Floats = (1 / (1 + np.exp(-logit))).astype(np.float32)
        return rescored


def terms_of(xyxy: Floats, confidence: Floats, size: tuple[int, int]) -> Floats:
    """Measure `TERMS` (n, 6) of boxes (n, 4), best first, in an image of (width, height)."""
    area = np.maximum(box_area(xyxy), LEAST)
    score = np.clip(confidence, LEAST, 1 - LEAST)
    score = np.log(score / (1 - score))
    held = np.minimum(_held(xyxy) / area, 1)
    left, top, right, bottom = xyxy.T
    away = np.minimum(np.minimum(left, top), np.minimum(size[0] - right, size[1] - bottom))
    edge = np.clip(away / np.sqrt(area), 0, 1)
    terms = (np.ones_like(score), score, held, held * score, edge, edge * edge)
    return np.stack(terms, axis=1).astype(np.float32)


def _held(xyxy: Floats) -> Floats:
    """Measure the most area (n,) that each box, best first, shares with a better one."""
    shared = [np.zeros(0, np.float32)]
    for start in range(0, len(xyxy), BLOCK):
        better = xyxy[: start + BLOCK]
        areas = shared_area(xyxy[start : start + BLOCK, None], better)
        shared.append(np.tril(areas, start - 1).max(axis=1))
    return np.concatenate(shared)


def vote(xyxy: Floats, confidence: Floats, kept: Ints, better: Ints, worse: Ints) -> Floats:
    """Return those kept (k, 4), each the mean of itself and its like, weighed by confidence.

    `better` and `worse` (m,) are the pairs of `suppress`, of which an overlap of 0.8 is a like.
    """
    like = box_iou(xyxy[better], xyxy[worse]) >= VOTING_IOU
    better, worse = better[like], worse[like]
    count, weight = len(xyxy), confidence[worse]
    total = np.bincount(better, weight, count)[kept] + confidence[kept]
    offsets = (xyxy[worse] - xyxy[better]).T * weight
    moved = [np.bincount(better, offset, count)[kept] / total for offset in offsets]
    voted: Floats = (xyxy[kept] + np.stack(moved, axis=1)).astype(np.float32)
    return voted
