"""The hub's cache and transformers' shell, on files in the cache's own layout; no network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModel

from birefnet_export.checkpoint import Hub, load
from birefnet_export.errors import CheckpointError
from birefnet_export.hub import BiRefNetConfig, BiRefNetModel
from helpers import golden

REPO = "ZhengPeng7/BiRefNet_lite"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache with one repository, as the hub's client lays it out: refs, blobs, snapshots."""
    folder = tmp_path / f"models--{REPO.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    snapshot = folder / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (folder / "blobs").mkdir()
    save_file(golden.small().state_dict(), folder / "blobs" / "weights")
    (snapshot / "model.safetensors").symlink_to("../../blobs/weights")
    (snapshot / "config.json").write_text(
        '{"architectures": ["BiRefNet"], "auto_map": {"AutoModel": "birefnet.BiRefNet"}}'
    )
    (snapshot / "birefnet.py").write_text("raise SystemExit('remote code was run')")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_an_id_is_found_in_the_cache_offline(cache: Path, revision: str | None) -> None:
    loaded = load(REPO, hub=Hub(revision=revision, offline=True))
    assert loaded.checkpoint.release is not None
    assert loaded.checkpoint.release.repo == REPO
    # The table says legacy: the files themselves say nothing.
    assert loaded.network.config.patch_order == "legacy"


@pytest.mark.parametrize(
    ("repo", "revision"), [("ZhengPeng7/BiRefNet", None), (REPO, "another-branch")]
)
def test_not_cached_names_the_local_file_form(cache: Path, repo: str, revision: str | None) -> None:
    with pytest.raises(CheckpointError, match=r"hf download .*give its path instead"):
        load(repo, hub=Hub(revision=revision, offline=True))


def test_the_shell_loads_strictly_and_runs_no_remote_code(cache: Path) -> None:
    model = BiRefNetModel.from_pretrained(REPO, local_files_only=True)
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(model(x), load(REPO, hub=Hub(offline=True)).network(x))


def test_save_and_load_again_also_by_automodel(tmp_path: Path) -> None:
    network = golden.small("legacy")
    config = BiRefNetConfig(network=vars(network.config).copy())
    BiRefNetModel(config, network).save_pretrained(str(tmp_path))
    x = torch.randn(1, 3, 64, 64)
    for shell in (BiRefNetModel, AutoModel):
        model = shell.from_pretrained(str(tmp_path))
        assert isinstance(model, BiRefNetModel)
        assert model.config.to_network() == network.config
        # The same weights at other addresses: a BLAS kernel may split its sums otherwise.
        assert torch.allclose(model(x), network(x), atol=1e-5)


def test_keys_are_the_official_ones() -> None:
    network = golden.small()
    model = BiRefNetModel(BiRefNetConfig(network=vars(network.config).copy()))
    assert list(model.state_dict()) == list(network.state_dict())
