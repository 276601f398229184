"""Tiny models with random weights as plain Hugging Face folders, a small CNN, and rows that can be learned."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from acclimate.backbones import load
from acclimate.backbones.base import Backbone, Batch, Encoded, Origin
from acclimate.backbones.text import TextBackbone
from acclimate.data.rows import Data, Label
from acclimate.features import Store
from acclimate.run import Run
from acclimate.strategies import Problem
from acclimate.tasks import TASKS

GOOD = ["good", "great", "fine", "lovely", "superb", "happy", "warm", "kind"]
BAD = ["bad", "awful", "poor", "nasty", "dire", "sad", "cold", "mean"]
NEUTRAL = [
    "table",
    "chair",
    "river",
    "stone",
    "paper",
    "window",
    "train",
    "house",
    "street",
    "garden",
    "cloud",
    "bread",
]
CHARS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'-"
HAN = "我你他们天地人好坏大小上下中国学习快乐难过的是不了在有"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TOKENS = [*SPECIAL, *GOOD, *BAD, *NEUTRAL, *CHARS, *(f"##{c}" for c in CHARS if c.isalnum()), *HAN]


def tokenizer(max_length: int = 64, *, pairs: bool = True, **settings: Any) -> Any:
    """A WordPiece tokeniser that frames texts as BERT does, made without a network."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(WordPiece({t: i for i, t in enumerate(TOKENS)}, unk_token="[UNK]"))
    inner.normalizer = BertNormalizer(lowercase=True)
    inner.pre_tokenizer = BertPreTokenizer()
    inner.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad", "unk", "cls", "sep", "mask"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        model_max_length=max_length,
        model_input_names=["input_ids", *(["token_type_ids"] if pairs else []), "attention_mask"],
        **{f"{name}_token": token for name, token in names.items()},
        **settings,
    )


def plain_tokenizer(max_length: int = 64) -> Any:
    """Words and letters without any special token, as decoders have it: no frame, no padding token."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(WordPiece({t: i for i, t in enumerate(TOKENS)}, unk_token="[UNK]"))
    inner.normalizer = BertNormalizer(lowercase=True)
    inner.pre_tokenizer = BertPreTokenizer()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        model_max_length=max_length,
        eos_token="[SEP]",
        unk_token="[UNK]",
        model_input_names=["input_ids", "attention_mask"],
    )


def network(kind: str, layers: int = 3) -> Any:
    """A model of this kind with random weights large enough that texts differ."""
    import transformers as t

    size: dict[str, Any] = {"vocab_size": len(TOKENS), "hidden_size": 32, "intermediate_size": 48}
    heads: dict[str, Any] = {"num_hidden_layers": layers, "num_attention_heads": 4, "max_position_embeddings": 64}
    torch.manual_seed(11)
    if kind == "bert":
        model = t.BertModel(t.BertConfig(**size, **heads, initializer_range=0.1))
    elif kind == "roberta":
        heads["max_position_embeddings"] = 66
        config = t.RobertaConfig(**size, **heads, type_vocab_size=1, pad_token_id=0, initializer_range=0.1)
        model = t.RobertaModel(config)
    elif kind == "albert":
        model = t.AlbertModel(t.AlbertConfig(**size, **heads, embedding_size=16, initializer_range=0.1))
    elif kind == "distilbert":
        config = t.DistilBertConfig(
            vocab_size=len(TOKENS), dim=32, hidden_dim=48, n_layers=layers, n_heads=4, max_position_embeddings=64
        )
        model = t.DistilBertModel(config)
    elif kind == "gpt2":
        config = t.GPT2Config(
            vocab_size=len(TOKENS), n_embd=32, n_layer=layers, n_head=4, n_positions=64, bos_token_id=3, eos_token_id=3
        )
        model = t.GPT2LMHeadModel(config)
    elif kind == "llama":
        config = t.LlamaConfig(
            **size, **heads, num_key_value_heads=2, initializer_range=0.1, bos_token_id=3, eos_token_id=3
        )
        model = t.LlamaForCausalLM(config)
    elif kind in ("t5", "bart", "marian"):
        return encoder_decoder(kind, layers).eval()
    else:
        raise AssertionError(kind)
    return model.eval()


def encoder_decoder(kind: str, layers: int) -> Any:
    """A model that reads with one half and writes with the other."""
    import transformers as t

    ids: dict[str, Any] = {"vocab_size": len(TOKENS), "d_model": 32, "pad_token_id": 0, "eos_token_id": 3}
    if kind == "t5":
        return t.T5ForConditionalGeneration(
            t.T5Config(**ids, d_kv=8, d_ff=48, num_layers=layers, num_heads=4, decoder_start_token_id=0)
        )
    halves: dict[str, Any] = {
        f"{half}_{name}": size
        for half in ("encoder", "decoder")
        for name, size in (("layers", layers), ("attention_heads", 4), ("ffn_dim", 48))
    }
    config: dict[str, Any] = {**ids, **halves, "max_position_embeddings": 64, "forced_eos_token_id": 3}
    if kind == "bart":
        return t.BartForConditionalGeneration(t.BartConfig(**config, bos_token_id=2, decoder_start_token_id=3))
    return t.MarianMTModel(t.MarianConfig(**config, decoder_start_token_id=0))


def write(kind: str, folder: Path, *, layers: int = 3, frame: Any = None) -> Path:
    """A model folder as one would download it."""
    from acclimate.backbones.hushed import quiet_transformers

    with quiet_transformers():
        network(kind, layers).save_pretrained(folder)
        usual = plain_tokenizer() if kind in ("gpt2", "llama") else tokenizer(pairs=kind in ("bert", "albert"))
        (frame or usual).save_pretrained(folder)
    return folder


def write_vit(folder: Path) -> Path:
    """A vision transformer of two layers with random weights, for pictures of 32 × 32."""
    import transformers as t

    from acclimate.backbones.hushed import quiet_transformers

    torch.manual_seed(1)
    size: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = t.ViTConfig(**size, intermediate_size=32, image_size=32, patch_size=8, initializer_range=0.2)
    with quiet_transformers():
        t.ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    about = {
        "image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}, "resample": 2,
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(about))
    return folder


def rows(n: int = 40, *, labels: Sequence[Label] = ("bad", "good"), seed: int = 0) -> Data:
    """Texts whose words say which label they carry; any number of classes, spread evenly."""
    rng = np.random.default_rng(seed)
    texts, found = [], []
    share = np.array_split(np.array([*GOOD, *BAD]), len(labels))
    for i in range(n):
        k = i % len(labels)
        words = [*rng.choice(share[k], 2), *rng.choice(NEUTRAL, 3)]
        texts.append(" ".join(rng.permutation(words)) + f" {i}")
        found.append(labels[k])
    return Data(tuple(texts), tuple(found))


def task_rows(task: str, n: int = 40) -> tuple[Data, str]:
    """Rows for this task and the kind of their labels."""
    if task == "classify":
        return rows(n, labels=("neutral", "bad", "good")), "str"
    if task == "ordinal":
        return rows(n, labels=(1, 2, 5)), "int"
    if task == "multilabel":
        data = rows(n, labels=(("a",), ("a", "b"), ("b", "c"), ()))
        return data, "list"
    data = rows(n, labels=(0, 1, 2, 3))
    noise = np.random.default_rng(1).normal(0, 0.1, n)
    values = tuple(10.0 + 3.0 * float(y) + float(e) for y, e in zip(data.labels or (), noise, strict=True))  # type: ignore[arg-type]
    return Data(data.inputs, values), "float"


def problem_of(task: str, data: Data, kind: str, backbone: Backbone | None, run: Run, **more: Any) -> Problem:
    """What a strategy is given."""
    store = None if backbone is None else Store(backbone, run)
    assert data.labels is not None
    return Problem(TASKS[task], TASKS[task].decoder(data.labels, kind), backbone, store, **more)


def state(module: nn.Module) -> dict[str, Tensor]:
    """A copy of every parameter and buffer."""
    found = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {name: value.detach().clone() for name, value in found.items()}


def same_state(module: nn.Module, before: dict[str, Tensor]) -> bool:
    """Bit-equal to `before`, with no name more or less."""
    now = state(module)
    return now.keys() == before.keys() and all(torch.equal(now[k], before[k]) for k in now)


class TinyCnn(Backbone):
    """Two convolutions with BatchNorm and dropout on images of 8 × 8: what drifts where "frozen" is only a word."""

    modality = "image"

    def __init__(self) -> None:
        super().__init__()
        self.origin = Origin("tiny-cnn")
        self.width = 6
        self.stages = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
                nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5)),
            ]
        )
        self.calls = 0

    def encode(self, inputs: Sequence[Any]) -> list[Encoded]:
        """Images given as nested lists."""
        return [Encoded((torch.tensor(x, dtype=torch.float32),), 1) for x in inputs]

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """(n, 1, 8, 8)."""
        return {"pixels": torch.stack([row.parts[0] for row in rows])[:, None]}

    def forward(self, batch: Batch) -> Tensor:
        """Averaged over the picture, (n, 6)."""
        self.calls += 1
        x = batch["pixels"]
        for stage in self.stages:
            x = stage(x)
        return x.mean((2, 3))

    @property
    def blocks(self) -> list[nn.Module]:
        """Both stages."""
        return list(self.stages)

    def settings(self) -> dict[str, object]:
        """Nothing to set."""
        return {"modality": "image"}

    def save(self, folder: Path) -> None:
        """Not saved in these tests."""
        raise AssertionError(folder)

    def clone(self) -> TinyCnn:
        """A copy."""
        other = TinyCnn()
        other.load_state_dict(self.state_dict())
        return other


def pictures(n: int, shift: float = 0.0, seed: int = 0) -> Data:
    """Images whose brightness at the left or right says the class."""
    rng = np.random.default_rng(seed)
    images = rng.normal(shift, 1.0, (n, 8, 8))
    for i in range(n):
        images[i, :, : 4 if i % 2 else 8] += 1.5
    labels = tuple("left" if i % 2 else "all" for i in range(n))
    return Data(tuple(images.round(4).tolist()), labels, clusters=np.arange(n))


# -- packed and padded -------------------------------------------------------------------------------------------------

TEXTS = ["good day", "bad river stone, cold and what of it", "我们好", "table", "good table", "cold day", "a"]


def backbone_of(folder: Path, **settings: object) -> TextBackbone:
    """The text backbone in this folder."""
    found = load(str(folder), **settings)  # type: ignore[arg-type]
    assert isinstance(found, TextBackbone)
    return found


def assert_same_gradients(folder: Path, **settings: object) -> None:
    """Reading packed gives the gradients of reading padded, without dropout, for every weight."""
    found = []
    for packed in (False, True):
        backbone = backbone_of(folder, **settings)
        assert backbone.packing == "packed"
        for module in backbone.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        backbone.requires_grad_(True).train()
        parts = [row.parts[0] for row in backbone.encode(TEXTS)]
        goal = torch.linspace(-1, 1, backbone.width * len(parts)).view(len(parts), -1)
        (backbone.features_of(parts, packed=packed) * goal).sum().backward()
        found.append({name: p.grad for name, p in backbone.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    scale = max(float(g.abs().max()) for g in found[0].values())
    for name, grad in found[0].items():
        torch.testing.assert_close(found[1][name], grad, atol=1e-5 * scale, rtol=0, msg=name)
