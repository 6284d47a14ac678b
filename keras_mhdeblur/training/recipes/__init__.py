"""Recipes: a YAML file that says how a model was or is to be trained."""

from keras_mhdeblur.training.recipes.build import (
    build_dataset,
    build_model,
    data_folders,
    evaluation_pairs,
    recipe_blur,
    recipe_patches,
)
from keras_mhdeblur.training.recipes.schema import (
    check_recipe,
    load_recipe,
    read_yaml,
    save_recipe,
)

__all__ = [
    "build_dataset",
    "build_model",
    "check_recipe",
    "data_folders",
    "evaluation_pairs",
    "load_recipe",
    "read_yaml",
    "recipe_blur",
    "recipe_patches",
    "save_recipe",
]
