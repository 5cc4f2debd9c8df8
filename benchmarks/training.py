"""Training steps and loading, beside what others do: in their layouts, and with their steps of loading.

    python -m benchmarks.training [--images DATA/people/val] [--repeats 5]

Steps are those of recipes on random images, forward to the optimiser, in CPU time of one thread, interleaved. As in
detectron2: contiguous maps and frozen batch norms; as in mmsegmentation: contiguous maps. Loading is that of
cityscapes-r50, of PNGs of 1024x2048 (photographs of --images, enlarged) to crops; mmsegmentation's steps are written
with OpenCV here, as its pipeline uses it (pip install opencv-python-headless).
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.measure import processor
from pointrend.data import SegmentationDataset, SemanticBatch, find_samples, train_transform
from pointrend.models import semantic_pointrend
from pointrend.objectives import SemanticObjective
from pointrend.timing import Spread, interleaved, ratios
from pointrend.training.freeze import freeze_backbone
from pointrend.training.optim import build_optimizer
from pointrend.training.precision import depthwise_in_float32
from pointrend.training.recipe import load_recipe


def step(
    name: str,
    size: tuple[int, int],
    *,
    channels_last: bool = True,
    frozen: bool = False,
    half: bool = False,
    points: bool = True,
) -> Callable[[], object]:
    """Return a training step of a recipe on two images."""
    recipe: Any = load_recipe(name, [])
    torch.manual_seed(0)
    network = semantic_pointrend(19, recipe.model)
    freeze_backbone(network.backbone, norm=frozen, stages=0)
    if half:
        depthwise_in_float32(network)
    images = torch.randn(2, 3, *size)
    if channels_last:
        network, images = network.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    cells = torch.randint(0, 19, (2, size[0] // 8, size[1] // 8))
    batch = SemanticBatch(images, cells.repeat_interleave(8, 1).repeat_interleave(8, 2))
    objective: Any = SemanticObjective(network, recipe.loss) if points else _CoarseAlone(network, recipe.loss)
    optimizer = build_optimizer(network, recipe.optim)

    def run() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            losses = objective(batch, 1)
        losses.total.backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


class _CoarseAlone(SemanticObjective):
    """The loss without points."""

    def forward(self, batch: SemanticBatch, seed: int) -> Any:
        upsampled = self.network.upsampled(self.network(batch.images), batch.labels.shape[1:])

        class Losses:
            total = self._of_pixels(upsampled, batch.labels)

        return Losses


def print_steps(repeats: int) -> None:
    """Print the steps of two recipes."""
    for name, size in (("cityscapes-r50", (256, 512)), ("people-lite0", (416, 320))):
        times = interleaved(
            {
                "pointrend": step(name, size),
                "bf16-mixed": step(name, size, half=True),
                "frozen batch norm": step(name, size, frozen=True),
                "as detectron2": step(name, size, channels_last=False, frozen=True),
                "as mmsegmentation": step(name, size, channels_last=False),
                "without points": step(name, size, points=False),
            },
            repeats=repeats,
            clock=time.process_time,
        )
        print(f"\n{name}, 2 images of {size[0]}x{size[1]}\n\n| step | s | times of pointrend's |\n|---|---|---|")
        for title in times:
            print(f"| {title} | {Spread.of(times[title]).median:.3f} | {_shown(ratios(times, title, 'pointrend'))} |")


def print_loading(photos: Path, repeats: int) -> None:
    """Print the loading of eight images."""
    recipe: Any = load_recipe("cityscapes-r50", [])
    with tempfile.TemporaryDirectory() as folder:
        write_streets(photos, Path(folder))
        samples = find_samples(Path(folder), task="semantic", layout="folder", split="train")
        dataset = SegmentationDataset(samples, train_transform(recipe.augment, recipe.input))
        files = [(sample.image, Path(folder) / "train" / "labels" / sample.image.name) for sample in samples.samples]
        seeds = iter(range(10**6))
        random = np.random.default_rng(0)
        times = interleaved(
            {
                "pointrend": lambda: [dataset[index, next(seeds)] for index in range(len(files))],
                "as mmsegmentation": lambda: [mmseg_crop(image, labels, random) for image, labels in files],
            },
            repeats=repeats,
            clock=time.process_time,
        )
    print("\n8 PNGs of 1024x2048 to crops of 512x1024\n\n| loading | s | times of pointrend's |\n|---|---|---|")
    for title in times:
        print(f"| {title} | {Spread.of(times[title]).median:.3f} | {_shown(ratios(times, title, 'pointrend'))} |")


def write_streets(photos: Path, out: Path) -> None:
    """Write eight enlarged photographs and their labels as a data set, with noise of cameras."""
    random = np.random.default_rng(0)
    for name in ("images", "labels"):
        (out / "train" / name).mkdir(parents=True)
    (out / "classes.json").write_text("[" + ", ".join(f'"class {index}"' for index in range(19)) + "]")
    for path in sorted((photos / "images").iterdir())[:8]:
        image = Image.open(path).convert("RGB").resize((2048, 1024), Image.Resampling.BICUBIC)
        pixels = np.asarray(image) + random.normal(0, 2, (1024, 2048, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(out / "train" / "images" / f"{path.stem}.png")
        labels = Image.open(photos / "labels" / f"{path.stem}.png").resize((2048, 1024), Image.Resampling.NEAREST)
        labels.save(out / "train" / "labels" / f"{path.stem}.png")


def mmseg_crop(image: Path, labels: Path, random: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Load a crop with the steps of mmsegmentation's pipeline: whole images are resized, colours in OpenCV's HSV."""
    import cv2

    cv2.setNumThreads(1)
    pixels = cv2.imdecode(np.frombuffer(image.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    truth = np.array(Image.open(labels))
    factor = random.uniform(0.5, 2.0)
    size = (int(pixels.shape[1] * factor + 0.5), int(pixels.shape[0] * factor + 0.5))
    pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR)
    truth = cv2.resize(truth, size, interpolation=cv2.INTER_NEAREST)
    for _ in range(10):
        top, left = (
            int(random.integers(0, max(0, side - crop) + 1))
            for side, crop in zip(truth.shape, (512, 1024), strict=True)
        )
        part = truth[top : top + 512, left : left + 1024]
        found, counts = np.unique(part, return_counts=True)
        counts = counts[found != 255]
        if len(counts) > 1 and counts.max() / counts.sum() < 0.75:
            break
    pixels, truth = pixels[top : top + 512, left : left + 1024], part
    if random.random() < 0.5:
        pixels, truth = cv2.flip(pixels, 1), np.flip(truth, axis=1).copy()
    contrast_first = random.random() < 0.5
    if random.random() < 0.5:
        pixels = _linear(pixels, shift=random.uniform(-32, 32))
    if contrast_first and random.random() < 0.5:
        pixels = _linear(pixels, factor=random.uniform(0.5, 1.5))
    if random.random() < 0.5:
        hsv = cv2.cvtColor(pixels, cv2.COLOR_BGR2HSV)
        hsv[:, :, 1] = _linear(hsv[:, :, 1], factor=random.uniform(0.5, 1.5))
        pixels = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    if random.random() < 0.5:
        hsv = cv2.cvtColor(pixels, cv2.COLOR_BGR2HSV)
        hsv[:, :, 0] = (hsv[:, :, 0].astype(int) + random.integers(-18, 18)) % 180
        pixels = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    if not contrast_first and random.random() < 0.5:
        pixels = _linear(pixels, factor=random.uniform(0.5, 1.5))
    tensor = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[[2, 1, 0]].float()
    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)))
    return (tensor - mean) / deviation, torch.from_numpy(truth.astype(np.int64))


def _linear(values: np.ndarray, *, factor: float = 1.0, shift: float = 0.0) -> np.ndarray:
    return np.asarray(np.clip(values.astype(np.float32) * factor + shift, 0, 255), np.uint8)


def _shown(spread: Spread) -> str:
    return f"{spread.median:.2f} ({spread.low:.2f} to {spread.high:.2f})"


def main() -> None:
    """Print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="a split of a data set of photographs, with images/ and labels/")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{processor()}, 1 thread, Python {platform.python_version()}, PyTorch {torch.__version__}")
    print_steps(given.repeats)
    if given.images is not None:
        print_loading(given.images, given.repeats)


if __name__ == "__main__":
    main()
