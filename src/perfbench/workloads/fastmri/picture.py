"""What a batch looks like: what the model gets, gives, and should give."""

from __future__ import annotations

from torch import nn

from perfbench.api.picture import ImagePanel, Picture, spread_examples
from perfbench.api.workload import Batch
from perfbench.workloads.fastmri.ssim import similarity_in_raw_unit

_NUM_SHOWN = 4
_COLUMNS = 4


def reconstructions(model: nn.Module, batch: Batch) -> Picture:
    """Return a row for each slice: input, prediction, target (one grey scale), and the error's size."""
    shown = spread_examples(batch, batch["weights"], count=_NUM_SHOWN)
    predicted = model(shown["inputs"])
    before, after = (similarity_in_raw_unit(images, shown).tolist() for images in (shown["inputs"], predicted))
    panels = []
    for number in range(len(predicted)):
        target = shown["targets"][number].cpu().numpy()
        limits = (float(target.min()), float(target.max()))
        images = {
            f"input, SSIM {before[number]:.3f}": shown["inputs"][number],
            f"prediction, {after[number]:.3f}": predicted[number],
            "target": shown["targets"][number],
        }
        panels += [
            ImagePanel(title=title, pixels=image.float().cpu().numpy(), limits=limits)
            for title, image in images.items()
        ]
        error = abs(predicted[number].float().cpu().numpy() - target)
        panels.append(ImagePanel(title="error", pixels=error, limits=(0.0, limits[1] - limits[0])))
    mean = sum(after) / len(after)
    return Picture(
        caption=f"{len(after)} of {len(batch['weights'])} slices; mean similarity (SSIM) of the predictions {mean:.3f}",
        panels=tuple(panels),
        num_columns=_COLUMNS,
    )
