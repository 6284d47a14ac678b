"""`mhdeblur train`: a recipe and a folder of data in, a preset out."""

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
        description="Trains a model by a recipe, or goes on with a training that was "
        "stopped, and writes it as a preset into OUTPUT/preset.",
    )
    add = parser.add_argument
    add("recipe", metavar="RECIPE", help="YAML file, or the name of a built-in preset")
    add(
        "--data",
        required=True,
        metavar="FOLDER",
        help="what the recipe's data section asks for: sharp photos, a folder with the "
        "folders blur and sharp, a benchmark, or the output of `mhdeblur prepare`",
    )
    add("--output", "-o", metavar="FOLDER", help="where to write")
    add(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="replace a value of the recipe, for example optimizer.weight_decay=0",
    )
    add("--skip-broken", action="store_true", help="leave out broken image files")
    add(
        "--init",
        metavar="PRESET",
        help="start with the weights of a preset (built-in name, folder or "
        "hf://user/repo) instead of random ones",
    )
    add(
        "--strategy",
        choices=("none", "mirrored", "multiworker"),
        default="none",
        help="mirrored: all GPUs of this machine; multiworker: those of the machines "
        "in TF_CONFIG. The recipe has the global batch size (default: %(default)s)",
    )
    add(
        "--dry-run",
        action="store_true",
        help="show the plan, and measure a few steps; nothing is written",
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
        help="also write scalars for TensorBoard into OUTPUT/tensorboard",
    )
    parser.set_defaults(run=_train)


def _train(options):
    if not options.output and not options.dry_run:
        raise UsageError("the following arguments are required: --output")
    path = recipe_path(options.recipe)
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
            verbose="auto" if sys.stdout.isatty() else 2,
        )
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
