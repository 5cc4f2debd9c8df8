"""The classes of instance data sets, in the order of published models' logits."""

from __future__ import annotations

from pointrend.data.classes import CITYSCAPES, ClassInfo, generate_colors

_COCO_NAMES = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign,
parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella,
handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard,
surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange,
broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv,
laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase,
scissors, teddy bear, hair drier, toothbrush
"""

COCO = tuple(
    ClassInfo(name=name, color=color)
    for name, color in zip(" ".join(_COCO_NAMES.split()).split(", "), generate_colors(80), strict=True)
)
"""The 80 categories by ascending id, which has gaps."""

CITYSCAPES_THINGS = CITYSCAPES[-8:]
"""Person, rider, car, truck, bus, train, motorcycle, bicycle."""
