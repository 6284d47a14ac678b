"""The figures of arXiv 2208.13029, as matplotlib figures.

This module needs matplotlib: `pip install "keras-mhdeblur[figures]"`. Its figures are
`matplotlib.figure.Figure`s; `figure.savefig("figure.png")` writes one.
"""

import numpy as np

try:
    from matplotlib.figure import Figure
except ImportError:
    raise ImportError(
        'Figures need matplotlib: pip install "keras-mhdeblur[figures]"'
    ) from None

# Both colour maps are ordered by lightness as well, so that they can be read by the
# colour-blind and in print; lines differ in marker and dash besides their colour.
_SEQUENTIAL = "cividis"
_DIVERGING = "PuOr"
_BLUE, _ORANGE, _GREY = "#0072b2", "#d55e00", "#666666"
_DPI = 150


def disagreement(hypotheses):
    """Difference of the hypotheses at every pixel.

    Args:
        hypotheses: float (K', H, W, C).

    Returns:
        (H, W), in units of the image's range: |a - b|, averaged over all pairs of
        hypotheses and over the channels.
    """
    count = len(hypotheses)
    if count < 2:
        raise ValueError(
            "`hypotheses` must be at least two. "
            f"Received: hypotheses.shape={hypotheses.shape}"
        )
    # In ascending order, the k-th value is added in k differences and subtracted in
    # the others: no pair has to be formed.
    factors = 2.0 * np.arange(count) - (count - 1)
    total = np.einsum("k,khwc->hw", factors, np.sort(hypotheses, axis=0))
    return total / (count * (count - 1) / 2) / hypotheses.shape[-1]


def correlation(a, b):
    """Pearson's correlation of two maps (H, W); NaN where one is constant."""
    a, b = a - np.mean(a), b - np.mean(b)
    scale = np.sqrt(np.sum(a * a) * np.sum(b * b))
    return float(np.sum(a * b) / scale) if scale > 0 else float("nan")


def heatmap(blurry, maps, sharp=None, names=None):
    """Maps of the hypotheses' disagreement below the images (Fig. 3).

    Args:
        blurry: list of images (H, W, 3) in [0, 1], one per column.
        maps: list of `disagreement` maps (H, W), in units of the range [0, 1].
        sharp: list of sharp images (H, W, 3), or None; a first row.
        names: list of the columns' names, or None.

    Returns:
        `matplotlib.figure.Figure`. Each map is divided by its 99.5th percentile,
        which is given below it.
    """
    rows = [images for images in (sharp, blurry) if images is not None]
    titles = ["sharp", "blurry"][-len(rows) :] + ["disagreement"]
    shapes = [image.shape for image in blurry]
    widths = [shape[1] / shape[0] for shape in shapes]
    height = 2.2
    figure = Figure(
        (height * sum(widths) + 1.2, height * len(titles) + 0.5),
        dpi=_DPI,
        layout="compressed",
    )
    axes = figure.subplots(len(titles), len(blurry), squeeze=False, width_ratios=widths)
    for column, values in enumerate(maps):
        for row, images in enumerate(rows):
            axes[row, column].imshow(np.clip(images[column], 0, 1))
        scale = max(float(np.percentile(values, 99.5)), 1e-12)
        shown = axes[-1, column].imshow(values / scale, _SEQUENTIAL, vmin=0, vmax=1)
        axes[-1, column].set_xlabel(f"1 = {255 * scale:.3g} of 255 levels", fontsize=8)
        if names is not None:
            name, room = names[column], max(int(24 * widths[column]), 8)
            name = name if len(name) <= room else "…" + name[1 - room :]
            axes[0, column].set_title(name, fontsize=9)
    for row, title in enumerate(titles):
        axes[row, 0].set_ylabel(title)
    _hide_ticks(axes)
    shrink = 0.9 / len(titles)  # beside the maps
    bar = figure.colorbar(shown, ax=axes, shrink=shrink, anchor=(0, 0.05), aspect=12)
    bar.set_label("relative disagreement", fontsize=8)
    return figure


def differences(heads):
    """Signed differences of head images, row less column (Fig. 4).

    Args:
        heads: head images (K, H, W, C) in [0, 1].

    Returns:
        `matplotlib.figure.Figure` with K x K panels: the heads on the diagonal, the
        differences i - j, averaged over the channels, beside it. All panels have one
        scale, which ends at the 99.5th percentile of all differences.
    """
    count, height, width, _ = heads.shape
    gray = heads.mean(axis=-1)
    panels = gray[:, None] - gray[None]
    scale = 1.0
    if count > 1:
        size = np.abs(panels[np.triu_indices(count, 1)])
        scale = max(255 * float(np.percentile(size, 99.5)), 1e-12)
    side = max(1.2, 7.5 / count)
    figure = Figure(
        (side * count + 1.2, side * count * height / width + 0.6),
        dpi=_DPI,
        layout="compressed",
    )
    axes = figure.subplots(count, count, squeeze=False)
    for i in range(count):
        for j in range(count):
            if i == j:
                image = np.clip(heads[i], 0, 1)
                gray_map = "gray" if image.shape[-1] == 1 else None
                axes[i, i].imshow(image.squeeze(), gray_map, vmin=0, vmax=1)
            else:
                shown = axes[i, j].imshow(
                    255 * panels[i, j], _DIVERGING, vmin=-scale, vmax=scale
                )
        axes[i, 0].set_ylabel(f"head {i}")
        axes[0, i].set_title(f"head {i}", fontsize=10)
    _hide_ticks(axes)
    if count > 1:
        bar = figure.colorbar(shown, ax=axes, shrink=0.8, extend="both")
        bar.set_label("row - column (of 255 levels)")
    return figure


def ablation(results):
    """PSNR against the number of heads (Fig. 5).

    Args:
        results: list of dictionaries as from `evaluation.evaluate`, of models with
            different numbers of heads. One with a single head is also drawn as the
            single-output baseline.

    Returns:
        `matplotlib.figure.Figure`: a panel for the models that do not combine their
        heads and one for those that do, with the "overall" and the "single" PSNR as
        lines and every hypothesis as a triangle.
    """
    baselines = [result for result in results if result["num_heads"] == 1]
    panels = {}
    for combine_heads, title in ((False, "heads alone"), (True, "heads combined")):
        chosen = [
            result
            for result in results
            if result["num_heads"] > 1 and result["combine_heads"] == combine_heads
        ]
        if chosen:
            chosen = baselines + sorted(chosen, key=lambda each: each["num_heads"])
            panels[title] = chosen
    panels = panels or {"one head": baselines}
    figure = Figure((4.2 * len(panels) + 0.6, 3.8), dpi=_DPI, layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for each, (title, chosen) in zip(axes, panels.items()):
        heads = [result["num_heads"] for result in chosen]
        values = [result["psnr_per_hypothesis"] for result in chosen]
        each.plot(
            [count for count, psnr in zip(heads, values) for _ in psnr],
            [value for psnr in values for value in psnr],
            "^", color=_BLUE, alpha=0.5, markersize=5, linestyle="none",
            markeredgewidth=0, label="each hypothesis",
        )  # fmt: skip
        for name, colour, style in (
            ("overall", _ORANGE, "s-"),
            ("single", _BLUE, "o--"),
        ):
            psnr = [result[name]["psnr"] for result in chosen]
            each.plot(heads, psnr, style, color=colour, label=name)
        for result in baselines[:1]:
            label = "single-output network"
            psnr = result["mean"]["psnr"]
            each.axhline(psnr, color=_GREY, linestyle=":", linewidth=1, label=label)
        each.set_xticks(sorted(set(heads)))
        each.margins(x=0.1)
        each.set_xlabel("number of heads")
        each.set_title(title, fontsize=10)
        each.grid(axis="y", alpha=0.3)
        each.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("PSNR (dB)")
    handles, labels = axes[-1].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=4, fontsize=8, frameon=False
    )
    return figure


def pairs(result):
    """PSNR of the average of every pair of heads (Fig. 6).

    Args:
        result: dictionary as from `evaluation.evaluate`.

    Returns:
        `matplotlib.figure.Figure`: a K x K heat map with numbers, heads themselves on
        the diagonal.
    """
    psnr = np.array(result["pair_psnr"])
    count = len(psnr)
    size = 0.75 * count + 1.2
    figure = Figure((size + 1, size), dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    low, high = psnr.min(), psnr.max()
    shown = axes.imshow(psnr, _SEQUENTIAL, vmin=low, vmax=max(high, low + 0.01))
    for i in range(count):
        for j in range(count):
            dark = psnr[i, j] < (low + high) / 2
            axes.text(
                j, i, f"{psnr[i, j]:.2f}", ha="center", va="center", fontsize=9,
                color="white" if dark else "black",
            )  # fmt: skip
    axes.set_xticks(range(count))
    axes.set_yticks(range(count))
    axes.set_xlabel("head")
    axes.set_ylabel("head")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(shown, ax=axes, shrink=0.9).set_label("PSNR of the average (dB)")
    return figure


def usage(results):
    """Share of the images for which each hypothesis is nearest to the label.

    Args:
        results: list of dictionaries as from `evaluation.evaluate`.

    Returns:
        `matplotlib.figure.Figure`: a panel of bars for each model, in per cent of the
        images, with a line where all hypotheses would be used alike.
    """
    columns = min(4, len(results))
    rows = -(-len(results) // columns)
    size = (3.2 * columns + 0.4, 2.4 * rows + 0.3)
    figure = Figure(size, dpi=_DPI, layout="constrained")
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for each, result in zip(axes, results):
        names = result["hypotheses"]
        shares = 100 * np.array(result["usage"])
        each.bar(range(len(names)), shares, color=_BLUE)
        each.axhline(100 / len(names), color=_GREY, linestyle=":", linewidth=1)
        upright = {"rotation": 90} if len("".join(names)) > 20 else {}
        each.set_xticks(range(len(names)), names, fontsize=8, **upright)
        each.set_title(title(result), fontsize=10)
        each.spines[["top", "right"]].set_visible(False)
    for each in axes[len(results) :]:
        each.set_visible(False)
    figure.supxlabel("hypothesis", fontsize=10)
    figure.supylabel("nearest to the label (% of images)", fontsize=10)
    return figure


def coverage(results):
    """Coverage of exposures by the hypotheses, and which are nearest to which moment.

    Args:
        results: dictionary from names to dictionaries as from `evaluation.coverage`,
            all of the same exposures.

    Returns:
        `matplotlib.figure.Figure`: CovPSNR@n as a line for each name, with the bound of
        n images; beside it, for each name with several images, the share of the
        frames of each tenth of the exposure that each image is nearest to.
    """
    several = {name: each for name, each in results.items() if each["images"] > 1}
    rows = [each["images"] for each in several.values()]
    size = (9.0, max(3.8, 0.22 * sum(rows) + 0.55 * len(rows) + 0.4))
    figure = Figure(size, dpi=_DPI, layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.2, 1))
    axes = left.subplots()
    bound = max((each["bound"] for each in results.values()), key=len)[:4]
    counts = np.arange(1, len(bound) + 1)
    axes.plot(counts, bound, ":", color=_GREY, label="bound of n images")
    for number, (name, each) in enumerate(results.items()):
        style = dict(color=f"C{number}", marker="osD^v<>"[number % 7], markersize=4)
        axes.plot(np.arange(each["images"]) + 1, each["curve"], label=name, **style)
    # The bound leaves the picture, or the lines would lie on each other.
    curves = np.concatenate([each["curve"] for each in results.values()])
    reach = max(np.ptp(curves), 0.5)
    axes.set_ylim(curves.min() - 0.1 * reach, curves.max() + reach)
    axes.set_xlabel("images n")
    axes.set_ylabel("CovPSNR@n (dB)")
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    left.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    if several:
        panels = right.subplots(
            len(rows), 1, height_ratios=rows, sharex=True, squeeze=False
        )[:, 0]
        most = max(100 * np.max(each["nearest"]) for each in several.values())
        for panel, (name, each) in zip(panels, several.items()):
            shown = panel.imshow(
                100 * np.array(each["nearest"]),
                _SEQUENTIAL,
                vmin=0,
                vmax=most,
                aspect="auto",
                extent=(0, 1, each["images"] - 0.5, -0.5),
            )
            panel.set_title(name, fontsize=9)
            panel.set_yticks(range(each["images"]))
            panel.tick_params(labelsize=7)
        panels[-1].set_xlabel("moment of the exposure")
        right.supylabel("image", fontsize=10)
        bar = right.colorbar(shown, ax=list(panels), aspect=30)
        bar.set_label("nearest to the frame (%)", fontsize=8)
    return figure


def title(result):
    """Name of a model by its heads, of a dictionary as from `evaluation.evaluate`."""
    heads = result["num_heads"]
    if heads == 1:
        return "1 head"
    return f"{heads} heads, combined" if result["combine_heads"] else f"{heads} heads"


def _hide_ticks(axes):
    for each in axes.flat:
        each.set_xticks([])
        each.set_yticks([])
