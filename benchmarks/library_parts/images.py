"""torchvision: views of images, augmentation, normalisation, parts of a transformer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.vision_transformer import EncoderBlock
from torchvision.transforms import v2

from benchmarks.library_parts.part import Part, seeded
from perfbench.compose import compose_workload
from perfbench.data.images.mixup import mixed
from perfbench.data.images.params import PIXEL_MEAN, PIXEL_STD
from perfbench.data.images.randaugment import GREY, rand_augment
from perfbench.data.images.transforms import SeededDraws, normalised, train_view
from perfbench.workloads.imagenet_vit.model import Block
from perfbench.workloads.imagenet_vit.params import Params

_NUM_CLASSES = 1000
_AREA_RANGE = (0.08, 1.0)


def parts() -> list[Part]:
    """Return the parts of images."""
    image = torch.randint(0, 256, (3, 375, 500), dtype=torch.uint8, generator=seeded())
    batch = torch.randint(0, 256, (4, 3, 224, 224), dtype=torch.uint8, generator=seeded())
    return [_view(image), _randaugment(batch[0]), _normalise(batch), _mixup(batch), _block()]


def _view(image: Tensor) -> Part:
    theirs = v2.Compose([v2.RandomResizedCrop(224, scale=_AREA_RANGE, antialias=True), v2.RandomHorizontalFlip()])
    draws = SeededDraws(0)
    return Part(
        "crop, resize, flip",
        "v2.RandomResizedCrop, v2.RandomHorizontalFlip",
        lambda: train_view(image, crop_side=224, area_range=_AREA_RANGE, flip=True, draws=draws),
        lambda: theirs(image),
        "the functions are torchvision's; the draws are ours: of each image, not of the process",
        is_random=True,
    )


def _randaugment(image: Tensor) -> Part:
    theirs = v2.RandAugment(num_ops=2, magnitude=30, fill=GREY)
    draws = SeededDraws(0)
    return Part(
        "RandAugment",
        "v2.RandAugment(magnitude=30)",
        lambda: rand_augment(image, num_operations=2, draws=draws),
        lambda: theirs(image),
        "the functions are torchvision's; the published list of operations is another",
        is_random=True,
    )


def _normalise(batch: Tensor) -> Part:
    def theirs() -> Tensor:
        pixels = v2.functional.to_dtype(batch, torch.float32, scale=True)
        out: Tensor = v2.functional.normalize(pixels, list(PIXEL_MEAN), list(PIXEL_STD))
        return out

    return Part(
        "bytes to standardised pixels",
        "v2.functional.to_dtype, normalize",
        lambda: normalised(batch, torch.float32),
        theirs,
        "ours: blends of bytes are floats, which to_dtype does not scale",
        is_compiled=True,
    )


def _mixup(batch: Tensor) -> Part:
    own = 0.3
    targets = torch.randint(0, _NUM_CLASSES, (len(batch),), generator=seeded())
    blended = {
        "inputs": batch,
        "partners": batch.roll(1, 0),
        "targets": targets,
        "partner_targets": targets.roll(1),
        "mix_weights": torch.full((len(batch),), own),
    }
    mixup = v2.MixUp(num_classes=_NUM_CLASSES)
    pixels = batch.float()

    def theirs() -> Tensor:
        images: Tensor = mixup.transform(pixels, {"lam": own, "labels": targets, "batch_size": len(batch)})
        return images

    return Part(
        "MixUp, one weight",
        "v2.MixUp",
        lambda: mixed(blended, _NUM_CLASSES)[0],
        theirs,
        "ours: a weight for each example and partners from before the shard, the same for any number of ranks",
        is_compiled=True,
    )


def _block() -> Part:
    params = Params.from_mapping(compose_workload("imagenet_vit", scale="full").params)
    torch.manual_seed(0)
    ours = Block(params).train()
    theirs = EncoderBlock(
        params.num_heads, params.width, params.mlp_width, 0.0, 0.0, lambda width: nn.LayerNorm(width, eps=1e-6)
    ).train()
    theirs.mlp[1] = nn.GELU(approximate="tanh")
    copy_weights(ours, theirs)
    tokens = torch.randn(2, 196, params.width, generator=seeded())
    return Part(
        "block of the transformer",
        "models.vision_transformer.EncoderBlock",
        lambda: ours(tokens),
        lambda: theirs(tokens),
        "ours: query, key and value have roles and initialisations of their own",
        is_compiled=True,
        has_gradient=True,
    )


def copy_weights(block: Block, to: nn.Module) -> None:
    """Give torchvision's block the weights of ours."""
    attention, mlp = block.attention, block.mlp
    of_three = (attention.query, attention.key, attention.value)
    values = {
        "ln_1.weight": block.attention_norm.weight,
        "ln_1.bias": block.attention_norm.bias,
        "self_attention.in_proj_weight": torch.cat([part.weight for part in of_three]),
        "self_attention.in_proj_bias": torch.cat([part.bias for part in of_three]),
        "self_attention.out_proj.weight": attention.out.weight,
        "self_attention.out_proj.bias": attention.out.bias,
        "ln_2.weight": block.mlp_norm.weight,
        "ln_2.bias": block.mlp_norm.bias,
        "mlp.0.weight": mlp.inner.weight,
        "mlp.0.bias": mlp.inner.bias,
        "mlp.3.weight": mlp.outer.weight,
        "mlp.3.bias": mlp.outer.bias,
    }
    to.load_state_dict(values)
