import numpy as np
import pytest

from keras_mhdeblur.convert.recognition import recognize

# Official argument to ours, by architecture.
OFFICIAL = {
    "nafnet": {
        "width": "width",
        "enc_blk_nums": "encoder_blocks",
        "middle_blk_num": "middle_blocks",
        "dec_blk_nums": "decoder_blocks",
        "img_channel": "image_channels",
    },
    "restormer": {
        "dim": "width",
        "num_blocks": "num_blocks",
        "num_refinement_blocks": "num_refinement_blocks",
        "heads": "attention_heads",
        "ffn_expansion_factor": "ffn_expansion",
        "bias": "use_bias",
        "LayerNorm_type": "norm",
        "inp_channels": "image_channels",
    },
    "hinet": {
        "wf": "width",
        "depth": "depth",
        "hin_position_left": "hin_start",
        "hin_position_right": "hin_end",
        "in_chn": "image_channels",
    },
    "mprnet": {
        "n_feat": "width",
        "scale_unetfeats": "unet_step",
        "scale_orsnetfeats": "orsnet_step",
        "num_cab": "num_cab",
        "reduction": "reduction",
        "bias": "use_bias",
        "in_c": "image_channels",
    },
    "xydeblur": {"base_channel": "width", "num_res": "num_res_blocks"},
}
VALUES = {"WithBias": "with_bias", "BiasFree": "bias_free"}


@pytest.mark.parametrize("architecture", ["auto", "given"])
@pytest.mark.parametrize(
    "name",
    [
        *("nafnet_baseline", "nafnet_mh_k3", "nafnet_mhc_k4", "nafnet_mhc_k4_37x51"),
        *("restormer_baseline", "restormer_mhc_k4", "restormer_mhc_k4_biasfree"),
        *("hinet_baseline", "hinet_mhc_k4", "mprnet_baseline", "mprnet_mhc_k4"),
        "xydeblur",
    ],
)
def test_official_arguments(golden, name, architecture):
    golden = golden(name)
    key = name.split("_")[0]
    given = architecture if architecture == "auto" else key.upper()
    found = recognize(golden.state(), given)
    official = golden.config["kwargs"]
    expected = {"image_channels": 3, "num_heads": official.get("n_heads", 1)}
    for theirs, ours in OFFICIAL[key].items():
        value = official[theirs]
        value = VALUES.get(value, value) if isinstance(value, str) else value
        expected[ours] = tuple(value) if isinstance(value, list) else value
    assert found.architecture.lower() == key
    assert found.arguments == expected
    if key == "hinet":
        assert found.assumed["relu_slope"] == official["relu_slope"]
    assert found.assumed.get("combine_heads", True) == (
        found.arguments["num_heads"] > 1 or key == "xydeblur"
    )


def shaped(state, **changes):
    """A state dictionary with other shapes by name, None for none."""
    changes = {name.replace("__", "."): shape for name, shape in changes.items()}
    shapes = {name: array.shape for name, array in state.items()} | changes
    return {name: np.empty(s, "i1") for name, s in shapes.items() if s is not None}


def test_biases(golden):
    state = shaped(golden("restormer_mhc_k4").state(), output__bias=(12,))
    assert recognize(state).arguments["use_bias"]
    state = shaped(golden("mprnet_mhc_k4").state(), tail__bias=(12,))
    assert recognize(state).arguments["use_bias"]


def test_hinet_without_norms(golden):
    state = golden("hinet_mhc_k4").state()
    arguments = recognize({k: v for k, v in state.items() if ".norm." not in k})
    # No level lies between.
    assert arguments.arguments["hin_start"] == arguments.arguments["depth"]


@pytest.mark.parametrize(
    ("width", "factor", "expected"),
    [(48, 2.66, 2.66), (8, 2, 2), (48, 3, 3), (48, 2.5, 2.5), (10, 2.27, 2.27)],
)
def test_expansion(golden, width, factor, expected):
    levels = ("encoder_level1", "encoder_level2", "encoder_level3", "latent")
    changes = {
        f"{name}.0.ffn.project_out.weight": (
            width << level,
            int(factor * (width << level)),
            1,
            1,
        )
        for level, name in enumerate(levels)
    }
    changes["patch_embed.proj.weight"] = (width, 3, 3, 3)
    changes["up4_3.body.0.weight"] = (16 * width, 8 * width, 3, 3)
    state = shaped(golden("restormer_mhc_k4").state(), **changes)
    found = recognize(state).arguments["ffn_expansion"]
    assert [int(found * (width << level)) for level in range(4)] == [
        int(factor * (width << level)) for level in range(4)
    ]
    assert found == pytest.approx(expected, abs=0.02)


def test_unknown_architecture(golden):
    state = golden("nafnet_mhc_k4").state()
    state = {name: array for name, array in state.items() if name[:5] != "decod"}
    others = {f"backbone.{i}.weight\x1b": np.zeros(2) for i in range(len(state))}
    others["sam12.conv1.weight"] = np.zeros(2)
    with pytest.raises(ValueError) as caught:
        recognize({**state, **others})
    lines = str(caught.value).splitlines()
    assert f"unknown. Of its {len(state) + len(others)} weights" in lines[0]
    assert "NAFNet: intro (2), ending (2), encoders (" in lines[1]
    assert lines[2].strip() == "HINet: sam12 (1)"
    assert lines[3].strip() == "MPRNet: sam12 (1)"
    assert lines[4].strip() == f"not recognised: backbone ({len(state)})"


def test_unknown_name(golden):
    with pytest.raises(ValueError, match="must be auto, nafnet, .*'mimo'"):
        recognize(golden("xydeblur").state(), "mimo")


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("nafnet_mhc_k4", {"intro__weight": None}, "missing: intro.weight"),
        ("nafnet_mhc_k4", {"intro__weight": (8,)}, r"misshapen: intro.weight \(8,\)"),
        ("nafnet_mhc_k4", {"intro__weight": (0, 3, 3, 3)}, "misshapen: intro.weight"),
        ("nafnet_mhc_k4", {"ending__weight": (10, 8, 3, 3)}, "ending.weight must make"),
        ("restormer_mhc_k4", {"output__weight": (2, 8, 3, 3)}, "output.weight must"),
        (
            "restormer_mhc_k4",
            {"latent__0__ffn__project_out__weight": (64, 9, 1, 1)},
            "by one factor",
        ),
        (
            "mprnet_mhc_k4",
            {"shallow_feat1__1__CA__conv_du__0__weight": (9, 10, 1, 1)},
            "by one divisor",
        ),
    ],
)
def test_wrong_anchors(golden, name, changes, expected):
    with pytest.raises(ValueError, match=expected):
        recognize(shaped(golden(name).state(), **changes))


@pytest.mark.parametrize(
    ("name", "changes", "named"),
    [
        ("nafnet_mhc_k4", {"intro__weight": (9999, 3, 1, 1)}, "downs.2.weight"),
        ("nafnet_mhc_k4", {"downs__9__weight": (1,)}, "downs.3.weight"),
        (
            "restormer_mhc_k4",
            {"patch_embed__proj__weight": (9999, 3, 1, 1)},
            "up4_3.body.0.weight",
        ),
        ("hinet_mhc_k4", {"conv_01__weight": (9999, 3, 1, 1)}, "up_path_1.0.up.weight"),
        (
            "hinet_mhc_k4",
            {f"down_path_1__{level}__a": (1,) for level in range(40)},
            "up_path_1.0.up.weight",
        ),
        (
            "mprnet_mhc_k4",
            {"stage1_encoder__down12__down__1__weight": (9999, 10, 1, 1)},
            "stage1_encoder.down23.down.1.weight",
        ),
        ("mprnet_mhc_k4", {"tail__weight": (12, 9999, 3, 3)}, "concat23.weight"),
        (
            "xydeblur",
            {"Encoder1__layers__0__main__0__weight": (9999, 3, 1, 1)},
            "Convs1_1.main.0.weight",
        ),
    ],
)
def test_small_files_cannot_claim_large_networks(golden, name, changes, named):
    with pytest.raises(ValueError, match=rf"(missing|misshapen): {named}"):
        recognize(shaped(golden(name).state(), **changes))
