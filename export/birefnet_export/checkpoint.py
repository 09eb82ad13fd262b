"""Weights: find them, read them without running them, and load them strictly into the network."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from . import zoo
from .config import BACKBONES, NetworkConfig, infer, name_of
from .contract import sha256
from .errors import CheckpointError
from .network import BiRefNet

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
# Wrappers whose prefix ends up in saved keys, possibly stacked: DistributedDataParallel,
# torch.compile.
PREFIXES = ("module.", "_orig_mod.")
# Metadata key under which safetensors files written by this project say their patch order.
ORDER_KEY = "birefnet_patch_order"
# Keys of one kind that an error lists before it stops.
LISTED = 5


@dataclass(frozen=True)
class Checkpoint:
    """Where weights were found and what is known of them.

    ``release`` is their row of the table or None; ``metadata`` is what a safetensors file says of
    itself, ``licence`` and ORDER_KEY among it where this project wrote it.
    """

    path: Path
    digest: str
    release: zoo.Release | None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def order(self) -> str | None:
        """The patch order that the file itself states, or None."""
        order = self.metadata.get(ORDER_KEY)
        return order if order in ("new", "legacy") else None

    @property
    def licence(self) -> str:
        """The table's licence, else the file's own, else ``unknown``."""
        return self.release.licence if self.release else self.metadata.get("licence", "unknown")


@dataclass(frozen=True)
class Loaded:
    """A network in eval mode with its weights (float32, on the CPU), and where they came from."""

    network: BiRefNet
    backbone: str
    checkpoint: Checkpoint


@dataclass(frozen=True)
class Hub:
    """How to reach the Hugging Face hub: ``None`` leaves the decision to its own settings."""

    revision: str | None = None
    token: str | None = None
    offline: bool = False


def find(weights: str, hub: Hub | None = None) -> Checkpoint:
    """The checkpoint that ``weights`` names: a file, a folder in the hub's layout, or a hub id.

    Raises CheckpointError when there is none; the text names the forms that exist.
    """
    path = Path(weights).expanduser()
    if path.is_dir():
        path = _in_folder(path)
    elif path.suffix in SUFFIXES or path.is_file():
        if not path.is_file():
            raise CheckpointError(f"{path} does not exist")
    elif re.fullmatch(r"[\w.-]+/[\w.-]+", weights):
        return _from_hub(weights, hub or Hub())
    else:
        raise CheckpointError(
            f"{weights} is no file, no folder and no Hugging Face id (ORG/NAME). Give a "
            ".safetensors or .pth file, a folder with model.safetensors, or an id such as "
            f"{zoo.DEFAULT}"
        )
    digest = sha256(path)
    return Checkpoint(path, digest, zoo.by_hash(digest) or zoo.by_cache_path(path), _metadata(path))


def _in_folder(folder: Path) -> Path:
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(f"{folder} holds no {' or '.join(WEIGHT_FILES)}: is it a model folder?")


def _from_hub(repo: str, hub: Hub) -> Checkpoint:
    from .hub import download

    path = download(repo, hub)
    digest = sha256(path)
    return Checkpoint(path, digest, zoo.by_repo(repo) or zoo.by_hash(digest), _metadata(path))


def _metadata(path: Path) -> dict[str, str]:
    if path.suffix != ".safetensors":
        return {}
    try:
        with safe_open(str(path), "pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise CheckpointError(_unreadable(path, error)) from error


def load(
    weights: str,
    patch_order: str = "auto",
    backbone: str = "auto",
    hub: Hub | None = None,
    release: str | None = None,
) -> Loaded:
    """The network with the weights that ``weights`` names, float32, in eval mode.

    ``patch_order`` ``auto`` takes the table's or the file's own statement; a file that neither
    knows needs ``new`` or ``legacy``. ``backbone`` ``auto`` is read off the shapes.
    ``release`` says which row of the table a local file is. Raises CheckpointError.
    """
    checkpoint = find(weights, hub)
    if release is not None:
        checkpoint = replace(checkpoint, release=_row(release))
    state = normalise(read(checkpoint.path), checkpoint.path)
    order = choose_order(checkpoint, patch_order)
    config = infer({key: tuple(tensor.shape) for key, tensor in state.items()}, order)
    found = name_of(config)
    if backbone not in ("auto", found):
        if backbone not in BACKBONES:
            raise CheckpointError(f"no backbone {backbone}; known: auto, {', '.join(BACKBONES)}")
        config = replace(BACKBONES[backbone], patch_order=order)
    network = assemble(config, state, str(checkpoint.path))
    return Loaded(network, name_of(config), checkpoint)


def _row(repo: str) -> zoo.Release:
    row = zoo.by_repo(repo)
    if row is None:
        known = ", ".join(release.repo for release in zoo.RELEASES)
        raise CheckpointError(f"no release {repo} in the table; known: {known}")
    return row


def choose_order(checkpoint: Checkpoint, wanted: str) -> str:
    """The patch order to load with. Raises CheckpointError when nobody knows it."""
    if wanted != "auto":
        return wanted
    if checkpoint.order is not None:
        return checkpoint.order
    if checkpoint.release is not None:
        return checkpoint.release.patch_order
    raise CheckpointError(
        f"{checkpoint.path} is not one of the released files, so its patch order is not known: "
        "BiRefNet's code changed the channel order of its image patches on 2024-11-05, both orders "
        "have the same keys and shapes, and the wrong one silently gives worse masks. Say which "
        f"release it is (--release {zoo.DEFAULT}), or "
        "--patch-order legacy for weights trained before that date and for RMBG-2.0 derivatives, "
        "--patch-order new for later ones"
    )


def read(path: Path) -> dict[str, Any]:
    """The tensors in a ``.safetensors`` file or a pickle read with ``weights_only=True``.

    A pickle may nest them under ``state_dict``, ``model`` or ``model_state_dict``.
    Raises CheckpointError when the file is truncated, foreign, or holds more than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            with safe_open(str(path), "pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(_unreadable(path, error)) from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is a pickle that holds more than tensors, or no pickle at all; it was not "
            "executed. Save its state_dict alone, or convert it to .safetensors"
        ) from error
    for name in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, not a dictionary of tensors"
        )
    return content


def _unreadable(path: Path, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    size = path.stat().st_size if path.is_file() else 0
    return f"{path} ({size:,} bytes) cannot be read as weights: {reason}. Is the download complete?"


def normalise(state: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Keys without wrapper prefixes, float tensors as float32; anything but tensors is an error."""
    result: dict[str, Tensor] = {}
    for key, value in state.items():
        name = str(key)
        while name.startswith(PREFIXES):
            name = name.removeprefix(PREFIXES[0]).removeprefix(PREFIXES[1])
        if not isinstance(value, Tensor):
            raise CheckpointError(f"{path}: {key} is a {type(value).__name__}, not a tensor")
        result[name] = value.float() if value.is_floating_point() else value
    return result


def assemble(config: NetworkConfig, state: Mapping[str, Tensor], where: str) -> BiRefNet:
    """A network of ``config`` that holds ``state`` itself, not a copy; eval mode.

    Strict on every float tensor. Integer buffers (position indices, batch-norm counters) may be
    absent; a present index must equal the computed one. Raises CheckpointError with the first odd
    keys.
    """
    with torch.device("meta"):
        network = BiRefNet(config)
    expected = network.state_dict()
    computed = {
        key: value for key, value in _integers(network, expected).items() if key not in state
    }
    compare(expected, {**state, **computed}, where)
    _check_indices(network, state, where)
    network.load_state_dict({**state, **computed}, strict=True, assign=True)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    return network.eval()


def _integers(network: BiRefNet, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    from .swin import relative_position_index

    index = relative_position_index(network.config.window)
    integers = {key: value for key, value in expected.items() if not value.is_floating_point()}
    return {
        key: index.clone() if key.endswith("relative_position_index") else torch.tensor(0)
        for key in integers
    }


def _check_indices(network: BiRefNet, state: Mapping[str, Tensor], where: str) -> None:
    computed = _integers(
        network, {key: state[key] for key in state if "relative_position_index" in key}
    )
    for key, index in computed.items():
        if not torch.equal(state[key], index):
            raise CheckpointError(
                f"{where}: {key} differs from Swin's; the file is damaged or foreign"
            )


def compare(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], where: str) -> None:
    """Raise CheckpointError unless both have the same keys and shapes; the text lists the first odd
    ones.
    """
    missing = [key for key in expected if key not in found]
    unexpected = [key for key in found if key not in expected]
    shapes = [
        f"{key} {list(found[key].shape)} instead of {list(tensor.shape)}"
        for key, tensor in expected.items()
        if key in found and found[key].shape != tensor.shape
    ]
    if missing or unexpected or shapes:
        kinds = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        lines = [_listing(kind, keys) for kind, keys in kinds if keys]
        raise CheckpointError(f"{where} does not fit this BiRefNet:{''.join(lines)}")


def _listing(kind: str, keys: list[str]) -> str:
    more = f", and {len(keys) - LISTED} more" if len(keys) > LISTED else ""
    return f"{os.linesep}  {len(keys)} {kind}: {', '.join(keys[:LISTED])}{more}"
