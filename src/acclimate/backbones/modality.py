"""What a model reads, told by its folder (or, for a name of the hub, by its configuration) before it is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from acclimate.files import read_object

AUDIO = ("num_mel_bins", "sampling_rate", "feat_extract_norm", "conv_stride")  # keys that only such models have
TABLE = ("columns", "mlp")  # names of backbones that read rows of a table
SERIES = ("series-cnn", "series-transformer")  # and those that read series
VOICES = ("speecht5", "vits")  # kinds of model that speak
IMAGE = ("num_channels", "patch_size", "image_size")


def modality_of(path: str) -> str:
    """ "timm", "small", "table", "series", "image", "audio", "image and text", "voice" or "text" (whatever is none)."""
    if path.startswith("timm:"):
        return "timm"
    if path.partition(":")[0] == "small-cnn" and not Path(path).exists():
        return "small"
    if path in TABLE and not Path(path).exists():
        return "table"
    if path in SERIES and not Path(path).exists():
        return "series"
    config = config_of(path)
    if config.get("model_type") in VOICES:
        return "voice"
    if config.get("model_type") in TABLE:
        return "table"
    if config.get("model_type") == "small-cnn":
        return "small"
    if config.get("model_type") in (*SERIES, "fracast"):
        return "series"
    beside = read_object(Path(path) / "preprocessor_config.json")
    if "architecture" in config:
        return "timm"
    if "vision_config" in config:
        return "image and text"
    if any(key in config for key in AUDIO) or "feature_extractor_type" in beside:
        return "audio"
    if "vocab_size" not in config and ("image_mean" in beside or any(key in config for key in IMAGE)):
        return "image"
    return "text"


def config_of(path: str) -> dict[str, Any]:
    """The config.json of a folder, or of a name of the hub; empty where there is none."""
    if Path(path).exists():
        return read_object(Path(path) / "config.json")
    from transformers import PreTrainedConfig

    from acclimate.backbones.hushed import quiet_transformers

    try:
        with quiet_transformers():
            return dict(PreTrainedConfig.get_config_dict(path)[0])
    except (OSError, ValueError):  # the loader says what is wrong
        return {}
