"""`mhdeblur train`: a recipe and a folder of data in, a preset out."""

import os
import sys
from pathlib import Path

from keras_mhdeblur.cli.common import (
    UsageError,
    load_preset,
    quiet_import,
    recipe_path,
    whole_number,
)


def add_parser(commands):
    parser = commands.add_parser(
        "train",
        help="train a model by a recipe",
        description="Trains a model by a recipe and writes it as a preset to "
        "OUTPUT/preset. The same command goes on with a training that was stopped.",
    )
    add = parser.add_argument
    add("recipe", metavar="RECIPE", help="YAML file, or the name of a built-in preset")
    add(
        "--data",
        required=True,
        metavar="FOLDER",
        help="folder of the kind that the recipe names: sharp photos, the folders blur "
        "and sharp, a benchmark, or the output of `mhdeblur prepare`",
    )
    add("--output", "-o", metavar="FOLDER", help="folder to write to")
    add(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="another value for an entry of the recipe, for example "
        "optimizer.weight_decay=0",
    )
    add("--skip-broken", action="store_true", help="leave out broken image files")
    add(
        "--init",
        metavar="PRESET",
        help="preset whose weights the training begins with: built-in name, folder or "
        "hf://user/repo (default: random weights)",
    )
    add(
        "--strategy",
        choices=("none", "mirrored", "multiworker"),
        default="none",
        help="mirrored: all GPUs of this machine; multiworker: the GPUs of the "
        "machines in TF_CONFIG; the recipe's batch size is that of all together "
        "(default: %(default)s)",
    )
    add(
        "--dry-run",
        action="store_true",
        help="show the plan and the time of a few steps; nothing is written",
    )
    add(
        "--panel-every",
        type=whole_number,
        default=10,
        metavar="N",
        help="epochs between two pictures of the progress, 0 for none "
        "(default: %(default)s)",
    )
    add(
        "--tensorboard",
        action="store_true",
        help="also write scalars for TensorBoard to OUTPUT/tensorboard",
    )
    parser.set_defaults(run=_train)


def _train(options):
    if not options.output and not options.dry_run:
        raise UsageError("the following arguments are required: --output")
    path = recipe_path(options.recipe)
    # TensorFlow reads it when it is imported. By itself it uses oneDNN on some CPUs
    # only; without it, the gradient of a convolution takes up to four times as long.
    if "tensorflow" not in sys.modules:
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with quiet_import():
        from keras_mhdeblur.training import recipes, runs
        from keras_mhdeblur.training.distribution import is_chief, make_strategy

    try:
        strategy = make_strategy(options.strategy)
    except ValueError as error:
        raise UsageError(str(error)) from None
    initial_model = load_preset(options.init, "--init") if options.init else None
    try:
        recipe = recipes.load_recipe(path, options.set)
        folders = recipes.data_folders(recipe, options.data)
        if options.dry_run:
            plan = runs.rehearse(recipe, folders, skip_broken=options.skip_broken)
            print(_plan_text(path, plan))
            return 0
        model = runs.train(
            recipe,
            options.output,
            folders,
            initial_model=initial_model,
            strategy=strategy,
            skip_broken=options.skip_broken,
            panel_every=options.panel_every,
            tensorboard=options.tensorboard,
            verbose="auto" if _shows_bar() else 2,
        )
    except BrokenPipeError:
        raise
    except (ValueError, TypeError, OSError, FloatingPointError) as error:
        message = str(error).replace("`skip_broken=True`", "--skip-broken")
        raise UsageError(message) from None
    if not is_chief(strategy):
        return 0
    if options.set:
        path = Path(options.output) / "recipe.yaml"
        recipes.save_recipe(recipe, path)
    preset = Path(options.output) / "preset"
    model.save_to_preset(preset, recipe=path)
    print(f"Wrote {preset}. Try: mhdeblur restore PHOTO --preset {preset} -o restored")
    return 0


def _shows_bar():
    """True if Keras may show its bar, which has colours."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _plan_text(path, plan):
    heads, hypotheses = plan["num_heads"], plan["num_hypotheses"]
    lines = [
        f"Recipe    {path}",
        f"Network   {plan['network']}, {plan['parameters'] / 1e6:.2f} M parameters, "
        f"{heads} heads, {hypotheses} hypotheses",
        f"Data      {plan['data']}",
    ]
    for stage in plan["stages"]:
        size = stage["patch_size"]
        lines.append(
            f"Training  {stage['steps']} steps of {stage['batch_size']} patches of "
            f"{size}x{size} (global batch size {stage['batch_size']})"
        )
    lines.append(
        f"Time      {plan['first_step']:.0f} s for the first step, then "
        f"{plan['step']:.2f} s each; about {plan['seconds'] / 3600:.1f} hours in all "
        "on this machine"
    )
    if plan["peak_memory_mb"] is not None:
        lines.append(f"Memory    {plan['peak_memory_mb']:.0f} MB at the peak of a step")
    return "\n".join(lines)
