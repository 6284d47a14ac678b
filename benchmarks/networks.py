"""Parameters, GMACs, speed and memory of the networks on this machine.

python benchmarks/networks.py [PRESET ...] [--size 256] [--rounds 5] [--operators]
                              [--record]

Every network is a process; they run in turns, so that rows can be compared. The single
image that `restore` makes (folded heads, no TLC) is timed in TensorFlow, its GMACs are
counted in the graph. `--operators` lists the time of every kind of operation instead.
`--record` writes the row into the preset's metadata.json, for `mhdeblur presets`.
"""

import argparse
import collections
import json
import math
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

PRESETS = (
    "nafnet_mh_c_width32",
    "restormer_mh_c_width48",
    "hinet_mh_c_width64",
    "mprnet_mh_c_width96",
    "xydeblur_mh_c_width32",
)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("presets", nargs="*", default=PRESETS)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--operators", action="store_true")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work(options.presets[0], options.size)
    if options.operators:
        return [operators(name, options.size) for name in options.presets]
    workers = {name: start(name, options.size) for name in options.presets}
    if options.record and options.size != 256:
        parser.error("--record needs --size 256")
    found = {
        name: json.loads(worker.stdout.readline()) for name, worker in workers.items()
    }
    seconds = collections.defaultdict(list)
    for _ in range(options.rounds):
        for name, worker in workers.items():
            seconds[name].append(float(ask(worker, "time")))
    print(f"1x{options.size}x{options.size}x3, median of {options.rounds}")
    print(
        f"{'preset':26}{'parameters':>13}{'GMAC':>8}{'ms':>9}{'GMAC/s':>9}{'s/Mpx':>8}{'MB/Mpx':>8}"
    )
    for name, worker in workers.items():
        ms = 1e3 * sorted(seconds[name])[options.rounds // 2]
        macs, parameters = found[name]["macs"], found[name]["parameters"]
        second = ms / 1e3 / (options.size**2 / 1e6)
        memory = float(ask(worker, "memory")) / (options.size**2 / 1e6)
        print(
            f"{name:26}{parameters:13,}{macs / 1e9:8.2f}{ms:9.1f}"
            f"{macs / ms / 1e6:9.1f}{second:8.2f}{memory:8.0f}"
        )
        worker.stdin.close()
        if options.record:
            record(name, macs, second, memory)


def record(name, macs, seconds, megabytes):
    from keras_mhdeblur import presets

    cost = {
        "gmacs_256": round(macs / 1e9, 2),
        "seconds_per_megapixel": float(f"{seconds:.3g}"),
        "megabytes_per_megapixel": round(megabytes),
        "cpu_cores": os.cpu_count(),
    }
    presets.update_metadata(presets.find_preset(name), cost=cost)


def start(name, size):
    command = [sys.executable, __file__, name, "--worker", "--size", str(size)]
    pipes = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.DEVNULL,
    }
    return subprocess.Popen(command, text=True, bufsize=1, **pipes)


def ask(worker, question):
    print(question, file=worker.stdin, flush=True)
    return worker.stdout.readline()


def graph(name, size):
    """The traced function of one restored image, and the number of parameters."""
    import numpy as np
    import tensorflow as tf

    import keras_mhdeblur as mhd

    model = mhd.from_preset(name, load_weights=False)
    heads = model.num_heads
    network = model.network.with_folded_heads(np.full(heads, 1 / heads))
    image = tf.constant(np.random.default_rng(0).random((1, size, size, 3), "float32"))
    function = tf.function(lambda x: network(x, training=False))
    return function.get_concrete_function(image), image, model.count_params()


def work(name, size):
    function, image, parameters = graph(name, size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    function(image)
    print(
        json.dumps({"macs": count_macs(function), "parameters": parameters}), flush=True
    )
    for question in sys.stdin:
        if question.strip() == "memory":
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            print((peak - before) / 1024, flush=True)
            continue
        begin = time.perf_counter()
        function(image)
        print(time.perf_counter() - begin, flush=True)


def count_macs(function):
    """Multiplications of convolutions and matrix products in a graph."""
    total = 0
    for operation in function.graph.get_operations():
        shapes = [tensor.shape for tensor in operation.inputs]
        output = operation.outputs[0].shape if operation.outputs else None
        if operation.type == "Conv2D":
            total += math.prod(output) * math.prod(shapes[1][:3])
        elif operation.type == "DepthwiseConv2dNative":
            total += math.prod(output) * math.prod(shapes[1][:2])
        elif operation.type == "Conv2DBackpropInput":  # transposed convolution
            total += math.prod(shapes[2]) * math.prod(shapes[1][:3])
        elif operation.type in ("MatMul", "BatchMatMulV2"):
            flipped = operation.get_attr(
                "transpose_a" if operation.type == "MatMul" else "adj_x"
            )
            total += math.prod(output) * shapes[0][-2 if flipped else -1]
    return total


def operators(name, size):
    """Prints the time of every kind of operation, of TensorFlow's own trace."""
    import tensorflow as tf

    function, image, _ = graph(name, size)
    function(image)
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            for _ in range(3):
                function(image)
        milliseconds = by_operation(folder)
    print(name)
    for kind, value in milliseconds.most_common(12):
        print(f"    {kind:28}{value / 3:9.1f} ms")


def by_operation(folder):
    """Milliseconds of every kind of operation in a folder of profiles."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    found = collections.Counter()
    for path in pathlib.Path(folder).rglob("*.xplane.pb"):
        space = xplane_pb2.XSpace.FromString(path.read_bytes())
        for plane in space.planes:
            for line in plane.lines:
                for event in line.events:
                    name = plane.event_metadata[event.metadata_id].name
                    kind = name.rpartition(":")[2] if ":" in name else ""
                    if kind and "/" in name:
                        found[kind] += event.duration_ps / 1e9
    return found


if __name__ == "__main__":
    main()
