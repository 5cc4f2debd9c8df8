"""torchvision's own Mask R-CNN, trained and scored as nuclei-lite0 is: the baseline of its card.

    python -m benchmarks.maskrcnn_baseline train DATA OUT [KEY=VALUE ...]
    python -m benchmarks.maskrcnn_baseline eval DATA OUT

DATA is the folder with train/ and val/. The backbone, the pyramid, the anchors' sizes, the box head's size, the images
and their order, the augmentation, the optimiser, the schedule and the averaging of weights are those of the recipe
nuclei-lite0. Everything behind the pyramid is torchvision's: its anchors, its proposals, its RoIAlign, its mask head of
four convolutions and a transposed one to 28x28, with the pyramid's width, and its pasting.
"""

from __future__ import annotations

import json
import sys
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from pointrend.data import InstanceBatch, InstanceTargets, Sample, find_samples
from pointrend.data.images import read_image
from pointrend.data.segmentations import mask_to_rle
from pointrend.evaluation import Scoring, score_split
from pointrend.inputs import network_input
from pointrend.metrics.instances import ImageInstances
from pointrend.models import Backbone
from pointrend.recipes import InstanceRecipe
from pointrend.results import LazyMasks
from pointrend.spec import InstanceSpec
from pointrend.tasks import TASKS
from pointrend.training.loop import train_prepared
from pointrend.training.memory import keep_freed_memory
from pointrend.training.prepare import LAST_MODEL, RESUME_FILE, Training
from pointrend.training.recipe import load_recipe

TASK = "maskrcnn"


class Features(nn.Module):
    """Backbone and pyramid as torchvision wants them."""

    def __init__(self, backbone: Backbone, channels: int) -> None:
        super().__init__()
        self.out_channels = channels
        self.backbone = backbone
        self.pyramid = FeaturePyramidNetwork(list(backbone.channels), channels, extra_blocks=LastLevelMaxPool())

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = OrderedDict((str(i), m) for i, m in enumerate(self.backbone(images)))
        features: dict[str, Tensor] = self.pyramid(maps)
        return features


class Baseline(nn.Module):
    """torchvision's Mask R-CNN without its resizing of images, which the recipe's transforms do."""

    def __init__(self, recipe: InstanceRecipe) -> None:
        super().__init__()
        settings, loss, detection = recipe.model, recipe.loss, recipe.test.detection
        width = settings.fpn_channels
        self.backbone = Backbone(settings.backbone)
        levels = ["0", "1", "2", "3"]
        model = MaskRCNN(
            Features(self.backbone, width),
            rpn_anchor_generator=AnchorGenerator(
                tuple(tuple(int(s) for s in sizes) for sizes in settings.anchor_sizes),
                (settings.anchor_ratios,) * 5,
            ),
            rpn_pre_nms_top_n_train=loss.proposals_per_level,
            rpn_post_nms_top_n_train=loss.max_proposals,
            rpn_pre_nms_top_n_test=detection.proposals_per_level,
            rpn_post_nms_top_n_test=detection.max_proposals,
            box_roi_pool=MultiScaleRoIAlign(levels, 7, 2, canonical_scale=int(settings.box_canonical_size)),
            box_head=TwoMLPHead(width * 49, settings.box_hidden),
            box_predictor=FastRCNNPredictor(settings.box_hidden, 2),
            box_score_thresh=detection.score_threshold,
            box_nms_thresh=detection.nms,
            box_detections_per_img=detection.max_detections,
            box_batch_size_per_image=loss.regions,
            box_positive_fraction=loss.positive_fraction,
            mask_roi_pool=MultiScaleRoIAlign(levels, 14, 2, canonical_scale=int(settings.box_canonical_size)),
            mask_head=MaskRCNNHeads(width, (width,) * 4, 1),
            mask_predictor=MaskRCNNPredictor(width, width, 2),
        )
        self.pyramid = model.backbone.pyramid
        self.rpn = model.rpn
        self.roi_heads = model.roi_heads

    def forward(
        self, images: Tensor, valid: list[tuple[int, int]], targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """What torchvision's model gives after resizing: detections of each image, and losses by name."""
        maps = OrderedDict((str(i), m) for i, m in enumerate(self.backbone(images)))
        features = {name: level.float() for name, level in self.pyramid(maps).items()}
        # Its parts are not made for half precision: boxes near 416 would be rounded to two pixels.
        with torch.autocast(images.device.type, enabled=False):
            proposals, rpn_losses = self.rpn(ImageList(images, valid), features, targets)
            detections, losses = self.roi_heads(features, proposals, valid, targets)
        return detections, {**rpn_losses, **losses}


class BaselineLosses(NamedTuple):
    """As the loop wants them."""

    total: Tensor
    objectness: Tensor
    proposals: Tensor
    classes: Tensor
    boxes: Tensor
    mask: Tensor
    accuracy: Tensor
    """Not measured: 0."""


class BaselineObjective(nn.Module):
    """The sum of torchvision's losses."""

    def __init__(self, network: Baseline) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: InstanceBatch, seed: int) -> BaselineLosses:
        wanted = [
            {"boxes": t.boxes.float(), "labels": t.classes + 1, "masks": masks_of(t).to(torch.uint8)}
            for t in batch.targets
        ]
        losses = self.network(batch.images, list(batch.valid), wanted)[1]
        names = ("loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg", "loss_mask")
        parts = [losses[name] for name in names]
        return BaselineLosses(sum(parts, torch.zeros(())), *(p.detach() for p in parts), torch.zeros(()))


def masks_of(target: InstanceTargets) -> Tensor:
    """(R, H, W) bool."""
    return target.ids[target.layers] == target.instance_ids[:, None, None]


class BaselineRecipe(InstanceRecipe):
    """The recipe of the baseline, for the table of tasks."""

    task: Literal["maskrcnn"] = "maskrcnn"  # type: ignore[assignment]


class BaselineSpec(InstanceSpec):
    """What the baseline's model files say of themselves."""

    task: Literal["maskrcnn"] = "maskrcnn"  # type: ignore[assignment]


def add_task(recipe: InstanceRecipe) -> BaselineRecipe:
    """Add a row to the table of tasks: instances with another network and its losses. Return the recipe for it."""
    TASKS[TASK] = replace(
        TASKS["instance"],
        spec=BaselineSpec,
        recipe=BaselineRecipe,
        network=lambda num_logits, architecture: Baseline(recipe),
        objective=lambda network, own, samples: BaselineObjective(network),
    )
    return BaselineRecipe.model_validate({**recipe.model_dump(), "task": TASK})


@torch.inference_mode()
def predicted(
    network: Baseline, recipe: InstanceRecipe, pixels: np.ndarray, image_id: int
) -> dict[str, ImageInstances]:
    """The instances of an image, pasted by torchvision's function, which rounds boxes to whole pixels; and by ours."""
    images, frame = network_input(pixels, input=recipe.input, test=recipe.test)
    (found,), _ = network(images, [frame.valid])
    height, width = pixels.shape[:2]
    factor = torch.tensor((width / frame.valid[1], height / frame.valid[0])).repeat(2)
    boxes = found["boxes"] * factor
    masks = paste_masks_in_image(found["masks"], boxes, (height, width))[:, 0] >= 0.5
    own = LazyMasks(found["masks"][:, 0].numpy(), boxes.numpy(), (height, width), paste="area")
    instances = ImageInstances(
        image_id=image_id,
        size=(height, width),
        boxes=boxes.numpy(),
        classes=found["labels"].numpy() - 1,
        masks=[mask_to_rle(mask) for mask in masks.numpy()],
        scores=found["scores"].numpy(),
    )
    by_area = replace(instances, masks=[own.rle(index) for index in range(len(own))])
    return {"torchvision": instances, "pasted by area": by_area}


def train(data: Path, out: Path, settings: list[str]) -> None:
    """Train the baseline, or go on where it stopped."""
    keep_freed_memory()
    recipe = load_recipe("nuclei-lite0", ["name=maskrcnn-lite0", *settings])
    assert isinstance(recipe, InstanceRecipe)
    samples = find_samples(data, task="instance", layout=recipe.data.layout, split=recipe.data.train)
    train_prepared(Training(add_task(recipe), samples, None), out, resume=(out / RESUME_FILE).exists())


def evaluate(data: Path, out: Path) -> None:
    """Score the trained baseline, and write and print the numbers."""
    saved = yaml.safe_load((out / "recipe.yaml").read_text())
    recipe = InstanceRecipe.model_validate({**saved, "task": "instance"})
    network = Baseline(recipe)
    network.load_state_dict(load_file(out / LAST_MODEL))
    network.eval()
    samples = find_samples(data, task="instance", layout=recipe.data.layout, split=recipe.data.val)

    def predict(index: int, sample: Sample) -> tuple[tuple[int, int], dict[str, Any]]:
        pixels = read_image(sample.image)
        return (pixels.shape[0], pixels.shape[1]), predicted(network, recipe, pixels, index)

    result = score_split(
        samples,
        predict,
        Scoring(
            max_detections=recipe.test.detection.max_detections,
            progress=lambda done, total: print(f"\r{done}/{total}", end="", file=sys.stderr),
        ),
    )
    print(file=sys.stderr)
    content = json.dumps(result.to_dict(), indent=1)
    (out / "scores.json").write_text(content + "\n")
    print(content)


def main() -> None:
    if len(sys.argv) < 4 or sys.argv[1] not in ("train", "eval"):
        raise SystemExit(__doc__)
    command, data, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if command == "train":
        train(data, out, sys.argv[4:])
    else:
        evaluate(data, out)


if __name__ == "__main__":
    main()
