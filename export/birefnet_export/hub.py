"""BiRefNet as a transformers model, and the Hugging Face hub. The file that imports transformers.

The released repositories carry code of their own and a config.json that names no architecture.
Neither is used: the table in ``zoo.py`` and the shapes of the weights decide, and no remote code
ever runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from torch import Tensor
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel

from .checkpoint import WEIGHT_FILES, Hub, load
from .config import BACKBONES, NetworkConfig
from .errors import CheckpointError
from .network import BiRefNet


def download(repo: str, hub: Hub) -> Path:
    """The weight file of ``repo`` in the hub's cache, fetched when it is not there yet.

    Raises CheckpointError when it cannot be had; the text names the forms that need no network.
    """
    try:
        return Path(
            hf_hub_download(
                repo,
                WEIGHT_FILES[0],
                revision=hub.revision,
                token=hub.token,
                local_files_only=hub.offline,
            )
        )
    except GatedRepoError as error:
        raise CheckpointError(
            f"{repo} is gated: accept its licence on its page, then give --token or run "
            "`hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(f"{repo} does not exist on the hub, or needs --token") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise CheckpointError(
            f"{repo} is not in the local cache and the hub cannot be reached "
            f"({type(error).__name__}). On a machine with network run `hf download {repo} "
            f"{WEIGHT_FILES[0]}`, copy the file here and give its path instead of the id, "
            f"with --release {repo}"
        ) from error


class BiRefNetConfig(PretrainedConfig):  # type: ignore[misc]
    """``NetworkConfig`` as a transformers configuration."""

    model_type = "birefnet"

    def __init__(
        self, backbone: str = "swin_v1_l", network: dict[str, Any] | None = None, **rest: Any
    ):
        super().__init__(**rest)
        self.network = network or vars(BACKBONES[backbone]).copy()

    def to_network(self) -> NetworkConfig:
        """The configuration of the network, tuples restored from JSON's lists."""
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in self.network.items()
        }
        return NetworkConfig(**fields)


class BiRefNetModel(PreTrainedModel):  # type: ignore[misc]
    """BiRefNet in transformers' shell: ``from_pretrained``, ``save_pretrained``, ``AutoModel``.

    ``forward`` takes [B,3,H,W] normalised RGB and returns logits [B,1,H,W]. Parameters carry the
    official keys, so that files saved here load into the official code too.
    """

    config_class = BiRefNetConfig
    main_input_name = "x"

    def __init__(self, config: BiRefNetConfig, network: BiRefNet | None = None) -> None:
        super().__init__(config)
        body = network or BiRefNet(config.to_network())
        self.bb, self.squeeze_module, self.decoder = body.bb, body.squeeze_module, body.decoder
        self.post_init()

    forward_sides = BiRefNet.forward_sides
    fuse = BiRefNet.fuse

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B,1,H,W]."""
        return self.forward_sides(x)[0]

    def _init_weights(self, module: Any) -> None:
        """Keep the weights as they are: ``from_pretrained`` loads every one of them, or raises."""

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str,
        *,
        patch_order: str = "auto",
        revision: str | None = None,
        token: str | None = None,
        local_files_only: bool = False,
        **_: Any,
    ) -> BiRefNetModel:
        """The network with a repository's, folder's or file's weights: float32, eval mode.

        Strict, unlike transformers' own: a missing or unexpected tensor raises CheckpointError.
        """
        hub = Hub(revision, token, local_files_only)
        name = str(pretrained_model_name_or_path)
        loaded = load(name, patch_order, hub=hub)
        config = BiRefNetConfig(network=vars(loaded.network.config).copy(), name_or_path=name)
        model: BiRefNetModel = cls(config, loaded.network).eval()
        return model

    def save_pretrained(self, save_directory: str, **options: Any) -> None:
        """Write config.json and model.safetensors, the patch order in its metadata."""
        from safetensors.torch import save_file

        from .checkpoint import ORDER_KEY

        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        self.config.save_pretrained(folder, **options)
        state = {key: value.contiguous() for key, value in self.state_dict().items()}
        metadata = {"format": "pt", ORDER_KEY: self.config.network["patch_order"]}
        save_file(state, folder / WEIGHT_FILES[0], metadata)


AutoConfig.register(BiRefNetConfig.model_type, BiRefNetConfig)
AutoModel.register(BiRefNetConfig, BiRefNetModel)
