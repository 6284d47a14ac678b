"""Parameters, GMACs, speed and memory of the networks, by engine, on this machine.

python benchmarks/inference.py [PRESET ...] [--engines keras litert ...] [--size 256]
    [--threads N] [--rounds 5] [--torch PRESET=FILE.py:CALLABLE ...] [--record]
python benchmarks/inference.py PRESET --operators

Every engine and network is a process of its own; they run in turns, so that rows can be
compared. The mean of the hypotheses (folded heads, no TLC) is timed on the photo that
comes with the package; its GMACs are counted in TensorFlow's graph. "of
peak" is the share of what a large float32 matrix product reaches in the same run, "dB"
the PSNR of an engine's image to Keras'. Presets without weights have random ones.
PRESET@N is a preset whose network ends after N stages, as maxim_mh_c@1.

`--torch` times a PyTorch network beside a preset: FILE.py, for example in a checkout of
an official code, has a CALLABLE that returns the module.
`--record` writes the row of LiteRT into the preset's metadata.json, for
`mhdeblur presets`; take `--size 1024`, which is about a megapixel. `--operators` lists
the time of every kind of TensorFlow operation.
"""

import argparse
import collections
import json
import math
import os
import pathlib
import resource
import runpy
import sys
import tempfile
import time

import numpy as np
import worker
from PIL import Image
from worker import answer

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

PRESETS = (
    "nafnet_mh_c_width32",
    "restormer_mh_c_width48",
    "hinet_mh_c_width64",
    "mprnet_mh_c_width96",
    "xydeblur_mh_c_width32",
)
SUFFIXES = {
    "keras": None,
    "litert": ".tflite",
    "onnx": ".onnx",
    "openvino": ".xml",
    "openvino-bf16": ".xml",
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("presets", nargs="*", default=PRESETS)
    add("--engines", nargs="+", choices=SUFFIXES, default=["keras", "litert"])
    add("--size", type=int, default=256)
    add("--threads", type=int, default=os.cpu_count())
    add("--rounds", type=int, default=5)
    add("--torch", nargs="+", default=[], metavar="PRESET=FILE.py:CALLABLE")
    add("--record", action="store_true")
    add("--operators", action="store_true")
    add("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.record and "litert" not in options.engines:
        parser.error("--record needs the engine litert")
    if options.worker:
        return work(*options.worker.split("|"), options.size, options.threads)
    if options.operators:
        return [operators(name, options.size) for name in options.presets]
    with tempfile.TemporaryDirectory() as folder:
        compare(options, folder)


def compare(options, folder):
    jobs, networks = [], {}
    for name in options.presets:
        engines = ",".join(options.engines)
        with Engine("prepare", name, f"{folder}|{engines}", options) as process:
            networks[name] = json.loads(process.answer())
        for engine in options.engines:
            path = f"{folder}/{name}{SUFFIXES[engine]}"
            jobs.append((name, engine, path if SUFFIXES[engine] else name))
    for entry in options.torch:
        name, _, source = entry.partition("=")
        jobs.append((name, "torch", source))
    seconds, memory, images = collections.defaultdict(list), {}, {}
    # One network at a time: the engines share its turns, and memory.
    for name in options.presets:
        workers = {
            engine: Engine(engine, name, source, options)
            for job, engine, source in jobs
            if job == name
        }
        workers["peak"] = Engine("peak", name, "-", options)
        for process in workers.values():
            process.answer()
        for _ in range(options.rounds):
            for engine, process in workers.items():
                seconds[name, engine].append(float(process.ask("time")))
        for engine, process in workers.items():
            memory[name, engine] = float(process.ask("memory"))
            if engine not in ("peak", "torch"):
                path = f"{folder}/{engine}.npy"
                process.ask(f"save {path}")
                images[name, engine] = np.load(path)
            process.close()
    print(
        f"1x{options.size}x{options.size}x3, {options.threads} threads, median of "
        f"{options.rounds}"
    )
    print(
        f"{'preset':24}{'engine':>14}{'parameters':>13}{'GMAC':>8}{'ms':>9}"
        f"{'GMAC/s':>9}{'of peak':>9}{'s/Mpx':>8}{'MB/Mpx':>8}{'dB':>7}"
    )
    middle = options.rounds // 2
    megapixels = options.size**2 / 1e6
    for name, engine, _ in jobs:
        second = sorted(seconds[name, engine])[middle]
        peak = PEAK_MACS / sorted(seconds[name, "peak"])[middle]
        macs, parameters = networks[name]["macs"], networks[name]["parameters"]
        per_megapixel = memory[name, engine] / megapixels
        print(
            f"{name:24}{engine:>14}{parameters:13,}{macs / 1e9:8.2f}"
            f"{1e3 * second:9.1f}{macs / second / 1e9:9.1f}{macs / second / peak:9.0%}"
            f"{second / megapixels:8.2f}{per_megapixel:8.0f}"
            f"{closeness(images, name, engine):>7}"
        )
        if options.record and engine == "litert":
            macs_256 = macs * (256 / options.size) ** 2
            record(name, macs_256, second / megapixels, per_megapixel, options.threads)


def closeness(images, name, engine):
    """PSNR of an engine's image to that of Keras, in words."""
    if engine == "keras" or not {(name, engine), (name, "keras")} <= set(images):
        return ""
    difference = images[name, engine] - images[name, "keras"]
    return f"{-10 * np.log10(np.maximum(np.square(difference).mean(), 1e-20)):.1f}"


def record(name, macs_256, seconds, megabytes, cores):
    from keras_mhdeblur import presets

    cost = {
        "gmacs_256": round(macs_256 / 1e9, 2),
        "seconds_per_megapixel": float(f"{seconds:.3g}"),
        "megabytes_per_megapixel": round(megabytes),
        "cpu_cores": cores,
    }
    presets.update_metadata(presets.find_preset(name), cost=cost)


class Engine(worker.Worker):
    """A process that runs one network in one engine when it is asked to."""

    def __init__(self, engine, name, source, options):
        arguments = [__file__, "--worker", f"{engine}|{name}|{source}"]
        arguments += ["--size", str(options.size), "--threads", str(options.threads)]
        super().__init__(arguments, options.threads)
        self.job = f"{engine}|{name}"

    def answer(self):
        found = super().answer()
        if found is None:
            raise SystemExit(f"{self.job} failed")
        return found


def work(engine, name, source, *rest):
    if engine == "prepare":
        engines, size, threads = rest
        return answer(prepare(name, source, engines.split(","), size))
    size, threads = rest
    image = photo(size)
    run = RUNNERS[engine](source, image, threads)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run()
    answer("ready")
    for question in sys.stdin:
        if question.strip() == "memory":
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            answer((peak - before) / 1024)
            continue
        if question.startswith("save "):
            np.save(question[5:].strip(), first_image(run()))
            answer("saved")
            continue
        begin = time.perf_counter()
        run()
        answer(time.perf_counter() - begin)


def photo(size):
    """The package's photo, mirrored to a size: (1, size, size, 3) in [0, 1]."""
    path = pathlib.Path(__file__).parents[1] / "keras_mhdeblur" / "export" / "photo.jpg"
    pixels = np.asarray(Image.open(path), "float32") / 255
    missing = [(0, max(size - n, 0)) for n in pixels.shape[:2]]
    return np.pad(pixels, [*missing, (0, 0)], "symmetric")[None, :size, :size]


def first_image(output):
    """(H, W, 3) of what an engine gives: an array, a list or a dictionary."""
    if isinstance(output, (list, tuple)):
        output = output[0]
    elif hasattr(output, "values"):
        output = next(iter(output.values()))
    return np.clip(np.reshape(output, (-1, *np.shape(output)[-3:]))[0], 0, 1)


def prepare(name, folder, engines, size):
    """Counts a network and writes it for the engines that read files."""
    import keras_mhdeblur as mhd

    function, _, model = graph(name, size)
    parameters = model.count_params()
    for engine in {engine.partition("-")[0] for engine in engines} - {"keras"}:
        path = f"{folder}/{name}{SUFFIXES[engine]}"
        mhd.export.export_as(
            model, path, engine, output="mean", tlc_train_size=None, size=(size, size)
        )
    return json.dumps({"macs": count_macs(function), "parameters": parameters})


def graph(name, size):
    """The traced function of one restored image, its input, and the model."""
    import keras
    import tensorflow as tf

    import keras_mhdeblur as mhd

    keras.utils.set_random_seed(0)
    name, _, stages = name.partition("@")
    about = mhd.list_presets().get(name)
    trained = about is None or about["weights"] is not None
    overrides = {"stages": int(stages)} if stages else {}
    model = mhd.from_preset(name, load_weights=trained, **overrides)
    network = mhd.export.output_graph(model, "mean", tlc_train_size=None)
    image = tf.constant(photo(size))
    function = tf.function(lambda x: network(x, training=False))
    return function.get_concrete_function(image), image, model


def run_keras(name, image, threads):
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    function, image, _ = graph(name, image.shape[1])
    return lambda: function(image)


def run_litert(path, image, threads):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=threads)
    run = interpreter.get_signature_runner()
    return lambda: run(images=image)


def run_onnx(path, image, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options)
    return lambda: session.run(None, {"images": image})


def run_openvino(path, image, threads, precision="f32"):
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
    }
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    return lambda: compiled(image)


def run_openvino_bf16(path, image, threads):
    return run_openvino(path, image, threads, "bf16")


def run_torch(source, image, threads):
    import torch

    torch.set_num_threads(threads)
    path, _, name = source.rpartition(":")
    sys.path.insert(0, str(pathlib.Path(path).parent))
    module = runpy.run_path(path)[name]().eval()
    image = torch.from_numpy(image).permute(0, 3, 1, 2).contiguous()

    def run():
        with torch.inference_mode():
            module(image)

    return run


PEAK_SIDE = 3072
PEAK_MACS = PEAK_SIDE**3


def run_peak(_, image, threads):
    matrix = np.ones((PEAK_SIDE, PEAK_SIDE), "float32")
    return lambda: matrix @ matrix


RUNNERS = {
    "keras": run_keras,
    "litert": run_litert,
    "onnx": run_onnx,
    "openvino": run_openvino,
    "openvino-bf16": run_openvino_bf16,
    "torch": run_torch,
    "peak": run_peak,
}


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
