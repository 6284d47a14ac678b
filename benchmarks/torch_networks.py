"""The networks of the zoo in plain PyTorch, to compare speed and memory with.

Each class takes the arguments of the Keras network of its name, but no local
statistics (TLC). `forward` takes images (B, 3, H, W) and gives head images
(B, K, 3, H, W), or a list of them, final stage first. Nothing is padded: H and W are
multiples of 2 ** levels for NAFNet, of 2 ** (levels - 1) for Restormer and HINet, of 4
for XYDeblur, of 8 for MPRNet, and of 64 for MAXIM.

`of` makes the module of a Keras network. Parameters have the official names:
`keras_mhdeblur.convert` loads what `official_state` gives, or a saved `state_dict`, but
for MAXIM's.

The arithmetic is that of the Keras networks; where a 1x1 convolution commutes with an
upsampling, it comes first here too. Modules take images and weights of both memory
formats. On a CPU NAFNet, Restormer and MAXIM are faster with
`torch.channels_last`; for the others it makes little difference.

    python benchmarks/inference.py nafnet_mh_c_width32 \\
        --torch nafnet_mh_c_width32=benchmarks/torch_networks.py:NAFNet
"""

import functools
import itertools

import torch
import torch.nn.functional as F
from torch import nn


def of(network):
    """The PyTorch module of a Keras network, with weights of its own.

    Args:
        network: a network of the zoo.

    Returns:
        A module of the same arguments and shapes of parameters, in training mode.

    Raises:
        ValueError: the network's family is not here, or it has local statistics.
    """
    name = type(network).__name__
    if name not in NETWORKS:
        raise ValueError(
            f"`network` must be one of {', '.join(NETWORKS)}. Received: network={name}"
        )
    config = network.get_config()
    del config["name"], config["trainable"]
    return NETWORKS[name](**config)


class Network(nn.Module):
    """Base of the networks: no local statistics."""

    def __init__(self, tlc_train_size=None):
        super().__init__()
        if tlc_train_size is not None:
            raise ValueError(
                "`tlc_train_size` must be None: these networks have no local "
                f"statistics. Received: tlc_train_size={tlc_train_size}"
            )


def official_state(module):
    """Official names of a network's parameters to NumPy arrays in official layouts.

    What `state_dict` holds, but for MAXIM: its names and layouts are those of Flax.
    """
    if not isinstance(module, MAXIM):
        state = module.state_dict()
        return {name: array.numpy(force=True) for name, array in state.items()}
    state = {}
    for name, layer in module.named_modules():
        for key, parameter in layer.named_parameters(recurse=False):
            array = parameter.numpy(force=True)
            if key == "weight":
                key, array = flax_weight(layer, array)
            state[f"{name}.{key}".replace(".", "/")] = array
    return state


def flax_weight(layer, array):
    """Flax' name of a layer's weight, and the array in its layout."""
    if isinstance(layer, nn.LayerNorm):
        return "scale", array
    if isinstance(layer, nn.Linear):
        return "kernel", array.T
    if isinstance(layer, nn.ConvTranspose2d):
        return "kernel", array.transpose(2, 3, 0, 1)[::-1, ::-1]
    return "kernel", array.transpose(2, 3, 1, 0)


def head_images(residuals, image):
    """(B, K, C, H, W) of residuals (B, K * C, H, W) and the image (B, C, H, W)."""
    return image[:, None] + residuals.unflatten(1, (-1, image.shape[1]))


def conv3x3(inputs, outputs, bias=True):
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)


def depthwise3x3(channels, bias=True):
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=bias)


class ChannelNorm(nn.LayerNorm):
    """Layer normalization of every pixel over its channels."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SupervisedAttention(nn.Module):
    """A stage's head images, and its features weighted by a mask made of them."""

    def __init__(self, width, image_channels, num_heads, kernel_size, bias=True):
        super().__init__()

        def conv(inputs, outputs):
            padding = kernel_size // 2
            return nn.Conv2d(inputs, outputs, kernel_size, padding=padding, bias=bias)

        self.conv1 = conv(width, width)
        self.conv2 = conv(width, num_heads * image_channels)
        self.conv3 = conv(num_heads * image_channels, width)

    def forward(self, x, image):
        heads = head_images(self.conv2(x), image)
        mask = torch.sigmoid(self.conv3(heads.flatten(1, 2)))
        return torch.addcmul(x, self.conv1(x), mask), heads


# === NAFNet, arXiv 2204.04676 ===


class NAFBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm1 = ChannelNorm(channels, eps=1e-6)
        self.conv1 = nn.Conv2d(channels, 2 * channels, 1)
        self.conv2 = depthwise3x3(2 * channels)
        self.sca = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1)
        )
        self.conv3 = nn.Conv2d(channels, channels, 1)
        self.norm2 = ChannelNorm(channels, eps=1e-6)
        self.conv4 = nn.Conv2d(channels, 2 * channels, 1)
        self.conv5 = nn.Conv2d(channels, channels, 1)
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x):
        first, second = self.conv2(self.conv1(self.norm1(x))).chunk(2, dim=1)
        y = first * second
        x = torch.addcmul(x, self.conv3(y * self.sca(y)), self.beta)
        first, second = self.conv4(self.norm2(x)).chunk(2, dim=1)
        return torch.addcmul(x, self.conv5(first * second), self.gamma)


class NAFNet(Network):
    def __init__(
        self,
        width=32,
        encoder_blocks=(1, 1, 1, 28),
        middle_blocks=1,
        decoder_blocks=(1, 1, 1, 1),
        num_heads=4,
        image_channels=3,
        tlc_train_size=None,
    ):
        super().__init__(tlc_train_size)

        def blocks(channels, count):
            return nn.Sequential(*(NAFBlock(channels) for _ in range(count)))

        self.intro = conv3x3(image_channels, width)
        self.encoders, self.downs = nn.ModuleList(), nn.ModuleList()
        self.ups, self.decoders = nn.ModuleList(), nn.ModuleList()
        channels = width
        for count in encoder_blocks:
            self.encoders.append(blocks(channels, count))
            self.downs.append(nn.Conv2d(channels, 2 * channels, 2, stride=2))
            channels *= 2
        self.middle_blks = blocks(channels, middle_blocks)
        for count in decoder_blocks:
            conv = nn.Conv2d(channels, 2 * channels, 1, bias=False)
            self.ups.append(nn.Sequential(conv, nn.PixelShuffle(2)))
            channels //= 2
            self.decoders.append(blocks(channels, count))
        self.ending = conv3x3(width, num_heads * image_channels)

    def forward(self, image):
        x = self.intro(image)
        skips = []
        for encoder, down in zip(self.encoders, self.downs):
            x = encoder(x)
            skips.append(x)
            x = down(x)
        x = self.middle_blks(x)
        for up, decoder in zip(self.ups, self.decoders):
            x = decoder(up(x) + skips.pop())
        return head_images(self.ending(x), image)


# === Restormer, arXiv 2111.09881 ===


class RestormerNorm(nn.Module):
    def __init__(self, channels, norm):
        super().__init__()
        self.body = {"with_bias": ChannelNorm, "bias_free": ChannelScale}[norm](
            channels
        )

    def forward(self, x):
        return self.body(x)


class ChannelScale(nn.Module):
    """Every pixel divided by the standard deviation of its channels."""

    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x):
        x = x.permute(0, 2, 3, 1)
        variance = x.var(dim=-1, keepdim=True, correction=0)
        return (x * torch.rsqrt(variance + 1e-5) * self.weight).permute(0, 3, 1, 2)


class TransposedAttention(nn.Module):
    """Attention of channels to channels, with the cosine of their feature maps."""

    def __init__(self, channels, num_heads, bias):
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=bias)
        self.qkv_dwconv = depthwise3x3(3 * channels, bias)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=bias)

    def forward(self, x):
        heads = len(self.temperature)
        query, key, value = (
            part.flatten(2).unflatten(1, (heads, -1))
            for part in self.qkv_dwconv(self.qkv(x)).chunk(3, dim=1)
        )
        query, key = F.normalize(query, dim=-1), F.normalize(key, dim=-1)
        attention = (query @ key.transpose(-2, -1) * self.temperature).softmax(dim=-1)
        return self.project_out((attention @ value).reshape(x.shape))


class GatedFeedForward(nn.Module):
    def __init__(self, channels, expansion, bias):
        super().__init__()
        hidden = int(channels * expansion)
        self.project_in = nn.Conv2d(channels, 2 * hidden, 1, bias=bias)
        self.dwconv = depthwise3x3(2 * hidden, bias)
        self.project_out = nn.Conv2d(hidden, channels, 1, bias=bias)

    def forward(self, x):
        first, second = self.dwconv(self.project_in(x)).chunk(2, dim=1)
        return self.project_out(F.gelu(first) * second)


class TransformerBlock(nn.Module):
    def __init__(self, channels, num_heads, expansion, bias, norm):
        super().__init__()
        self.norm1 = RestormerNorm(channels, norm)
        self.attn = TransposedAttention(channels, num_heads, bias)
        self.norm2 = RestormerNorm(channels, norm)
        self.ffn = GatedFeedForward(channels, expansion, bias)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))


class Restormer(Network):
    def __init__(
        self,
        width=48,
        num_blocks=(4, 6, 6, 8),
        num_refinement_blocks=4,
        attention_heads=(1, 2, 4, 8),
        ffn_expansion=2.66,
        use_bias=False,
        norm="with_bias",
        num_heads=4,
        image_channels=3,
        tlc_train_size=None,
    ):
        super().__init__(tlc_train_size)
        self.lowest = len(num_blocks) - 1

        def blocks(name, channels, level, count):
            arguments = channels, attention_heads[level], ffn_expansion, use_bias, norm
            made = (TransformerBlock(*arguments) for _ in range(count))
            self.add_module(name, nn.Sequential(*made))

        def resample(name, channels, new_channels, shuffle):
            module = nn.Module()
            conv = conv3x3(channels, new_channels, bias=False)
            module.body = nn.Sequential(conv, shuffle(2))
            self.add_module(name, module)

        self.patch_embed = nn.Module()
        self.patch_embed.proj = conv3x3(image_channels, width, bias=False)
        # Official levels count from 1.
        for level in range(self.lowest):
            number, below, channels = level + 1, level + 2, width << level
            blocks(f"encoder_level{number}", channels, level, num_blocks[level])
            resample(
                f"down{number}_{below}", channels, channels // 2, nn.PixelUnshuffle
            )
            resample(f"up{below}_{number}", 2 * channels, 4 * channels, nn.PixelShuffle)
            if level:
                self.add_module(
                    f"reduce_chan_level{number}",
                    nn.Conv2d(2 * channels, channels, 1, bias=use_bias),
                )
            # At the first level the skip and what comes from below stay beside.
            blocks(
                f"decoder_level{number}",
                channels if level else 2 * channels,
                level,
                num_blocks[level],
            )
        blocks("latent", width << self.lowest, self.lowest, num_blocks[-1])
        last = 2 * width if self.lowest else width
        blocks("refinement", last, 0, num_refinement_blocks)
        self.output = conv3x3(last, num_heads * image_channels, use_bias)

    def forward(self, image):
        x = self.patch_embed.proj(image)
        skips = []
        for number in range(1, self.lowest + 1):
            x = self.get_submodule(f"encoder_level{number}")(x)
            skips.append(x)
            x = self.get_submodule(f"down{number}_{number + 1}").body(x)
        x = self.latent(x)
        for number in reversed(range(1, self.lowest + 1)):
            x = self.get_submodule(f"up{number + 1}_{number}").body(x)
            x = torch.cat([x, skips.pop()], dim=1)
            if number > 1:
                x = self.get_submodule(f"reduce_chan_level{number}")(x)
            x = self.get_submodule(f"decoder_level{number}")(x)
        return head_images(self.output(self.refinement(x)), image)


# === HINet, arXiv 2105.06086 ===


class HINBlock(nn.Module):
    def __init__(self, inputs, channels, relu_slope, normalize=False):
        super().__init__()
        self.relu_slope = relu_slope
        self.conv_1 = conv3x3(inputs, channels)
        self.conv_2 = conv3x3(channels, channels)
        self.identity = nn.Conv2d(inputs, channels, 1)
        self.norm = None
        if normalize:
            self.norm = nn.InstanceNorm2d(channels // 2, affine=True)

    def forward(self, x):
        y = self.conv_1(x)
        if self.norm is not None:
            half = self.norm.num_features
            y = torch.cat([self.norm(y[:, :half]), y[:, half:]], dim=1)
        y = self.conv_2(F.leaky_relu(y, self.relu_slope, inplace=True))
        return F.leaky_relu(y, self.relu_slope, inplace=True) + self.identity(x)


class HINDown(HINBlock):
    """A level of an encoder, with what leads to the next one and joins the stages."""

    def __init__(self, inputs, channels, relu_slope, normalize, lowest, fuse):
        super().__init__(inputs, channels, relu_slope, normalize)
        if not lowest:
            self.downsample = nn.Conv2d(
                channels, channels, 4, stride=2, padding=1, bias=False
            )
            if fuse:
                self.csff_enc = conv3x3(channels, channels)
                self.csff_dec = conv3x3(channels, channels)


class HINUp(nn.Module):
    def __init__(self, channels, relu_slope):
        super().__init__()
        self.up = nn.ConvTranspose2d(2 * channels, channels, 2, stride=2)
        self.conv_block = HINBlock(2 * channels, channels, relu_slope)

    def forward(self, x, skip):
        return self.conv_block(torch.cat([self.up(x), skip], dim=1))


class HINet(Network):
    def __init__(
        self,
        width=64,
        depth=5,
        hin_start=3,
        hin_end=4,
        relu_slope=0.2,
        num_heads=4,
        image_channels=3,
        tlc_train_size=None,
    ):
        super().__init__(tlc_train_size)
        widths = [width << level for level in range(depth)]
        for stage in (1, 2):
            downs, ups, skips = (nn.ModuleList() for _ in range(3))
            for level, channels in enumerate(widths):
                downs.append(
                    HINDown(
                        widths[max(level - 1, 0)],
                        channels,
                        relu_slope,
                        normalize=hin_start <= level <= hin_end,
                        lowest=level == depth - 1,
                        fuse=stage == 2,
                    )
                )
            for channels in reversed(widths[:-1]):
                ups.append(HINUp(channels, relu_slope))
                skips.append(conv3x3(channels, channels))
            self.add_module(f"conv_0{stage}", conv3x3(image_channels, width))
            self.add_module(f"down_path_{stage}", downs)
            self.add_module(f"up_path_{stage}", ups)
            self.add_module(f"skip_conv_{stage}", skips)
        self.sam12 = SupervisedAttention(width, image_channels, num_heads, 3)
        self.cat12 = nn.Conv2d(2 * width, width, 1)
        self.last = conv3x3(width, num_heads * image_channels)

    def forward(self, image):
        encoded, x = self.encode(self.down_path_1, self.conv_01(image))
        decoded = self.decode(self.up_path_1, self.skip_conv_1, encoded, x)
        x, first = self.sam12(decoded[0], image)
        x = self.cat12(torch.cat([self.conv_02(image), x], dim=1))
        encoded, x = self.encode(self.down_path_2, x, list(zip(encoded, decoded)))
        x = self.decode(self.up_path_2, self.skip_conv_2, encoded, x)[0]
        return [head_images(self.last(x), image), first]

    @staticmethod
    def encode(path, x, fused=None):
        """Features of all levels but the lowest, and those of the lowest."""
        *upper, lowest = path
        features = []
        for level, block in enumerate(upper):
            x = block(x)
            if fused is not None:
                encoded, decoded = fused[level]
                x = x + block.csff_enc(encoded) + block.csff_dec(decoded)
            features.append(x)
            x = block.downsample(x)
        return features, lowest(x)

    @staticmethod
    def decode(path, skips, features, x):
        """Features of all levels but the lowest, highest resolution first."""
        outputs = []
        for block, skip, feature in zip(path, skips, reversed(features)):
            x = block(x, skip(feature))
            outputs.append(x)
        return outputs[::-1]


# === XYDeblur, CVPR 2022 ===


class BasicConv(nn.Module):
    """A convolution and a ReLU, or not."""

    def __init__(self, conv, relu=True):
        super().__init__()
        self.main = nn.Sequential(conv)
        if relu:
            self.main.append(nn.ReLU(inplace=True))

    def forward(self, x):
        return self.main(x)


class ResidualBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.main = nn.Sequential(
            BasicConv(conv3x3(channels, channels)),
            BasicConv(conv3x3(channels, channels), relu=False),
        )

    def forward(self, x):
        return x + self.main(x)


class Layers(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x)


class XYDeblur(Network):
    def __init__(self, width=32, num_res_blocks=6, num_heads=4, image_channels=3):
        super().__init__()

        def blocks(channels):
            return [ResidualBlock(channels) for _ in range(num_res_blocks)]

        def down(channels):
            conv = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)
            return Layers(BasicConv(conv), *blocks(2 * channels))

        def up(channels):
            conv = nn.ConvTranspose2d(channels, channels // 2, 4, stride=2, padding=1)
            return Layers(*blocks(channels), BasicConv(conv))

        intro = BasicConv(conv3x3(image_channels, width))
        self.Encoder1 = Layers(intro, *blocks(width))
        self.Encoder2 = down(width)
        self.Encoder3 = down(2 * width)
        self.Decoder1_1 = up(4 * width)
        self.Convs1_1 = BasicConv(nn.Conv2d(4 * width, 2 * width, 1))
        self.Decoder1_2 = up(2 * width)
        self.Convs1_2 = BasicConv(nn.Conv2d(2 * width, width, 1))
        self.Decoder1_3 = Layers(*blocks(width))
        outputs = conv3x3(width, num_heads * image_channels)
        self.Decoder1_4 = BasicConv(outputs, relu=False)

    def forward(self, image):
        high = self.Encoder1(image)
        middle = self.Encoder2(high)
        features = high, middle, self.Encoder3(middle)
        first = self.decode(*features)
        second = self.decode(*(torch.rot90(x, 1, (2, 3)) for x in features))
        residuals = torch.cat([first, torch.rot90(second, -1, (2, 3))], dim=1)
        return head_images(2 * residuals, image)

    def decode(self, high, middle, low):
        x = torch.cat([self.Decoder1_1(low), middle], dim=1)
        x = torch.cat([self.Decoder1_2(self.Convs1_1(x)), high], dim=1)
        return self.Decoder1_4(self.Decoder1_3(self.Convs1_2(x)))


# === MPRNet, arXiv 2102.02808 ===


class ChannelAttention(nn.Module):
    def __init__(self, channels, reduction, bias):
        super().__init__()
        self.conv_du = nn.Sequential(
            nn.Conv2d(channels, channels // reduction, 1, bias=bias),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // reduction, channels, 1, bias=bias),
            nn.Sigmoid(),
        )

    def forward(self, x):
        return x * self.conv_du(F.adaptive_avg_pool2d(x, 1))


class ChannelAttentionBlock(nn.Module):
    def __init__(self, channels, reduction, bias, activation):
        super().__init__()
        self.body = nn.Sequential(
            conv3x3(channels, channels, bias),
            activation,
            conv3x3(channels, channels, bias),
        )
        self.CA = ChannelAttention(channels, reduction, bias)

    def forward(self, x):
        return x + self.CA(self.body(x))


class OriginalResolutionBlock(nn.Module):
    def __init__(self, channels, count, *options):
        super().__init__()
        blocks = (ChannelAttentionBlock(channels, *options) for _ in range(count))
        self.body = nn.Sequential(*blocks, conv3x3(channels, channels, bias=False))

    def forward(self, x):
        return x + self.body(x)


class Down(nn.Module):
    def __init__(self, channels, new_channels):
        super().__init__()
        conv = nn.Conv2d(channels, new_channels, 1, bias=False)
        self.down = nn.Sequential(nn.AvgPool2d(2), conv)  # bilinear

    def forward(self, x):
        return self.down(x)


class Up(nn.Module):
    """The 1x1 convolution of an upsampling, which is left to `upsample`.

    They commute: before the upsampling the convolution costs a quarter.
    """

    def __init__(self, channels, new_channels):
        super().__init__()
        conv = nn.Conv2d(channels, new_channels, 1, bias=False)
        self.up = nn.Sequential(nn.Identity(), conv)

    def forward(self, x):
        return self.up(x)


def upsample(x, factor=2):
    return F.interpolate(x, scale_factor=factor, mode="bilinear")


class MPREncoder(nn.Module):
    def __init__(self, widths, blocks, fuse=None):
        super().__init__()
        high, middle, low = widths
        self.encoder_level1 = blocks(high)
        self.down12 = Down(high, middle)
        self.encoder_level2 = blocks(middle)
        self.down23 = Down(middle, low)
        self.encoder_level3 = blocks(low)
        if fuse is not None:
            for number, channels in enumerate(widths, 1):
                for part in ("enc", "dec"):
                    conv = nn.Conv2d(channels, channels, 1, bias=fuse)
                    self.add_module(f"csff_{part}{number}", conv)

    def forward(self, x, encoded=None, decoded=None):
        high = self.encoder_level1(x)
        if encoded is not None:
            high = high + self.csff_enc1(encoded[0]) + self.csff_dec1(decoded[0])
        middle = self.encoder_level2(self.down12(high))
        if encoded is not None:
            middle = middle + self.csff_enc2(encoded[1]) + self.csff_dec2(decoded[1])
        low = self.encoder_level3(self.down23(middle))
        if encoded is not None:
            low = low + self.csff_enc3(encoded[2]) + self.csff_dec3(decoded[2])
        return high, middle, low


class MPRDecoder(nn.Module):
    def __init__(self, widths, blocks, block):
        super().__init__()
        high, middle, low = widths
        self.decoder_level1 = blocks(high)
        self.decoder_level2 = blocks(middle)
        self.decoder_level3 = blocks(low)
        self.skip_attn1, self.skip_attn2 = block(high), block(middle)
        self.up21, self.up32 = Up(middle, high), Up(low, middle)

    def forward(self, high, middle, low):
        low = self.decoder_level3(low)
        middle = self.decoder_level2(upsample(self.up32(low)) + self.skip_attn2(middle))
        high = self.decoder_level1(upsample(self.up21(middle)) + self.skip_attn1(high))
        return high, middle, low


class ORSNet(nn.Module):
    """The last stage of MPRNet, at the original resolution."""

    def __init__(self, channels, widths, num_cab, reduction, bias, activation):
        super().__init__()
        high, middle, low = widths
        for number in (1, 2, 3):
            orb = OriginalResolutionBlock(
                channels, num_cab, reduction, bias, activation
            )
            self.add_module(f"orb{number}", orb)
        for part in ("enc", "dec"):
            self.add_module(f"up_{part}1", Up(middle, high))
            ups = nn.Sequential(Up(low, middle), Up(middle, high))
            self.add_module(f"up_{part}2", ups)
            for number in (1, 2, 3):
                conv = nn.Conv2d(high, channels, 1, bias=bias)
                self.add_module(f"conv_{part}{number}", conv)

    def forward(self, x, encoded, decoded):
        x = self.orb1(x) + self.conv_enc1(encoded[0]) + self.conv_dec1(decoded[0])
        y = self.conv_enc2(self.up_enc1(encoded[1]))
        y = y + self.conv_dec2(self.up_dec1(decoded[1]))
        x = self.orb2(x) + upsample(y)
        y = self.conv_enc3(self.up_enc2(encoded[2]))
        y = y + self.conv_dec3(self.up_dec2(decoded[2]))
        return self.orb3(x) + upsample(upsample(y))


class MPRNet(Network):
    def __init__(
        self,
        width=96,
        unet_step=48,
        orsnet_step=32,
        num_cab=8,
        reduction=4,
        use_bias=False,
        num_heads=4,
        image_channels=3,
        tlc_train_size=None,
    ):
        super().__init__(tlc_train_size)
        options = reduction, use_bias, nn.PReLU()  # all have the same slope
        widths = [width + level * unet_step for level in range(3)]
        wide = width + orsnet_step

        def block(channels):
            return ChannelAttentionBlock(channels, *options)

        def blocks(channels):
            return nn.Sequential(block(channels), block(channels))

        def intro():
            conv = conv3x3(image_channels, width, use_bias)
            return nn.Sequential(conv, block(width))

        def supervise():
            return SupervisedAttention(width, image_channels, num_heads, 1, use_bias)

        self.shallow_feat1, self.shallow_feat2 = intro(), intro()
        self.shallow_feat3 = intro()
        self.stage1_encoder = MPREncoder(widths, blocks)
        self.stage1_decoder = MPRDecoder(widths, blocks, block)
        self.stage2_encoder = MPREncoder(widths, blocks, fuse=use_bias)
        self.stage2_decoder = MPRDecoder(widths, blocks, block)
        self.stage3_orsnet = ORSNet(wide, widths, num_cab, *options)
        self.sam12, self.sam23 = supervise(), supervise()
        self.concat12 = conv3x3(2 * width, width, use_bias)
        self.concat23 = conv3x3(2 * width, wide, use_bias)
        self.tail = conv3x3(wide, num_heads * image_channels, use_bias)

    def forward(self, image):
        # Patches of images are images of the batch.
        halves = split(image, 2)
        encoded = self.stage1_encoder(self.shallow_feat1(split(halves, 3)))
        encoded = [join(x, 3) for x in encoded]
        decoded = self.stage1_decoder(*encoded)
        x, first = self.sam12(join(decoded[0], 2), image)

        x = torch.cat([self.shallow_feat2(halves), split(x, 2)], dim=1)
        encoded = self.stage2_encoder(self.concat12(x), encoded, decoded)
        encoded = [join(x, 2) for x in encoded]
        decoded = self.stage2_decoder(*encoded)
        x, second = self.sam23(decoded[0], image)

        x = self.concat23(torch.cat([self.shallow_feat3(image), x], dim=1))
        x = self.stage3_orsnet(x, encoded, decoded)
        return [head_images(self.tail(x), image), second, first]


def split(x, axis):
    """Both halves of images along an axis, as images of the batch."""
    return torch.cat(x.chunk(2, dim=axis))


def join(x, axis):
    """Undoes `split`."""
    return torch.cat(x.chunk(2), dim=axis)


# === MAXIM, arXiv 2201.02973: features are channels last, (B, H, W, C) ===


class Conv(nn.Conv2d):
    """A convolution that halves the size with stride 2 and else keeps it."""

    def __init__(self, inputs, outputs, kernel_size, stride=1):
        padding = (kernel_size - 1) // 2
        super().__init__(inputs, outputs, kernel_size, stride, padding)

    def forward(self, x):
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class ConvTranspose(nn.ConvTranspose2d):
    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs, 2, stride=2)

    def forward(self, x):
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class TokenMixing(nn.Linear):
    """A dense layer over the pixels of blocks or of a grid over the whole image."""

    def __init__(self, side, axis):
        super().__init__(side**2, side**2)
        self.side = side
        self.axis = axis

    def forward(self, x):
        if self.axis == "block":
            sizes, order, back = (-1, self.side), (0, 1, 3, 5, 2, 4), (0, 1, 4, 2, 5, 3)
        else:
            sizes, order, back = (self.side, -1), (0, 2, 4, 5, 1, 3), (0, 4, 1, 5, 2, 3)
        y = x.unflatten(2, sizes).unflatten(1, sizes).permute(order).flatten(-2)
        y = super().forward(y).unflatten(-1, (self.side, self.side))
        return y.permute(back).reshape(x.shape)


class GatingUnit(nn.Module):
    def __init__(self, channels, side, axis):
        super().__init__()
        self.intermediate_layernorm = nn.LayerNorm(channels, eps=1e-6)
        self.Dense_0 = TokenMixing(side, axis)

    def forward(self, u, v):
        return u * (self.Dense_0(self.intermediate_layernorm(v)) + 1)


class GatedMLP(nn.Module):
    def __init__(self, channels, side, axis):
        super().__init__()
        self.LayerNorm = nn.LayerNorm(channels, eps=1e-6)
        self.in_project = nn.Linear(channels, 2 * channels)
        self.gating_unit = f"{axis.title()}GatingUnit"
        self.add_module(self.gating_unit, GatingUnit(channels, side, axis))
        self.out_project = nn.Linear(channels, channels)

    def forward(self, x):
        y = F.gelu(self.in_project(self.LayerNorm(x)), approximate="tanh")
        y = getattr(self, self.gating_unit)(*y.chunk(2, dim=-1))
        return x + self.out_project(y)


class MultiAxisBlock(nn.Module):
    def __init__(self, channels, side):
        super().__init__()
        self.LayerNorm_in = nn.LayerNorm(channels, eps=1e-6)
        self.in_project = nn.Linear(channels, 2 * channels)
        self.GridGmlpLayer = GatedMLP(channels, side, "grid")
        self.BlockGmlpLayer = GatedMLP(channels, side, "block")
        self.out_project = nn.Linear(2 * channels, channels)

    def forward(self, x):
        y = F.gelu(self.in_project(self.LayerNorm_in(x)), approximate="tanh")
        u, v = y.chunk(2, dim=-1)
        y = torch.cat([self.GridGmlpLayer(u), self.BlockGmlpLayer(v)], dim=-1)
        return x + self.out_project(y)


class GatingWeights(nn.Module):
    def __init__(self, channels, side):
        super().__init__()
        self.LayerNorm_in = nn.LayerNorm(channels, eps=1e-6)
        self.in_project = nn.Linear(channels, 2 * channels)
        self.Dense_0 = TokenMixing(side, "grid")
        self.Dense_1 = TokenMixing(side, "block")
        self.out_project = nn.Linear(2 * channels, channels)

    def forward(self, x):
        y = F.gelu(self.in_project(self.LayerNorm_in(x)), approximate="tanh")
        u, v = y.chunk(2, dim=-1)
        return self.out_project(torch.cat([self.Dense_0(u), self.Dense_1(v)], dim=-1))


class CrossGating(nn.Module):
    def __init__(self, x_channels, y_channels, channels, side, up=False):
        super().__init__()
        self.ConvTranspose_0 = ConvTranspose(y_channels, channels) if up else None
        self.Conv_0 = Conv(x_channels, channels, 1)
        self.Conv_1 = Conv(channels if up else y_channels, channels, 1)
        self.LayerNorm_x = nn.LayerNorm(channels, eps=1e-6)
        self.LayerNorm_y = nn.LayerNorm(channels, eps=1e-6)
        self.in_project_x = nn.Linear(channels, channels)
        self.in_project_y = nn.Linear(channels, channels)
        self.SplitHeadMultiAxisGating_x = GatingWeights(channels, side)
        self.SplitHeadMultiAxisGating_y = GatingWeights(channels, side)
        self.out_project_x = nn.Linear(channels, channels)
        self.out_project_y = nn.Linear(channels, channels)

    def forward(self, x, y):
        if self.ConvTranspose_0 is not None:
            y = self.ConvTranspose_0(y)
        x, y = self.Conv_0(x), self.Conv_1(y)
        inner_x = F.gelu(self.in_project_x(self.LayerNorm_x(x)), approximate="tanh")
        inner_y = F.gelu(self.in_project_y(self.LayerNorm_y(y)), approximate="tanh")
        gated = inner_y * self.SplitHeadMultiAxisGating_x(inner_x)
        y = y + self.out_project_y(gated)
        gated = inner_x * self.SplitHeadMultiAxisGating_y(inner_y)
        return x + y + self.out_project_x(gated), y


class ChannelMeans(nn.Module):
    """Channel attention with biases, channels last."""

    def __init__(self, channels, reduction):
        super().__init__()
        self.Conv_0 = Conv(channels, channels // reduction, 1)
        self.Conv_1 = Conv(channels // reduction, channels, 1)

    def forward(self, x):
        y = x.mean(dim=(1, 2), keepdim=True)
        return x * torch.sigmoid(self.Conv_1(F.relu(self.Conv_0(y), inplace=True)))


class ResidualChannelAttention(nn.Module):
    def __init__(self, channels, reduction):
        super().__init__()
        self.LayerNorm = nn.LayerNorm(channels, eps=1e-6)
        self.conv1 = Conv(channels, channels, 3)
        self.conv2 = Conv(channels, channels, 3)
        self.channel_attention = ChannelMeans(channels, reduction)

    def forward(self, x):
        y = F.leaky_relu(self.conv1(self.LayerNorm(x)), 0.2, inplace=True)
        return x + self.channel_attention(self.conv2(y))


class ChannelMixing(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.Dense_0 = nn.Linear(channels, channels)
        self.Dense_1 = nn.Linear(channels, channels)

    def forward(self, x):
        return self.Dense_1(F.gelu(self.Dense_0(x), approximate="tanh"))


class ResidualDenseChannelAttention(nn.Module):
    def __init__(self, channels, reduction):
        super().__init__()
        self.LayerNorm = nn.LayerNorm(channels, eps=1e-6)
        self.channel_mixing = ChannelMixing(channels)
        self.channel_attention = ChannelMeans(channels, reduction)

    def forward(self, x):
        return x + self.channel_attention(self.channel_mixing(self.LayerNorm(x)))


class Groups(nn.Module):
    """Pairs of blocks after a 1x1 convolution, and a sum with what it gave."""

    def __init__(self, names, attention, inputs, channels, side, count, reduction):
        super().__init__()
        self.merge = names[0]
        self.add_module(self.merge, Conv(inputs, channels, 1))
        self.pairs = []
        for index in range(count):
            pair = f"SplitHeadMultiAxisGmlpLayer_{index}", f"{names[1]}{index}"
            self.add_module(pair[0], MultiAxisBlock(channels, side))
            self.add_module(pair[1], attention(channels, reduction))
            self.pairs.extend(pair)

    def forward(self, x):
        x = long = getattr(self, self.merge)(x)
        for name in self.pairs:
            x = getattr(self, name)(x)
        return x + long


class UNetBlock(Groups):
    def __init__(self, *arguments):
        names = "Conv_0", "channel_attention_block_1"
        super().__init__(names, ResidualChannelAttention, *arguments)


class Bottleneck(Groups):
    def __init__(self, *arguments):
        names = "input_proj", "channel_attention_block_1_"
        super().__init__(names, ResidualDenseChannelAttention, *arguments)


class UNetEncoder(UNetBlock):
    def __init__(self, inputs, channels, side, count, reduction, gated):
        super().__init__(inputs, channels, side, count, reduction)
        self.cross_gating_block = None
        if gated:
            self.cross_gating_block = CrossGating(channels, channels, channels, side)
        self.Conv_1 = Conv(channels, channels, 4, stride=2)

    def forward(self, x, skip, gate=None):
        """Features of this level, and those for the next one."""
        x = super().forward(torch.cat([x, skip], dim=-1))
        if gate is not None:
            x, _ = self.cross_gating_block(x, gate)
        return x, self.Conv_1(x)


class UNetDecoder(nn.Module):
    def __init__(self, inputs, channels, *arguments):
        super().__init__()
        self.ConvTranspose_0 = ConvTranspose(inputs, channels)
        # Of three levels, and of what comes from below.
        self.UNetEncoderBlock_0 = UNetBlock(4 * channels, channels, *arguments)

    def forward(self, x, skip):
        x = torch.cat([self.ConvTranspose_0(x), skip], dim=-1)
        return self.UNetEncoderBlock_0(x)


class ScaledConv(nn.Module):
    """A 1x1 convolution and bilinear resizing; an enlargement comes after it."""

    def __init__(self, inputs, outputs, ratio):
        super().__init__()
        self.Conv_0 = Conv(inputs, outputs, 1)
        self.ratio = ratio

    def forward(self, x):
        if self.ratio < 1:
            return self.Conv_0(self.resize(x, antialias=True))
        x = self.Conv_0(x)
        return x if self.ratio == 1 else self.resize(x)

    def resize(self, x, **options):
        options.update(scale_factor=self.ratio, mode="bilinear")
        return F.interpolate(x.permute(0, 3, 1, 2), **options).permute(0, 2, 3, 1)


class MaximSupervision(nn.Module):
    def __init__(self, channels, image_channels, num_heads):
        super().__init__()
        self.Conv_0 = Conv(channels, channels, 3)
        self.Conv_1 = Conv(channels, num_heads * image_channels, 3)
        self.Conv_2 = Conv(num_heads * image_channels, channels, 3)

    def forward(self, x, image):
        heads = head_images(self.Conv_1(x).permute(0, 3, 1, 2), image)
        mask = torch.sigmoid(self.Conv_2(heads.flatten(1, 2).permute(0, 2, 3, 1)))
        return torch.addcmul(x, self.Conv_0(x), mask), heads


class MAXIM(Network):
    def __init__(
        self,
        width=32,
        stages=3,
        num_groups=2,
        num_bottlenecks=2,
        sides=(16, 16, 8),
        bottleneck_side=8,
        reduction=4,
        scale_outputs=False,
        num_heads=4,
        image_channels=3,
    ):
        super().__init__()
        self.stages = stages
        self.num_bottlenecks = num_bottlenecks
        self.scale_outputs = scale_outputs
        levels = range(3)
        widths = [width << level for level in levels]
        number = 0
        for stage in range(stages):
            add = functools.partial(self.add_part, stage)
            for level, (channels, side) in enumerate(zip(widths, sides)):
                options = channels, side, num_groups, reduction
                inputs = channels + widths[max(level - 1, 0)]
                add(f"input_conv_{level}", Conv(image_channels, channels, 3))
                encoder = UNetEncoder(inputs, *options, gated=stage > 0)
                add(f"encoder_block_{level}", encoder)
                below = widths[min(level + 1, 2)]
                gating = CrossGating(3 * channels, below, channels, side, up=True)
                add(f"cross_gating_block_{level}", gating)
                add(f"decoder_block_{level}", UNetDecoder(below, *options))
                if stage:
                    fusion = CrossGating(channels, channels, channels, side)
                    add(f"input_fuse_sam_{level}", fusion)
                if stage < stages - 1:
                    supervision = MaximSupervision(channels, image_channels, num_heads)
                    add(f"supervised_attention_module_{level}", supervision)
                elif scale_outputs or not level:
                    heads = Conv(channels, num_heads * image_channels, 3)
                    add(f"output_conv_{level}", heads)
            for index in range(num_bottlenecks):
                options = widths[2], bottleneck_side, num_groups, reduction
                add(f"global_block_{index}", Bottleneck(widths[2], *options))
            # These are numbered in the order of their use.
            for others in (levels, reversed(levels)):
                for level, other in itertools.product(reversed(levels), list(others)):
                    conv = ScaledConv(
                        widths[other], widths[level], 2.0 ** (other - level)
                    )
                    self.add_module(f"UpSampleRatio_{number}", conv)
                    number += 1

    def add_part(self, stage, name, module):
        self.add_module(f"stage_{stage}_{name}", module)

    def part(self, stage, name):
        return getattr(self, f"stage_{stage}_{name}")

    def fused(self, number, features):
        """Features of all levels, resized to one; `number` is the first module's."""
        return torch.cat(
            [
                getattr(self, f"UpSampleRatio_{number + index}")(x)
                for index, x in enumerate(features)
            ],
            dim=-1,
        )

    def forward(self, image):
        image = image.contiguous(memory_format=torch.channels_last)
        # Of each cell the pixel behind its middle.
        images = [image, image[:, :, 1::2, 1::2], image[:, :, 2::4, 2::4]]
        outputs = [[], [], []]
        supervised, gates = None, [None] * 3
        for stage in range(self.stages):
            part = functools.partial(self.part, stage)
            x, encoded = None, []
            for level, scaled in enumerate(images):
                skip = part(f"input_conv_{level}")(scaled.permute(0, 2, 3, 1))
                if supervised is not None:
                    skip, _ = part(f"input_fuse_sam_{level}")(skip, supervised[level])
                # At the first level what comes from above is the skip itself.
                encoder = part(f"encoder_block_{level}")
                y, x = encoder(skip if x is None else x, skip, gates[level])
                encoded.append(y)
            for index in range(self.num_bottlenecks):
                x = part(f"global_block_{index}")(x)
            y, gated, decoded = x, [], []
            for step, level in enumerate((2, 1, 0)):
                fused = self.fused(18 * stage + 3 * step, encoded)
                skip, y = part(f"cross_gating_block_{level}")(fused, y)
                gated.append(skip)
            for step, level in enumerate((2, 1, 0)):
                fused = self.fused(18 * stage + 9 + 3 * step, gated)
                x = part(f"decoder_block_{level}")(x, fused)
                decoded.insert(0, x)
            if stage == self.stages - 1:
                for level in range(3 if self.scale_outputs else 1):
                    x = part(f"output_conv_{level}")(decoded[level])
                    heads = head_images(x.permute(0, 3, 1, 2), images[level])
                    outputs[level].insert(0, heads)
                break
            supervised = []
            for level, x in enumerate(decoded):
                attention = part(f"supervised_attention_module_{level}")
                x, heads = attention(x, images[level])
                supervised.append(x)
                outputs[level].insert(0, heads)
            gates = [e + d for e, d in zip(encoded, decoded)]
        outputs = sum(outputs if self.scale_outputs else outputs[:1], [])
        return outputs if len(outputs) > 1 else outputs[0]


NETWORKS = {
    cls.__name__: cls for cls in (NAFNet, Restormer, HINet, XYDeblur, MPRNet, MAXIM)
}
