"""Data sets by layout, their checks, and the transforms for training."""

from __future__ import annotations

from pointrend.data.batches import InstanceBatch, InstanceTargets, SemanticBatch, instance_batch, semantic_batch
from pointrend.data.census import Census, ensure_learnable
from pointrend.data.checks import check_dataset, ensure_sound
from pointrend.data.classes import IGNORE, ClassInfo
from pointrend.data.dataset import SegmentationDataset
from pointrend.data.emptiness import with_objects
from pointrend.data.images import ImageError
from pointrend.data.layouts import LAYOUTS, find_samples
from pointrend.data.problems import DatasetError
from pointrend.data.sampler import IterationBatchSampler, repeat_factors
from pointrend.data.samples import InstanceMasks, InstanceTruth, Sample, SampleSet
from pointrend.data.settings import InputSpec, InstanceAugment, SemanticAugment
from pointrend.data.transforms import train_transform

__all__ = [
    "IGNORE",
    "LAYOUTS",
    "Census",
    "ClassInfo",
    "DatasetError",
    "ImageError",
    "InputSpec",
    "InstanceAugment",
    "InstanceBatch",
    "InstanceMasks",
    "InstanceTargets",
    "InstanceTruth",
    "IterationBatchSampler",
    "Sample",
    "SampleSet",
    "SegmentationDataset",
    "SemanticAugment",
    "SemanticBatch",
    "check_dataset",
    "ensure_learnable",
    "ensure_sound",
    "find_samples",
    "instance_batch",
    "repeat_factors",
    "semantic_batch",
    "train_transform",
    "with_objects",
]
