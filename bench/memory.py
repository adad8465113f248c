"""Whether the server's memory grows: after 100 pictures, and after 10 000.

The detector is a stand-in that answers at once what the shipped model once did, so that everything
but the inference runs (bodies, decoding, resizing, NMS, rows, JSON) thousands of times in minutes.
An inference takes no more memory than that of the model's largest sides, which the warm-up runs on.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench.contenders import OUR_HTTP, Server, resident_mib, running_server
from bench.results import Part, plot, quiet, table
from function.detector import Detector
from function.image import read_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CLIENTS = 2
# Pictures of each size in a hundred: most cameras are fixed and small.
MIX = {"640 px": 88, "2 MP": 10, "12 MP": 2}


def write_stand_in(path: Path, model: Path, picture: bytes) -> Path:
    """Write a model that answers at once what `model` says of the picture."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    detector = Detector.load(model)
    tensor, _ = detector.preprocess(read_image(picture, detector.model.input_size))
    output = detector.session.run(None, {detector.model.input_name: tensor})[0]
    nodes = [
        helper.make_node("Shape", ["pixels"], ["size"]),  # so that the input is used
        helper.make_node("Constant", [], ["value"], value=numpy_helper.from_array(output)),
        helper.make_node("Identity", ["value"], ["output0"]),
    ]
    graph = helper.make_graph(
        nodes,
        "stand-in",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, tensor.shape)],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, output.shape)],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(made, {"names": str(detector.model.names)})
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(made, path)
    return path


def measure_memory(
    part: Part, model: Path, pictures: dict[str, list[Path]], images: int
) -> dict[str, object]:
    """Post `images` pictures from several clients, and note the server's memory on the way."""
    assert sum(MIX.values()) == 100
    data = {size: paths[0].read_bytes() for size, paths in pictures.items()}
    bag = [data[size] for size, count in MIX.items() for _ in range(count)]
    random.Random(1).shuffle(bag)
    stand_in = write_stand_in(part.folder / "models" / "stand-in.onnx", model, bag[0])
    marks = sorted({100, *range(images // 20, images + 1, images // 20)})
    seen: list[tuple[int, float]] = []
    with running_server(OUR_HTTP, stand_in, part.folder / "logs") as server:
        started, done = time.perf_counter(), 0
        for mark in marks:
            _post(server, bag, mark - done)
            done = mark
            seen.append((mark, resident_mib(server.processes())))
        seconds = time.perf_counter() - started
    early, late, rate = dict(seen)[100], seen[-1][1], f"{images / seconds:.0f}"
    raw: dict[str, object] = {"seen": seen, "seconds": seconds, "mix": MIX, "clients": CLIENTS}
    head = ["images", "RSS after 100, MiB", f"after {images}, MiB", "ratio", "images/s"]
    row = [images, f"{early:.0f}", f"{late:.0f}", f"{late / early:.3f}", rate]
    part.write(raw, table(head, [row]))
    plot(part.folder / f"{part.name}.png", lambda axes: _draw(axes[0], seen))
    return raw


def _post(server: Server, bag: list[bytes], count: int) -> None:
    """Post pictures from several clients at once, each on a connection of its own."""
    turns = itertools.count()
    failed: list[object] = []

    def client() -> None:
        own = Server(server.child, server.port, server.boxes)
        while (number := next(turns)) < count and not failed:
            status, body = own.post(bag[number % len(bag)])
            if status != 200:
                failed.append((status, body[:200]))

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        msg = f"The server answered {failed[0]}"
        raise RuntimeError(msg)


def _draw(axis: Axes, seen: list[tuple[int, float]]) -> None:
    axis.plot([mark for mark, _ in seen], [mib for _, mib in seen], "o-", markersize=3)
    axis.set_ylim(bottom=0)
    axis.set_xlabel("images")
    axis.set_ylabel("RSS, MiB")
    quiet(axis)
