"""Is the best hypothesis of an image predictable? The table of docs/research/choice.md.

    python benchmarks/choice.py PRESET[@STAGES] --data DATA --keep FOLDER
        [--sets zoo/sets] [--real]

Two small networks of the features that calibrations have, of whole images, are fitted
to the images that train and stopped on those that choose: one tells the probability
that each hypothesis is nearest to the label, the other the weights of the heads with
the best PSNR. What they and other selections gain on the reported images is printed,
for every kind. The folder keeps what the preset makes of the images. With `--real`
there are only pairs of cameras, no synthesized ones.
"""

import keras
import numpy as np
from kept_images import kept, loaded, parser_of, sets_of
from keras import ops

from keras_mhdeblur.evaluation.protocols import PLAIN
from keras_mhdeblur.hypotheses.calibration import whole
from keras_mhdeblur.hypotheses.moments import features, moments
from keras_mhdeblur.hypotheses.stacks import medoid_index
from keras_mhdeblur.utils.progress import ProgressBar


def seen_of(heads, blurry, sharp, info, select):
    """Features and errors of a pair.

    Returns:
        Dictionary: "features" (F,); "gram" (K, K), mean products of the heads' errors;
        "blurry" and "selected", mean squared errors; "medoid", an index.
    """
    errors = (heads - sharp).reshape(len(heads), -1)
    image = info.parse(select).image(heads, blurry)
    return {
        "features": features(whole(moments(heads, blurry)), len(heads)),
        "gram": errors @ errors.T / errors.shape[1],
        "blurry": np.square(blurry - sharp).mean(),
        "selected": np.square(image - sharp).mean(),
        "medoid": medoid_index(heads, info.pairs),
    }


def seen_of_all(model, images):
    """`seen_of` all pairs of a set, by their names."""
    heads_of = PLAIN.of(model).head_function(model)
    bar, rows = ProgressBar(len(images)), {}
    for pair in images.pairs():
        blurry, sharp = (x.astype("float32") / 255 for x in (pair.blurry, pair.sharp))
        heads = heads_of(blurry)
        rows[pair.name] = seen_of(heads, blurry, sharp, model.head_info, model.select)
        bar.finish()
    bar.close()
    return rows


class Table:
    """Columns of the pairs of a set."""

    def __init__(self, rows, pairs):
        self.kinds = np.array([name.split("/")[0] for name in rows])
        rows = list(rows.values())
        columns = {key: np.array([row[key] for row in rows]) for key in rows[0]}
        self.features, self.gram = columns["features"], columns["gram"]
        self.medoid = columns["medoid"]
        self.before = psnr(columns["blurry"])
        self.selected = psnr(columns["selected"])
        heads = np.eye(pairs.num_heads)[np.array(pairs.indices)].mean(axis=1)
        self.hypotheses = np.stack([self.weighted(row) for row in heads], axis=1)
        self.best = self.hypotheses.argmax(axis=1)
        self.heads = heads

    def weighted(self, weights):
        """PSNR of weighted means of the heads; weights are (K,) or (N, K)."""
        weights = np.broadcast_to(weights, (len(self.gram), self.gram.shape[-1]))
        return psnr(np.einsum("ni,nij,nj->n", weights, self.gram, weights))


def psnr(mse):
    return -10 * np.log10(np.maximum(mse, 0) + 1e-10)


def predictor(train, choose, targets, units, loss):
    """A function from features to softmax weights, stopped by the set that chooses."""
    mean, scale = train.features.mean(axis=0), train.features.std(axis=0) + 0.01

    def scaled(values):
        return np.clip((values - mean) / scale, -5, 5).astype("float32")

    network = keras.Sequential(
        [
            keras.layers.Dense(32, "tanh"),
            keras.layers.Dropout(0.1),
            keras.layers.Dense(units, "softmax"),
        ]
    )
    network.compile(keras.optimizers.Adam(2e-3), loss)
    network.fit(
        scaled(train.features),
        targets(train),
        batch_size=64,
        epochs=200,
        verbose=0,
        validation_data=(scaled(choose.features), targets(choose)),
        callbacks=[
            keras.callbacks.EarlyStopping(patience=20, restore_best_weights=True)
        ],
    )
    return lambda table: network.predict(scaled(table.features), verbose=0)


def decibels(gram, weights):
    mse = ops.einsum("ni,nij,nj->n", weights, gram, weights)
    return ops.log(mse + 1e-5)


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--real", action="store_true")
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    model = loaded(options.preset)
    tables = []
    for name, images in sets_of(options).items():
        if options.real:
            name, images.synthesized = f"{name}.real", []
        path = options.keep / f"choice.{name}.{options.preset}.pkl"
        rows = kept(path, lambda images=images: seen_of_all(model, images))
        tables.append(Table(rows, model.head_info.pairs))
    train, choose, report = tables
    likely = predictor(
        train, choose, lambda table: table.best, len(train.heads),
        "sparse_categorical_crossentropy",
    )(report)  # fmt: skip
    fitted = predictor(
        train, choose, lambda table: table.gram.astype("float32"), model.num_heads,
        decibels,
    )(report)  # fmt: skip
    every = np.arange(len(report.best))
    majority = np.bincount(choose.best).argmax()
    selections = {
        "mean of the hypotheses": report.weighted(report.heads.mean(axis=0)),
        "most frequent winner of `choose`": report.hypotheses[:, majority],
        "medoid": report.hypotheses[every, report.medoid],
        f'"{model.select}", the default': report.selected,
        "predicted probabilities as weights": report.weighted(likely @ report.heads),
        "most probable hypothesis": report.hypotheses[every, likely.argmax(axis=1)],
        "predicted weights of the heads": report.weighted(fitted),
        "best hypothesis, needs the label": report.hypotheses.max(axis=1),
    }
    kinds = list(dict.fromkeys(report.kinds))
    print("| selection |", " | ".join(kinds), "|")
    print("| --- |", " | ".join(["---"] * len(kinds)), "|")
    for name, values in selections.items():
        gains = values - report.before
        cells = [
            f"{gains[report.kinds == kind].mean():+.2f}, "
            f"{gains[report.kinds == kind].min():+.2f}"
            for kind in kinds
        ]
        print(f"| {name} |", " | ".join(cells), "|")
    for name, winners in (
        ("winners found", likely.argmax(axis=1)),
        ("always the most frequent one", majority),
    ):
        found = report.best == winners
        cells = [f"{100 * found[report.kinds == kind].mean():.0f}" for kind in kinds]
        print(f"| {name}, % |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
