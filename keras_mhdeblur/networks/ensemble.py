"""Several networks as one: the head images of all in one stack."""

from collections.abc import Sequence
from typing import Any, Self

import keras
from keras import ops

from keras_mhdeblur.networks.registry import peak_bytes_per_pixel
from keras_mhdeblur.utils.types import CropSize

# Bytes of a value of the heads, float32.
_VALUE_BYTES = 4


@keras.saving.register_keras_serializable(package="keras_mhdeblur")
class Ensemble(keras.Model):
    """Several networks whose heads are those of one network.

    Input: blurry images (B, H, W, C), float in [0, 1], of every size that all members
    take. Output: head images (B, K1 + K2 + ..., H, W, C), those of the first member
    first, then those of the second, and so on. Each stack is the final stage of its
    member, in training, too: inner stages are no outputs, and a loss does not see them.

    All heads combine: the hypotheses of a `Deblurrer` with two members of four heads
    are 36, and those pairs with one head of each member are among them. Members are
    trained together, at global statistics, or only some of them (`trainable`).

    Args:
        members: at least two networks with the same `image_channels`, for example of
            `keras_mhdeblur.networks`. Their heads are images by themselves, which those
            of `XYDeblur` are not. An `Ensemble` stands for its members.
        name: name of the model.
        trainable: whether any weight is trained.

    Raises:
        ValueError: there are fewer members, or they do not fit each other.

    Example:

    ```python
    members = [NAFNet(width=16, num_heads=4), MAXIM(stages=1, num_heads=4)]
    heads = Ensemble(members)(blurry)  # (B, 8, H, W, 3)
    ```
    """

    # The pairs of heads that the hypotheses average, see `hypotheses.pairs.Pairs`.
    combination: bool | str = True

    def __init__(
        self,
        members: Sequence[keras.Model],
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        # The members cast for themselves: the blurry image reaches them unrounded.
        super().__init__(name=name, autocast=False)
        self.members = tuple(_flat(members))
        _check(self.members)
        if not trainable:  # True would thaw layers that another network shares
            self.trainable = False
        self.built = True

    @property
    def num_heads(self) -> int:
        """Number of head images K in the stack, of all members."""
        return sum(map(_num_heads, self.members))

    @property
    def num_head_images(self) -> int:
        """The same."""
        return self.num_heads

    @property
    def image_channels(self) -> int:
        """Channels C of the images."""
        return _image_channels(self.members[0])

    @property
    def tile_size(self) -> int | None:
        """The smallest `tile_size` of the members; None where none has one."""
        sizes = [getattr(member, "tile_size", None) for member in self.members]
        return min((size for size in sizes if size is not None), default=None)

    @property
    def peak_bytes_per_pixel(self) -> float:
        """Estimate of the memory that inference takes, in bytes per pixel.

        The engines run one member after the other: it is that of the largest, and the
        head images of the others.
        """
        per_head = _VALUE_BYTES * self.image_channels
        return max(
            peak_bytes_per_pixel(member)
            + per_head * (self.num_heads - _num_heads(member))
            for member in self.members
        )

    def call(self, images, training=False):
        stacks = [member(images, training=training) for member in self.members]
        finals = [s[0] if isinstance(s, (list, tuple)) else s for s in stacks]
        return ops.concatenate(finals, axis=1)

    def local_statistics(self, train_size: CropSize) -> tuple[CropSize, ...]:
        """What `with_local_statistics` gives each member, None where it has no TLC.

        Args:
            train_size: size in pixels of the training crops, one number or (height,
                width); None for global statistics.

        Raises:
            ValueError: it is a size, and no member has local statistics.
        """
        local = [has_local_statistics(member) for member in self.members]
        if train_size is not None and not any(local):
            raise ValueError(
                "`train_size` must be None: no member of the Ensemble has a "
                f"`tlc_train_size`. Received: train_size={train_size!r}"
            )
        return tuple(train_size if has else None for has in local)

    def with_local_statistics(self, train_size: CropSize = 256) -> Self:
        """The same networks, sharing these weights, with TLC.

        Members that have no local statistics stay as they are.

        Args:
            train_size: size in pixels of the crops the members were trained on, one
                number or (height, width); None for global statistics.

        Returns:
            An `Ensemble` whose layers are the layers of this one.

        Raises:
            ValueError: it is a size, and no member has local statistics.
        """
        self.local_statistics(train_size)
        return self._of(
            member.with_local_statistics(train_size)
            if has_local_statistics(member)
            else member
            for member in self.members
        )

    def with_stages(self, stages: int) -> Self:
        """The same networks ending after fewer stages, sharing these weights.

        Members that have no more stages, or none at all, stay as they are.

        Args:
            stages: number of stages, at most that of the member with the most.

        Returns:
            An `Ensemble` whose layers are layers of this one.

        Raises:
            ValueError: no member has so many stages.
        """
        counts = [_stages(member) for member in self.members]
        if stages > max(counts):
            raise ValueError(
                f"The members of this Ensemble have {max(counts)} stages at most. "
                f"Received: stages={stages}"
            )
        return self._of(
            member.with_stages(stages) if stages < count else member
            for member, count in zip(self.members, counts)
        )

    def _of(self, members):
        """An ensemble like this one; this one where all members are the same."""
        members = list(members)
        if all(new is old for new, old in zip(members, self.members)):
            return self
        return type(self)(members, name=self.name, trainable=self.trainable)

    def get_config(self):
        return {
            "name": self.name,
            "trainable": self.trainable,
            "members": [keras.saving.serialize_keras_object(m) for m in self.members],
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        members = [
            keras.saving.deserialize_keras_object(member, custom_objects=custom_objects)
            for member in config["members"]
        ]
        return cls(**{**config, "members": members})


def has_local_statistics(network: keras.Model) -> bool:
    """True if a network has an argument `tlc_train_size`."""
    return "tlc_train_size" in network.get_config()


def _flat(members):
    if not isinstance(members, (list, tuple)):
        raise ValueError(
            f"`members` must be a list of networks. Received: members={members!r}"
        )
    for member in members:
        if not isinstance(member, keras.Model):
            raise ValueError(
                f"`members` must be networks. Received: members={members!r}"
            )
        yield from member.members if isinstance(member, Ensemble) else (member,)


def _check(members):
    names = [type(member).__name__ for member in members]
    if len(members) < 2 or len(set(map(id, members))) < len(members):
        raise ValueError(
            "`members` must be two networks or more, none of them twice. "
            f"Received: members={names}"
        )
    channels = [_image_channels(member) for member in members]
    if len(set(channels)) > 1:
        raise ValueError(
            "`members` must have the same `image_channels`. "
            f"Received: members={names} with image_channels={channels}"
        )
    if any(getattr(member, "combination", True) is not True for member in members):
        raise ValueError(
            "`members` must have heads that are images by themselves, which those of "
            f"two decoders are not. Received: members={names}"
        )


def _num_heads(network: Any) -> int:
    return getattr(network, "num_head_images", None) or network.num_heads


def _image_channels(network: Any) -> int:
    return getattr(network, "image_channels", 3)


def _stages(network: Any) -> int:
    """Stages after which a network can end; 0 where it cannot."""
    return network.stages if hasattr(network, "with_stages") else 0
