"""Does PointRend help a network that is not ours? Hosts trained plainly, then on, alone and with PointRend.

    python -m benchmarks.hosts --data DATA --out runs/hosts

Every host is trained plainly on its own output; from those weights, and for the same number of further iterations, it
is trained alone, jointly with PointRend, and frozen under PointRend. Trainings that are done are not repeated.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import pointrend
from pointrend.core import Subdivision
from pointrend.data import find_samples
from pointrend.data.settings import InputSpec
from pointrend.models import PointArchitecture
from pointrend.models.hosts.families import build_host
from pointrend.models.point_head import PointHead
from pointrend.models.semantic_network import SemanticNetwork
from pointrend.spec import SemanticTest
from pointrend.studies.table import Spread, StudyTable
from pointrend.training.initial import load_imagenet_weights
from pointrend.zoo import Model

POINT = PointArchitecture(hidden=128, normalize=True)
INPUT = InputSpec(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))
ENCODER = "tf_efficientnet_lite0"
COMMON = [
    "loss.sampling.num_points=1024",
    "optim.lr=2e-3",  # of the point head and the stem
    "optim.backbone_lr=5e-4",
    "optim.ema=0",
    "optim.warmup=20",
    "train.batch_size=4",
    "train.workers=0",
    "train.precision=32-true",
    "train.log_every=25",
    "train.save_every=50",
]


HOST_WEIGHTS = "host.pt"
WAYS = {
    "plain": "plain",
    "alone": "further, alone",
    "joint": "further, with PointRend",
    "frozen": "frozen, PointRend alone",
}


@dataclass(frozen=True)
class Data:
    """A data set to train and to evaluate on."""

    recipe: str
    layout: str
    crop: str
    test: SemanticTest
    images: int
    """Of the validation split, evenly spaced over it."""


@dataclass(frozen=True)
class Host:
    """A host with ImageNet's weights in its encoder."""

    title: str
    name: str
    arguments: dict[str, Any]
    stem: bool = False
    """Points read the stem alone, as on vision transformers."""


DATA = {
    "camvid": Data(
        "camvid-lite0", "camvid", "[160, 192]", SemanticTest(shortest=352, longest=480, pad_multiple=32), 40
    ),
    "people": Data(
        "people-lite0", "people", "[192, 160]", SemanticTest(shortest=320, longest=640, pad_multiple=32), 40
    ),
}
HOSTS = (
    Host("FPN", "smp.FPN", {"encoder_name": f"tu-{ENCODER}"}),
    Host("Unet", "smp.Unet", {"encoder_name": f"tu-{ENCODER}"}),
    Host("linear at stride 16", "timm.linear", {"model": ENCODER, "out_indices": (3,)}, stem=True),
)


class Plain(SemanticNetwork):
    """A host alone: its own output at the input's size is the coarse prediction, and nothing is rendered."""

    def __init__(self, host: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.backbone = host
        self.point_head = PointHead(in_channels=num_classes, num_classes=num_classes, architecture=POINT)
        self.padding = "border"

    def maps(self, images: Tensor) -> tuple[Tensor, ...]:
        logits = self.backbone(images)
        if logits.shape[2:] != images.shape[2:]:  # a host that leaves the upsampling to its user
            logits = nn.functional.interpolate(logits, images.shape[2:], mode="bilinear", align_corners=False)
        return logits, logits.detach()


def built(host: Host, classes: int, *, imagenet: bool) -> nn.Module:
    """Build a host, with ImageNet's weights in its encoder if asked."""
    family, name = host.name.split(".")
    network = build_host(family, name, classes, host.arguments)
    if imagenet:
        load_imagenet_weights(getattr(network, "encoder", None) or Encoder(network.features), ENCODER)
    return network


class Encoder:
    """The features of a timm model, in the shape that `load_imagenet_weights` takes."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model


def attached(host: Host, network: nn.Module, data: Data, classes: list[str], *, frozen: bool) -> Model:
    """Put PointRend on a trained host."""
    inner = {"smp.Unet": "decoder.blocks.2"}.get(host.name)
    model = pointrend.attach(
        network,
        POINT,
        coarse=inner,
        num_classes=len(classes),
        classes=classes,
        freeze_host=frozen,
        stem=host.stem,
        fine=[] if host.stem else None,
        input=INPUT,
        test=data.test,
    )
    assert isinstance(model, Model)
    return model


def plain(host: Host, network: nn.Module, data: Data, classes: list[str]) -> Model:
    """Return a host alone, as a model."""
    spec = attached(host, network, data, classes, frozen=False).spec
    test = data.test.model_copy(update={"subdivision": Subdivision(num_points=8, steps=0)})
    return Model(Plain(network, len(classes)), spec.model_copy(update={"test": test}))


def trained(model: Model, data: Data, folder: Path, root: Path, settings: list[str]) -> dict[str, Any]:
    """Train a model, or read what an earlier call found: its scores, its time an image and its size."""
    finished = folder / "scores.json"
    if not finished.is_file():
        resume = (folder / "last.pt").is_file()
        pointrend.train(data.recipe, root, folder, settings=settings, model=model, resume=resume)
        model.network.load_state_dict(torch.load(folder / "last.pt", weights_only=True)["network"])
        torch.save(model.network.backbone.state_dict(), folder / HOST_WEIGHTS)
        rows = pointrend.evaluate(model, root, split="val", layout=data.layout, limit=data.images).rows
        facts = {"rows": rows, "ms": milliseconds(model, root / "val"), "parameters": parameters(model)}
        finished.write_text(json.dumps(facts, indent=1))
    found: dict[str, Any] = json.loads(finished.read_text())
    return found


def parameters(model: Model) -> int:
    """Return the number of parameters that a prediction uses."""
    unused = model.network.point_head if isinstance(model.network, Plain) else nn.Identity()
    return sum(p.numel() for p in model.network.parameters()) - sum(p.numel() for p in unused.parameters())


def milliseconds(model: Model, split: Path) -> float:
    """Return the median CPU time of a prediction, of ten images after one."""
    times = []
    for image in sorted((split / "images").iterdir())[:11]:
        begun = time.process_time()
        model.predict(image)
        times.append(1000 * (time.process_time() - begun))
    return statistics.median(times[1:])


def compared(host: Host, key: str, seed: int, root: Path, out: Path, plain_steps: int, steps: int) -> dict[str, Any]:
    """Train a host plainly, then on in three ways; return the facts of each."""
    data, folder = DATA[key], out / key / host.name / f"seed-{seed}"
    classes = list(find_samples(root, task="semantic", layout=data.layout, split="val").class_names)

    def settings(iterations: int, *more: str) -> list[str]:
        steps = [f"train.iterations={iterations}", f"train.eval_every={2 * iterations}", f"train.seed={seed}"]
        return [*COMMON, f"augment.crop={data.crop}", "train.eval_images=1", *steps, *more]

    def start() -> nn.Module:
        network = built(host, len(classes), imagenet=False)
        network.load_state_dict(torch.load(folder / "plain" / HOST_WEIGHTS, weights_only=True))
        return network

    alone = "loss.weights.points=0"
    torch.manual_seed(seed)
    fresh = plain(host, built(host, len(classes), imagenet=True), data, classes)
    facts = {"plain": trained(fresh, data, folder / "plain", root, settings(plain_steps, alone))}
    torch.manual_seed(100 + seed)
    further = {
        "alone": (plain(host, start(), data, classes), [alone]),
        "joint": (attached(host, start(), data, classes, frozen=False), []),
        "frozen": (attached(host, start(), data, classes, frozen=True), []),
    }
    for name, (model, more) in further.items():
        facts[name] = trained(model, data, folder / name, root, settings(steps, *more))
    return facts


def table(key: str, found: dict[str, list[dict[str, Any]]]) -> StudyTable:
    """Return the table of a data set from the facts of each host's seeds."""
    rows = []
    for title, seeds in found.items():
        for way, label in WAYS.items():
            runs = [facts[way] for facts in seeds]
            last = [run["rows"][list(run["rows"])[-1]] for run in runs]
            numbers = [Spread(tuple(row[number] for row in last)) for number in ("miou", "boundary_iou")]
            ms, size = Spread(tuple(run["ms"] for run in runs)), f"{runs[0]['parameters'] / 1e6:.2f}"
            rows.append((title, label, *numbers, f"{ms.mean:.0f}", size))
    columns = ("host", "training", "mIoU", "Boundary IoU", "CPU ms an image", "million parameters")
    return StudyTable(title=key, columns=columns, rows=tuple(rows))


def main() -> None:
    """Train all, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder with camvid/ and people/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--plain", type=int, default=200, help="iterations of the plain training")
    parser.add_argument("--further", type=int, default=100, help="iterations of each further one")
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1])
    given = parser.parse_args()
    found: dict[str, dict[str, list[dict[str, Any]]]] = {key: {} for key in DATA}
    for seed in given.seed:
        for key in DATA:
            for host in HOSTS:
                facts = compared(host, key, seed, given.data / key, given.out, given.plain, given.further)
                found[key].setdefault(host.title, []).append(facts)
                print(f"\n{key}, seed {seed}\n\n{table(key, found[key]).markdown()}", flush=True)


if __name__ == "__main__":
    main()
