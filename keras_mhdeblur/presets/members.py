"""Presets of several networks, which name other presets in place of weights."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_mhdeblur.presets.files import (
    CONFIG,
    METADATA,
    PresetError,
    Variant,
    ensemble_entries,
    read_json,
    read_metadata,
    read_variant,
    verify,
)
from keras_mhdeblur.presets.zoo import find_preset
from keras_mhdeblur.utils.renamed import with_present_names
from keras_mhdeblur.utils.types import PathLike


@dataclasses.dataclass(frozen=True)
class Member:
    """A preset whose network is one of an ensemble.

    Attributes:
        name: for `from_preset`.
        folder: the preset's folder.
        metadata: what `read_metadata` returned.
        arguments: dictionary of the network's arguments.
        ending: number of stages that the network ends after; None for all.
    """

    name: str
    folder: Path
    metadata: dict[str, Any]
    arguments: dict[str, Any]
    ending: int | None = None

    @property
    def fingerprint(self) -> str | None:
        """That of the model, None where the preset has none."""
        return self.variant(None).fingerprint

    def endings(self) -> "list[Member]":
        """This member, and those that end after fewer stages."""
        counts = map(int, self.metadata.get("stages", {}))
        return [self, *(dataclasses.replace(self, ending=count) for count in counts)]

    @property
    def has_local_statistics(self) -> bool:
        """Whether the network has an argument `tlc_train_size`."""
        return "tlc_train_size" in self.arguments

    @property
    def stages(self) -> int:
        """Number of stages; 0 where the network cannot end after fewer."""
        return self._own_stages if self.ending is None else self.ending

    @property
    def _own_stages(self):
        stages = self.arguments.get("stages")
        return stages if isinstance(stages, int) else 0

    def variant(self, stages: int | None) -> Variant:
        """The `Variant` after some stages, or after all where there are no more."""
        stages = self.stages if stages is None else min(stages, self.stages)
        fewer = stages < self._own_stages
        return read_variant(
            self.folder, self.metadata, stages if fewer else None, self.name
        )


def read_member(name: PathLike) -> Member:
    """A preset that an ensemble names, without its weights.

    Raises:
        PresetError: it does not exist, is damaged or names other presets itself.
    """
    folder = find_preset(name)
    name = str(name)
    metadata = read_metadata(folder, name)
    verify(folder, [CONFIG], metadata, name)
    config = read_json(folder, CONFIG, name)
    if ensemble_entries(config, metadata, name) is not None:
        raise PresetError(
            f"Preset {name!r} is one of several networks; name its members instead."
        )
    try:
        arguments = with_present_names(config["config"]["network"]["config"])
    except (KeyError, TypeError, AttributeError) as error:
        raise PresetError(
            f"Preset {name!r}: {CONFIG} is not the configuration of a Deblurrer."
        ) from error
    return Member(name, Path(folder), metadata, arguments)


def read_members(
    config: dict[str, Any], metadata: dict[str, Any], name: str
) -> tuple[Member, ...] | None:
    """The members of a preset of several networks, whose weights are the right ones.

    Args:
        config: contents of its config.json.
        metadata: what `read_metadata` returned.
        name: what the user called the preset, for messages.

    Returns:
        A tuple; None where the preset is of one model.

    Raises:
        PresetError: the configuration is damaged, or a member does not exist, is
            damaged, or has other weights than those that the choices were fitted to.
    """
    entries = ensemble_entries(config, metadata, name)
    if entries is None:
        return None
    found = []
    for entry in entries:
        try:
            member = dataclasses.replace(
                read_member(entry["preset"]), ending=entry.get("stages")
            )
        except PresetError as error:
            raise PresetError(
                f"Preset {name!r}: its member cannot be used: {error}"
            ) from error
        if member.fingerprint != entry["fingerprint"]:
            raise PresetError(
                f"Preset {name!r}: its member {member.name!r} has other weights than "
                "those that its choices were fitted to; take the version of the member "
                f'whose "fingerprint" in {METADATA} is '
                f"{entry['fingerprint'][:12]}. "
                f"Received: {member.name} with fingerprint="
                f"{str(member.fingerprint)[:12]}"
            )
        found.append(member)
    return tuple(found)


def combined_fingerprint(fingerprints: Sequence[str | None], combine_heads) -> str:
    """Hexadecimal digest of what a model of several networks computes.

    Args:
        fingerprints: those of the members, each with combined heads.
        combine_heads: of the model.
    """
    content = json.dumps([*fingerprints, combine_heads])
    return hashlib.sha256(content.encode()).hexdigest()
