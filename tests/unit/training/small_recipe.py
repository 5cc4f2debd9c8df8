"""Settings that make `people-lite0` a network that trains in a second on what `people_files.write_labels` writes."""

SMALL = (
    "data.layout=folder",
    "model.backbone=test_efficientnet",
    "model.fpn_channels=8",
    "model.coarse_channels=8",
    "model.point.hidden=8",
    "augment.crop=[32, 32]",
    "loss.sampling.num_points=64",
    "loss.class_balance=0",
    "start.weights=none",
    "train.batch_size=2",
    "train.workers=0",
    "train.precision=32-true",
    "test.shortest=32",
    "test.longest=32",
)
