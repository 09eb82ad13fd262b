"""Finding, reading and strictly loading weights; nothing foreign gets in."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from birefnet_export import zoo
from birefnet_export.checkpoint import ORDER_KEY, assemble, choose_order, find, load, read
from birefnet_export.config import NetworkConfig
from birefnet_export.errors import CheckpointError
from helpers import golden

State = dict[str, Tensor]


@pytest.fixture
def weights() -> State:
    return dict(golden.small().state_dict())


def same(loaded: Any, state: State) -> bool:
    found = loaded.network.state_dict()
    return set(found) == set(state) and all(torch.equal(found[key], state[key]) for key in state)


def write(path: Path, state: State, **metadata: str) -> str:
    save_file(state, path, metadata or None)
    return str(path)


def test_a_safetensors_file(tmp_path: Path, weights: State) -> None:
    loaded = load(write(tmp_path / "w.safetensors", weights), "legacy")
    assert same(loaded, weights)
    assert loaded.network.config.patch_order == "legacy"
    assert not loaded.network.training
    assert loaded.backbone == "swin_custom"
    assert len(loaded.checkpoint.digest) == 64


def test_integer_buffers_may_be_absent_and_are_recomputed(tmp_path: Path, weights: State) -> None:
    floats = {key: value for key, value in weights.items() if value.is_floating_point()}
    assert len(floats) < len(weights)
    assert same(load(write(tmp_path / "w.safetensors", floats), "new"), weights)


def test_present_indices_must_be_swins(tmp_path: Path, weights: State) -> None:
    key = next(key for key in weights if key.endswith("relative_position_index"))
    weights[key] = weights[key] + 1
    with pytest.raises(CheckpointError, match=f"{key} differs"):
        load(write(tmp_path / "w.safetensors", weights), "new")


def test_half_precision_files_become_float32(tmp_path: Path, weights: State) -> None:
    half = {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
    network = load(write(tmp_path / "w.safetensors", half), "new").network
    assert {value.dtype for value in network.parameters()} == {torch.float32}


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("nest", [None, "state_dict", "model"])
def test_pth_files_with_their_wrappers(
    tmp_path: Path, weights: State, prefix: str, nest: str | None
) -> None:
    state: Any = {prefix + key: value for key, value in weights.items()}
    path = tmp_path / "w.pth"
    torch.save({nest: state, "epoch": 3} if nest else state, path)
    assert same(load(str(path), "new"), weights)


def test_a_folder_in_the_hubs_layout(tmp_path: Path, weights: State) -> None:
    write(tmp_path / "model.safetensors", weights)
    (tmp_path / "config.json").write_text('{"architectures": ["BiRefNet"]}')
    assert same(load(str(tmp_path), "new"), weights)


class Evil:
    """Unpickling this would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_a_pickle_is_never_executed(tmp_path: Path) -> None:
    mark, path = tmp_path / "executed", tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps({"a": Evil(mark)}, protocol=2))
    with pytest.raises(CheckpointError, match="not executed"):
        read(path)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
@pytest.mark.parametrize("keep", [0, 5, 1000, -1000])
def test_truncated_files(tmp_path: Path, weights: State, name: str, keep: int) -> None:
    path = tmp_path / name
    if path.suffix == ".pth":
        torch.save(weights, path)
    else:
        save_file(weights, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError):
        load(str(path), "new")


def test_text_named_pth(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    path.write_text("<html>404</html>")
    with pytest.raises(CheckpointError, match=r"w\.pth"):
        load(str(path), "new")


def test_a_foreign_network_names_missing_and_found_keys(tmp_path: Path) -> None:
    path = write(tmp_path / "w.safetensors", {"conv1.weight": torch.zeros(2, 2)})
    with pytest.raises(CheckpointError, match=r"missing bb\.patch_embed.*found conv1\.weight"):
        load(path, "new")


def test_missing_unexpected_and_misshapen_keys_are_listed(tmp_path: Path, weights: State) -> None:
    del weights["decoder.conv_out1.0.bias"]
    weights["refiner.weight"] = torch.zeros(1)
    weights["bb.norm0.weight"] = torch.zeros(3)
    with pytest.raises(CheckpointError) as caught:
        load(write(tmp_path / "w.safetensors", weights), "new")
    text = str(caught.value)
    assert "1 missing: decoder.conv_out1.0.bias" in text
    assert "1 unexpected: refiner.weight" in text
    assert "1 of another shape: bb.norm0.weight [3] instead of [16]" in text


def test_only_the_first_keys_are_listed(weights: State) -> None:
    config: NetworkConfig = golden.SMALL
    few = {key: value for key, value in weights.items() if not key.startswith("decoder.")}
    with pytest.raises(CheckpointError, match=r"missing: decoder\..*, and \d+ more"):
        assemble(config, few, "here")


def test_another_backbone_than_the_files(tmp_path: Path, weights: State) -> None:
    path = write(tmp_path / "w.safetensors", weights)
    with pytest.raises(CheckpointError, match="does not fit"):
        load(path, "new", "swin_v1_t")
    with pytest.raises(CheckpointError, match=r"no backbone resnet50; known: auto, swin_v1_t"):
        load(path, "new", "resnet50")


def test_the_patch_order_of_an_unknown_file_must_be_given(tmp_path: Path, weights: State) -> None:
    with pytest.raises(
        CheckpointError, match=r"2024-11-05.*--patch-order legacy.*--patch-order new"
    ):
        load(write(tmp_path / "w.safetensors", weights))


@pytest.mark.parametrize("order", ["new", "legacy"])
def test_our_own_files_state_their_order(tmp_path: Path, weights: State, order: str) -> None:
    path = write(tmp_path / "w.safetensors", weights, **{ORDER_KEY: order})
    assert load(path).network.config.patch_order == order


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "no file, no folder and no Hugging Face id"),
        ("missing.safetensors", "does not exist"),
        ("some/missing.pth", "does not exist"),
    ],
)
def test_what_is_not_there(text: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        find(text)


def test_a_folder_without_weights(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no model\.safetensors"):
        find(str(tmp_path))


def test_the_table_of_releases() -> None:
    assert len({release.repo for release in zoo.RELEASES}) == len(zoo.RELEASES)
    assert all(r.height % 32 == 0 and r.width % 32 == 0 for r in zoo.RELEASES)
    rmbg = zoo.by_repo("briaai/rmbg-2.0")
    assert rmbg is not None
    assert (rmbg.patch_order, rmbg.licence) == ("legacy", "CC-BY-NC-4.0")
    assert "non-commercial" in rmbg.notice
    assert all(zoo.by_repo(repo) for repo in zoo.FILES.values())


def test_a_published_file_is_recognised_by_its_hash(tmp_path: Path, weights: State) -> None:
    path = Path(write(tmp_path / "w.safetensors", weights))
    found = find(str(path))
    assert found.release is None
    known = zoo.by_hash("9d678bafec0b" + "0" * 52)
    assert known is not None
    assert known.repo == "ZhengPeng7/BiRefNet_HR"
    row = type(found)(path, "9d678bafec0b", known)
    assert choose_order(row, "auto") == "new"


def test_a_local_file_may_be_said_to_be_a_release(tmp_path: Path, weights: State) -> None:
    path = write(tmp_path / "copy.safetensors", weights)
    loaded = load(path, release="briaai/RMBG-2.0")
    assert loaded.network.config.patch_order == "legacy"
    assert loaded.checkpoint.licence == "CC-BY-NC-4.0"
    with pytest.raises(CheckpointError, match=r"no release nobody/x .*known: ZhengPeng7/BiRefNet,"):
        load(path, release="nobody/x")


def test_a_file_inside_a_hub_cache_is_recognised(tmp_path: Path, weights: State) -> None:
    folder = tmp_path / "models--ZhengPeng7--BiRefNet_lite" / "snapshots" / "abc"
    folder.mkdir(parents=True)
    write(folder / "model.safetensors", weights)
    loaded = load(str(folder))
    assert loaded.checkpoint.release is zoo.by_repo("ZhengPeng7/BiRefNet_lite")
    assert loaded.network.config.patch_order == "legacy"
