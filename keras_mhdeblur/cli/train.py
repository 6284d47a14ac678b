"""`mhdeblur train`: a recipe and a folder of data in, a preset out."""

import sys
from pathlib import Path

from .common import UsageError, quiet_import, recipe_path


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
        help="sharp photos if the recipe synthesizes blur; else a folder with the "
        "folders blur and sharp",
    )
    add("--output", "-o", required=True, metavar="FOLDER", help="where to write")
    add(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="replace a value of the recipe, for example optimizer.weight_decay=0",
    )
    add("--skip-broken", action="store_true", help="leave out broken image files")
    parser.set_defaults(run=_train)


def _train(options):
    with quiet_import():
        from keras_mhdeblur.training import recipes

    path = recipe_path(options.recipe)
    try:
        recipe = recipes.load_recipe(path, options.set)
        folders = recipes.data_folders(recipe, options.data)
        model = recipes.train(
            recipe,
            options.output,
            folders,
            skip_broken=options.skip_broken,
            verbose="auto" if sys.stdout.isatty() else 2,
        )
    except (ValueError, TypeError) as error:
        raise UsageError(
            str(error).replace("`skip_broken=True`", "--skip-broken")
        ) from None
    if options.set:
        path = Path(options.output) / "recipe.yaml"
        recipes.save_recipe(recipe, path)
    preset = Path(options.output) / "preset"
    model.save_to_preset(preset, recipe=path)
    print(f"Wrote {preset}. Try: mhdeblur restore PHOTO --preset {preset} -o restored")
    return 0
