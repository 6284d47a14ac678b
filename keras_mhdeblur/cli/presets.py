"""`mhdeblur presets`: the built-in presets."""

from keras_mhdeblur.cli.common import quiet_import


def add_parser(commands):
    parser = commands.add_parser(
        "presets",
        help="list the built-in presets",
        description="Lists the built-in presets with size, cost on a CPU, licence and "
        "scores: PSNR of the blurry input -> PSNR of the restored image.",
    )
    parser.set_defaults(run=_presets)


def _presets(options):
    with quiet_import():
        from keras_mhdeblur import presets

    for name, about in presets.list_presets().items():
        weights = "" if about.get("weights") else " [no weights yet]"
        plain = about.get("plain_name")
        print(f"{name}{weights}{f' (or {plain})' if plain else ''}")
        for line in (about.get("description"), _facts(about), _cost(about)):
            if line:
                print(f"    {line}")
        for pairs, scores in (about.get("scores") or {}).items():
            print(f"    {_score(pairs, scores)}")
    return 0


def _facts(about):
    parameters = about.get("parameters")
    members = about.get("members")
    facts = [
        about.get("architecture"),
        members and f"networks of {' and '.join(members)}",
        parameters and f"{parameters / 1e6:.1f} M parameters",
        about.get("license"),
    ]
    return ", ".join(str(fact) for fact in facts if fact)


def _cost(about):
    cost = about.get("cost")
    return cost and (
        f"{cost['gmacs_256']} GMACs for 256x256; per megapixel "
        f"{cost['seconds_per_megapixel']} s and {cost['megabytes_per_megapixel']} MB "
        f"in LiteRT on {cost['cpu_cores']} CPU cores"
    )


def _score(pairs, scores):
    restored = scores.get("selected_psnr", scores["mean_psnr"])
    return f"{pairs}: {scores['input_psnr']:.2f} -> {restored:.2f} dB"
