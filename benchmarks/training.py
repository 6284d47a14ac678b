"""Training steps and forward passes on Keras' backends and in PyTorch, in one run.

python benchmarks/training.py [PRESET ...] [--engines jax torch pytorch ...]
    [--dtypes float32 mixed_bfloat16] [--tasks training inference synthesis]
    [--batch 8] [--patch 128] [--rounds 3] [--threads N] [--output FILE.json]

The engines "tensorflow", "jax" and "torch" are backends of Keras; "pytorch" and
"pytorch-compile" are the network and the loss of torch_networks.py, in a plain loop and
with `torch.compile`. Weights are random. A row is a process of its own, and the rows of
a network run in turns, so that they can be compared. Processors are those that the
engine chooses: a GPU where it sees one.

training: seconds of a step of `fit` with the loss and the optimizer of the recipes, and
seconds of the first one; PyTorch has tried two memory layouts before. inference: of a
batch of head images. synthesis: of blurring a batch, as it happens in a step of `fit`.
"of peak" is the share of what a large matrix product of the same type reaches in the
same turns; training counts as three forward passes. A row that fails says why, and the
others go on.
"""

import argparse
import collections
import json
import math
import os
import pathlib
import resource
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import worker
from worker import answer

PRESETS = ("nafnet_mh_c", "maxim_mh_c@1", "restormer_mh_c_small", "hinet_mh_c_small")
ENGINES = ("tensorflow", "jax", "torch", "pytorch", "pytorch-compile")
TASKS = ("training", "inference", "synthesis")
# Passes whose products are counted: two of a backward pass are one each.
PASSES = {"training": 3, "inference": 1}
LEARNING_RATE, CLIP = 1e-4, 0.01


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("presets", nargs="*", default=PRESETS)
    add("--engines", nargs="+", choices=ENGINES, default=["tensorflow", "pytorch"])
    add("--dtypes", nargs="+", default=["float32"])
    add("--tasks", nargs="+", choices=TASKS, default=["training"])
    add("--batch", type=int, default=8)
    add("--patch", type=int, default=128)
    add("--steps", type=int, default=4, help="steps of a turn")
    add("--rounds", type=int, default=3)
    add("--threads", type=int, default=os.cpu_count())
    add("--output", type=pathlib.Path)
    add("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work(json.loads(options.worker))
    rows = []
    print(f"batches of {options.batch} patches of {options.patch}x{options.patch}")
    print(
        f"{'preset':24}{'task':10}{'engine':>16}{'dtype':>16}{'first s':>9}"
        f"{'ms':>9}{'patches/s':>11}{'of peak':>9}{'MB':>8}"
    )
    for name in options.presets:
        for task in options.tasks:
            for row in compared(name, task, options):
                rows.append(row)
                print(line(row), flush=True)
            if options.output:  # What there is, if the time ends.
                options.output.write_text(json.dumps(rows, indent=1) + "\n")


def compared(name, task, options):
    """The rows of a network and a task, measured in turns."""
    common = {
        "preset": name,
        "task": task,
        **{key: getattr(options, key) for key in ("batch", "patch", "steps")},
    }
    rows = [
        common | {"engine": engine, "dtype": dtype}
        for engine in options.engines
        for dtype in options.dtypes
        if task != "synthesis" or not engine.startswith("pytorch")
    ]
    workers = [Row(row, options.threads) for row in rows]
    # The first engine of each type tells the peak.
    peaked = {row["dtype"]: row | {"task": "peak"} for row in reversed(rows)}
    products = {dtype: Row(row, options.threads) for dtype, row in peaked.items()}
    seconds, peaks = collections.defaultdict(list), collections.defaultdict(list)
    for row, process in zip(rows, workers):
        row.update(process.answer())
    for process in products.values():
        process.answer()
    for _ in range(options.rounds):
        for index, process in enumerate(workers):
            seconds[index].append(process.ask("time").get("seconds", math.nan))
        for dtype, process in products.items():
            peaks[dtype].append(process.ask("time").get("seconds", math.nan))
    for index, (row, process) in enumerate(zip(rows, workers)):
        row.update(process.ask("memory"))
        process.close()
        if "error" in row:
            continue
        row["seconds"] = float(np.median(seconds[index]))
        row["patches_per_second"] = options.batch / row["seconds"]
        peak = PEAK_SIDE[row.get("gpu", False)] ** 3 / np.median(peaks[row["dtype"]])
        if task in PASSES and row.get("macs"):
            done = PASSES[task] * options.batch * row["macs"] / row["seconds"]
            row["of_peak"] = float(done / peak)
    for process in products.values():
        process.close()
    return rows


def line(row):
    start = f"{row['preset']:24}{row['task']:10}{row['engine']:>16}{row['dtype']:>16}"
    if "error" in row:
        return f"{start}  {row['error']}"
    return (
        f"{start}{row['first']:9.1f}{1e3 * row['seconds']:9.1f}"
        f"{row['patches_per_second']:11.1f}{row.get('of_peak', math.nan):9.0%}"
        f"{row['megabytes']:8.0f}"
    )


class Row(worker.Worker):
    """A process that runs one row when it is asked to."""

    def __init__(self, row, threads):
        environment = {
            "TF_NUM_INTRAOP_THREADS": str(threads),
            # Several processes share a GPU.
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        }
        if not row["engine"].startswith("pytorch"):
            environment["KERAS_BACKEND"] = row["engine"]
        # A file: a pipe that nobody reads would stop who writes much.
        self.errors = tempfile.TemporaryFile("w+")
        arguments = [__file__, "--worker", json.dumps(row)]
        super().__init__(arguments, threads, environment, self.errors)
        self.failed = None

    def ask(self, question):
        return self.failed or super().ask(question)

    def answer(self):
        """A dictionary; with "error", the last line that a failed process wrote."""
        found = super().answer()
        if found is not None:
            return json.loads(found)
        self.errors.seek(0)
        lines = self.errors.read().strip().splitlines() or ["killed"]
        self.failed = {"error": lines[-1][:200]}
        return self.failed


def work(row):
    runner = RUNNERS[row["engine"].partition("-")[0]]
    before = memory(row["engine"])
    begin = time.perf_counter()
    run, facts = runner(row)
    made = time.perf_counter()
    run(1)
    first = time.perf_counter() - made
    run(1)  # Some compile at the second step once more.
    answer(json.dumps({**facts, "made": made - begin, "first": first}))
    for question in sys.stdin:
        if question.strip() == "memory":
            megabytes = round((memory(row["engine"]) - before) / 1e6)
            answer(json.dumps({"megabytes": megabytes}))
            continue
        begin = time.perf_counter()
        run(row["steps"])
        seconds = (time.perf_counter() - begin) / row["steps"]
        answer(json.dumps({"seconds": seconds}))


def memory(engine):
    """Peak bytes of the process, or of its GPU where it has one."""
    if engine == "jax" and "jax" in sys.modules:
        import jax

        found = jax.local_devices()[0].memory_stats()
        if found:
            return found["peak_bytes_in_use"]
    if engine not in ("jax", "tensorflow") and "torch" in sys.modules:
        import torch

        if torch.cuda.is_available():
            return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


# === Keras ===


def keras_runner(row):
    import keras

    from keras_mhdeblur.engines.keras_engine import has_gpu

    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(row["dtype"])
    if row["task"] == "peak":
        gpu = has_gpu()
        return keras_product(row["dtype"], gpu), {"gpu": gpu}
    model = model_of(row["preset"])
    blurry, sharp = batch_of(row)
    facts = {"gpu": has_gpu(), "macs": macs(model.network, row["patch"])}
    if row["task"] == "training":
        return keras_training(model, blurry, sharp), facts
    if row["task"] == "inference":
        return keras_inference(model, blurry), facts
    return keras_synthesis(sharp), facts


def model_of(name):
    """The model of PRESET or PRESET@STAGES, with random weights."""
    from keras_mhdeblur import from_preset

    name, _, stages = name.partition("@")
    overrides = {"stages": int(stages)} if stages else {}
    return from_preset(name, load_weights=False, **overrides)


def batch_of(row):
    """Blurry and sharp patches, float32."""
    random = np.random.default_rng(0)
    sharp = random.random((row["batch"], row["patch"], row["patch"], 3), "float32")
    return 0.9 * sharp, sharp


def keras_training(model, blurry, sharp):
    import keras_mhdeblur as mhd

    optimizer = mhd.training.TorchAdamW(LEARNING_RATE, global_clipnorm=CLIP)
    model.compile(optimizer, mhd.losses.PSNRLoss())
    size = len(blurry)

    def run(steps):
        # An epoch ends when its losses are known, so when its steps are done.
        x, y = (np.tile(images, (steps, 1, 1, 1)) for images in (blurry, sharp))
        model.fit(x, y, batch_size=size, shuffle=False, verbose=0)

    return run


def keras_inference(model, blurry):
    size = len(blurry)

    def run(steps):
        model.predict(np.tile(blurry, (steps, 1, 1, 1)), batch_size=size, verbose=0)

    return run


def keras_synthesis(sharp):
    import keras_mhdeblur as mhd

    blur = mhd.data.MotionBlur()
    make = compiled(
        lambda images, seeds: mhd.data.synthesize_motion_blur(images, seeds, blur)
    )

    def run(steps):
        for step in range(steps):
            made = make(sharp, np.arange(len(sharp)) + step)
        [np.asarray(image) for image in made]

    return run


def keras_product(dtype, gpu):
    from keras import ops

    matrix = ops.ones([PEAK_SIDE[gpu]] * 2, dtype.removeprefix("mixed_"))
    product = compiled(lambda x: ops.matmul(x, x)[:1, :1])

    def run(steps):
        for _ in range(steps):
            last = product(matrix)
        ops.convert_to_numpy(last)

    return run


def compiled(function):
    """The function as the backend's `fit` would run it."""
    import keras

    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.jit(function)
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    return function


def macs(network, size):
    """Multiplications for one patch, as PyTorch counts them, or None."""
    try:
        import torch
        from torch.utils.flop_counter import FlopCounterMode
        from torch_networks import of

        module = of(network)
    except (ImportError, ValueError):
        return None
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.zeros(1, 3, size, size))
    return counter.get_total_flops() / 2


# === PyTorch ===


def torch_runner(row):
    import torch
    from torch_networks import of

    torch.manual_seed(0)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if row["dtype"].endswith("bfloat16") else torch.float32
    facts = {"gpu": device == "cuda"}
    if row["task"] == "peak":
        return torch_product(device, dtype), facts
    os.environ["KERAS_BACKEND"] = "torch"
    model = model_of(row["preset"])
    facts["macs"] = macs(model.network, row["patch"])
    images = [
        torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(device)
        for images in batch_of(row)
    ]
    autocast = torch.autocast(device, dtype, enabled=dtype != torch.float32)
    step_of = torch_training if row["task"] == "training" else torch_inference
    module = of(model.network).to(device)

    def runner(module, layout):
        module = module.to(memory_format=layout)
        batch = [x.contiguous(memory_format=layout) for x in images]
        step = step_of(module, *batch, autocast)

        def run(steps):
            for _ in range(steps):
                last = step()
            last.flatten()[0].item()  # waits for the device

        return run

    layouts = torch.contiguous_format, torch.channels_last
    seconds = {layout: seconds_of(runner(module, layout)) for layout in layouts}
    layout = min(layouts, key=seconds.get)
    if row["engine"].endswith("compile"):
        module = torch.compile(module)
    return runner(module, layout), facts | {"layout": str(layout)}


def seconds_of(run):
    """Seconds of the second step."""
    run(1)
    begin = time.perf_counter()
    run(1)
    return time.perf_counter() - begin


def torch_training(module, blurry, sharp, autocast):
    import torch

    optimizer = torch.optim.AdamW(module.parameters(), LEARNING_RATE)

    def step():
        with autocast:
            stacks = module(blurry)
        stacks = stacks if isinstance(stacks, (list, tuple)) else [stacks]
        loss = sum(hypothesis_loss(stack.float(), sharp) for stack in stacks)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), CLIP)
        optimizer.step()
        return loss

    return step


def torch_inference(module, blurry, _, autocast):
    import torch

    def step():
        with autocast, torch.inference_mode():
            stacks = module(blurry)
        return stacks[0] if isinstance(stacks, (list, tuple)) else stacks

    return step


def hypothesis_loss(heads, label):
    """PSNR loss of the pair of heads (B, K, C, H, W) nearest to the label."""
    import torch

    errors = (heads - label[:, None]).flatten(2)
    products = errors @ errors.mT / errors.shape[2]
    squares = products.diagonal(dim1=1, dim2=2)
    pairs = (squares[:, :, None] + 2 * products + squares[:, None, :]) / 4
    nearest = pairs.flatten(1).amin(dim=1)
    return (10 / math.log(10) * torch.log(nearest + 1e-8)).mean()


def torch_product(device, dtype):
    import torch

    side = PEAK_SIDE[device == "cuda"]
    matrix = torch.ones(side, side, device=device, dtype=dtype)

    def run(steps):
        for _ in range(steps):
            last = matrix @ matrix
        last[0, 0].item()

    return run


PEAK_SIDE = {False: 2048, True: 8192}  # of CPUs and of GPUs
RUNNERS = {
    "tensorflow": keras_runner,
    "jax": keras_runner,
    "torch": keras_runner,
    "pytorch": torch_runner,
}

if __name__ == "__main__":
    main()
