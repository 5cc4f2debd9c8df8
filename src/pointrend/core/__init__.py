"""The paper as pure functions over tensors: this package imports torch and nothing of ours."""

from pointrend.core.labels import MAX_INDEPENDENT, class_masks, labels_of, resized_labels
from pointrend.core.losses import (
    Average,
    independent_cross_entropy,
    mask_point_loss,
    point_accuracy,
    point_cross_entropy,
    semantic_cross_entropy,
)
from pointrend.core.points import (
    box_to_image,
    image_to_box,
    pixel_centers,
    regular_grid,
    sample_labels,
    sample_masks,
    sample_points,
)
from pointrend.core.query_losses import (
    QueryLosses,
    mask_dice_loss,
    mask_targets,
    matched_mask_losses,
    matching_costs,
    pairwise_mask_dice_loss,
    pairwise_mask_point_loss,
)
from pointrend.core.selection import most_uncertain_points, training_points
from pointrend.core.settings import (
    LABEL_SAMPLING,
    LABEL_SUBDIVISION,
    MASK_SAMPLING,
    MASK_SUBDIVISION,
    QUERY_SAMPLING,
    LossWeights,
    Sampling,
    Subdivision,
)
from pointrend.core.sparse.fused import RenderedPass, Window, fused_labels, fused_probabilities, mean_of_windows
from pointrend.core.sparse.render import Resize, render_labels, renderings, resized
from pointrend.core.sparse.rendering import Rendering
from pointrend.core.subdivision import SubdivisionStep, subdivide, subdivision_steps, write_points
from pointrend.core.uncertainty import (
    binary_uncertainty,
    check_finite,
    independent_uncertainty,
    multiclass_uncertainty,
    uncertainty,
)

__all__ = [
    "LABEL_SAMPLING",
    "LABEL_SUBDIVISION",
    "MASK_SAMPLING",
    "MASK_SUBDIVISION",
    "MAX_INDEPENDENT",
    "QUERY_SAMPLING",
    "Average",
    "LossWeights",
    "QueryLosses",
    "RenderedPass",
    "Rendering",
    "Resize",
    "Sampling",
    "Subdivision",
    "SubdivisionStep",
    "Window",
    "binary_uncertainty",
    "box_to_image",
    "check_finite",
    "class_masks",
    "fused_labels",
    "fused_probabilities",
    "image_to_box",
    "independent_cross_entropy",
    "independent_uncertainty",
    "labels_of",
    "mask_dice_loss",
    "mask_point_loss",
    "mask_targets",
    "matched_mask_losses",
    "matching_costs",
    "mean_of_windows",
    "most_uncertain_points",
    "multiclass_uncertainty",
    "pairwise_mask_dice_loss",
    "pairwise_mask_point_loss",
    "pixel_centers",
    "point_accuracy",
    "point_cross_entropy",
    "regular_grid",
    "render_labels",
    "renderings",
    "resized",
    "resized_labels",
    "sample_labels",
    "sample_masks",
    "sample_points",
    "semantic_cross_entropy",
    "subdivide",
    "subdivision_steps",
    "training_points",
    "uncertainty",
    "write_points",
]
