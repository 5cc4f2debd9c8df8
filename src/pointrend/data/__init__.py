"""Data sets by layout, their checks, and the transforms for training."""

from __future__ import annotations

from pointrend.data.checks import DatasetError, Problem, check_dataset, ensure_sound
from pointrend.data.classes import IGNORE, ClassInfo, generate_colors, read_classes
from pointrend.data.dataset import SemanticBatch, SemanticDataset
from pointrend.data.images import ImageError, read_image, read_labels
from pointrend.data.layouts import LAYOUTS, Sample, SampleSet, find_samples
from pointrend.data.loader import IterationBatchSampler
from pointrend.data.transforms import train_transform

__all__ = [
    "IGNORE",
    "LAYOUTS",
    "ClassInfo",
    "DatasetError",
    "ImageError",
    "IterationBatchSampler",
    "Problem",
    "Sample",
    "SampleSet",
    "SemanticBatch",
    "SemanticDataset",
    "check_dataset",
    "ensure_sound",
    "find_samples",
    "generate_colors",
    "read_classes",
    "read_image",
    "read_labels",
    "train_transform",
]
