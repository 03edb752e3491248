#!/usr/bin/python3
"""Checks an exported model against torchvision: same names, same shapes, same logits.

    check_torchvision.py EXPORTED.safetensors INPUT_LOGITS.safetensors --model resnet50

EXPORTED holds the state dictionary. INPUT_LOGITS holds two tensors: `input` [N, C, side, side] and `logits`
[N, classes], computed by Tempo in eval mode. The dictionary is loaded with strict=True; the logits must agree to 1e-4
of the largest one. Prints one line; exits 0 if they agree, 1 if not.

Needs Debian's python3-torch and python3-torchvision. torchvision's own models are taken as they are for the ImageNet
variants; for the small-image variants (a 3x3 first convolution, a 512-wide classifier) the parts that Tempo documents
as different are replaced here. ViT models are renamed from timm's names to torchvision's.
"""

import argparse
import json
import re
import struct
import sys
import textwrap

import torch
import torchvision

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64}
TOLERANCE = 1e-4
VIT_WIDTHS = {"vit_tiny": 192, "vit_small": 384, "vit_base": 768}
VIT_NAMES = [
    (r"^cls_token$", "class_token"),
    (r"^pos_embed$", "encoder.pos_embedding"),
    (r"^patch_embed\.proj\.", "conv_proj."),
    (r"^norm\.", "encoder.ln."),
    (r"^head\.", "heads.head."),
    (r"^blocks\.(\d+)\.", r"encoder.layers.encoder_layer_\1."),
    (r"\.norm1\.", ".ln_1."),
    (r"\.norm2\.", ".ln_2."),
    (r"\.attn\.qkv\.", ".self_attention.in_proj_"),
    (r"\.attn\.proj\.", ".self_attention.out_proj."),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.3."),
]


def read_safetensors(path):
    with open(path, "rb") as file:
        content = file.read()
    (header_bytes,) = struct.unpack_from("<Q", content)
    data = bytearray(content[8 + header_bytes :])
    tensors = {}
    for name, entry in json.loads(content[8 : 8 + header_bytes]).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        # A copy: torch wants every tensor at an aligned address.
        raw = bytearray(data[begin:end])
        tensors[name] = torch.frombuffer(raw, dtype=DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def torchvision_names(state):
    renamed = {}
    for name, tensor in state.items():
        for pattern, replacement in VIT_NAMES:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed


def make_vit(name, state, side):
    width = VIT_WIDTHS[name]
    return torchvision.models.VisionTransformer(
        image_size=side,
        patch_size=state["patch_embed.proj.weight"].shape[-1],
        num_layers=12,
        num_heads=width // 64,
        hidden_dim=width,
        mlp_dim=4 * width,
        num_classes=state["head.weight"].shape[0],
    )


def make_resnet(name, state):
    model = getattr(torchvision.models, name)(num_classes=state["fc.weight"].shape[0])
    if state["conv1.weight"].shape[-1] == 3:
        model.conv1 = torch.nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
        model.maxpool = torch.nn.Identity()
    return model


def make_vgg(name, state):
    model = getattr(torchvision.models, name + "_bn")(num_classes=state["classifier.6.weight"].shape[0])
    if state["classifier.0.weight"].shape[1] == 512:
        model.avgpool = torch.nn.Identity()
        for index in (0, 3):
            model.classifier[index] = torch.nn.Linear(512, 512)
        model.classifier[6] = torch.nn.Linear(512, state["classifier.6.weight"].shape[0])
    return model


def load(name, state, side):
    if name in VIT_WIDTHS:
        model, state = make_vit(name, state, side), torchvision_names(state)
    elif name.startswith("vgg"):
        model = make_vgg(name.removesuffix("_bn"), state)
    else:
        model = make_resnet(name, state)
    model.load_state_dict(state, strict=True)
    return model.eval()


def main():
    parser = argparse.ArgumentParser(description="Checks an exported model against torchvision.")
    parser.add_argument("exported")
    parser.add_argument("input_logits")
    parser.add_argument("--model", required=True, choices=["resnet18", "resnet34", "resnet50", "vgg16", *VIT_WIDTHS])
    arguments = parser.parse_args()

    stored = read_safetensors(arguments.input_logits)
    images = stored["input"].float()
    try:
        model = load(arguments.model, read_safetensors(arguments.exported), images.shape[-1])
    except (KeyError, RuntimeError) as error:  # a missing, unexpected or misshapen tensor
        print(f"{arguments.model}: does not load into torchvision: {textwrap.shorten(str(error), 300)}")
        return 1
    with torch.no_grad():
        expected = model(images)
    logits = stored["logits"].float()
    if logits.shape != expected.shape:
        print(f"{arguments.model}: stored logits are {list(logits.shape)}, torchvision's {list(expected.shape)}")
        return 1
    error = ((logits - expected).abs().max() / expected.abs().max()).item()
    agrees = error <= TOLERANCE  # false for a NaN
    print(f"{arguments.model}: relative error of the logits {error:.1e}, {'agrees' if agrees else 'DIFFERS'}")
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main())
