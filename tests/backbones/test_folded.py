"""Folded networks give the features of the network that they were made from."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from acclimate.backbones.folded import Convolution, fold


class Shortcut(nn.Module):
    """A convolution with statistics, added to its input, and ReLU; `twice` reads the convolution a second time."""

    def __init__(self, twice: bool = False) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU()
        self.twice = twice

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        out = self.act(self.norm(y) + x)
        return (out + y if self.twice else out).mean((2, 3))


def with_statistics(model: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.2)
    return model.eval().requires_grad_(False)


def convolutions(network: nn.Module) -> list[Convolution]:
    return [m for m in network.modules() if isinstance(m, Convolution)]


def norms(network: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm2d) for m in network.modules())


@pytest.mark.parametrize(
    ("name", "shortcuts"),
    [("resnet10t", 4), ("mobilenetv3_small_050", 7), ("tf_efficientnet_lite0", 9), ("regnetx_002", 13)],
)
def test_timm_networks_lose_every_norm_and_keep_their_features(name: str, shortcuts: int) -> None:
    timm = pytest.importorskip("timm", reason="image backbones need the `image` extra")
    model = with_statistics(timm.create_model(name, pretrained=False, num_classes=0))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    pixels = torch.randn(3, 3, 64, 64)
    with torch.inference_mode():
        expected = model(pixels)
        folded = fold(model, 64)
        found = folded(pixels)
        gap = float((found - expected).abs().max() / expected.abs().max())
        assert torch.equal(model(pixels), expected), "the network itself is as it was"
    assert gap < 1e-5
    assert norms(model) > 0 and norms(folded) == 0
    assert sum(c.adds for c in convolutions(folded)) == shortcuts
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_shortcut_and_activation_are_part_of_the_convolution() -> None:
    model = with_statistics(Shortcut())
    folded = fold(model, 8)
    (conv,) = convolutions(folded)
    assert conv.adds and isinstance(conv.after, nn.ReLU)
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(folded(x), model(x))


def test_a_convolution_that_is_read_twice_keeps_its_norm() -> None:
    model = with_statistics(Shortcut(twice=True))
    folded = fold(model, 8)
    assert norms(folded) == 1
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(folded(x), model(x))


def test_without_onednn_the_folded_weights_are_read_by_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    from acclimate.backbones import folded as module

    monkeypatch.setattr(module, "_fuses", lambda x: False)
    model = with_statistics(Shortcut())
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(fold(model, 8)(x), model(x))


def test_statistics_that_move_are_not_folded() -> None:
    model = with_statistics(Shortcut())
    model.norm.training = True  # type: ignore[union-attr]
    assert norms(fold(model, 8)) == 1


def test_a_network_that_looks_at_values_is_refused() -> None:
    class Looks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(torch.fx.proxy.TraceError):
        fold(Looks(), 8)
