"""A detector behind FastAPI as tutorials write it: decode, resize, divide, run, NMS, a dict.

    MODEL=float.onnx uvicorn bench.plain_server:app

Nobody's code in particular. Where tutorials loop over the 8 400 candidates in Python, which takes
longer than the model, this one uses NumPy and OpenCV's NMS: a careful version of them.
"""

from __future__ import annotations

import os
from typing import Annotated

import cv2
import numpy as np
import onnxruntime as ort
from fastapi import FastAPI, File

app = FastAPI()
session = ort.InferenceSession(os.environ["MODEL"], providers=["CPUExecutionProvider"])
input_name = session.get_inputs()[0].name
SIZE = session.get_inputs()[0].shape[2]  # square, as exports are unless told otherwise


@app.post("/predict")  # type: ignore[untyped-decorator]  # of a package that the bench alone has
def predict(file: Annotated[bytes, File()]) -> dict[str, object]:
    """Answer with the boxes of one picture."""
    image = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)
    height, width = image.shape[:2]
    resized = cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), (SIZE, SIZE))
    tensor = (resized.astype(np.float32) / 255.0).transpose(2, 0, 1)[None]
    output = session.run(None, {input_name: tensor})[0][0].T
    scores = output[:, 4:].max(axis=1)
    output, scores = output[scores > 0.25], scores[scores > 0.25]
    centre, size = output[:, :2], output[:, 2:4]
    boxes = np.hstack((centre - size / 2, size)) * np.array([width, height] * 2) / SIZE
    kept = cv2.dnn.NMSBoxes(boxes.tolist(), scores.tolist(), 0.25, 0.6)
    return {
        "detections": [
            {"box": boxes[i].tolist(), "confidence": float(scores[i]), "label": "product"}
            for i in np.array(kept).flatten()
        ]
    }
