"""Numbers and names that a model file, a recipe or an option may not ask for: one line that says what is allowed."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from pointrend.core import LossWeights, Sampling, Subdivision
from pointrend.data.classes import ClassInfo
from pointrend.errors import PointRendError, plain_text
from pointrend.predict import PredictOptions
from pointrend.spec import InstanceSpec, SemanticSpec
from pointrend.strict import first_problem
from pointrend.zoo import ModelFileError, load_model, read_model
from pointrend.zoo.manifest import PUBLISHED
from pointrend.zoo.modelfile import METADATA_KEY

HUGE = 10**12


def changed(fields: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """The fields with another value at a dotted path."""
    fields = json.loads(json.dumps(fields))
    *sections, last = path.split(".")
    inner = fields
    for section in sections:
        inner = inner[int(section)] if isinstance(inner, list) else inner.setdefault(section, {})
    inner[int(last) if isinstance(inner, list) else last] = value
    return fields


SEMANTIC: list[tuple[str, object, str]] = [
    ("classes.0.color", [0, 0, 256], "a colour must be three integers in 0..255, got (0, 0, 256)"),
    ("classes.0.color", [-1, 0, 0], "a colour must be three integers in 0..255"),
    ("classes.0.color", [0.5, 0, 0], "classes.0.color.0"),
    ("classes.0.color", [0, 0], "classes.0.color"),
    ("classes.0.name", "\x1b[2J", r"a class name must have no control characters, got '\x1b[2J'"),
    ("classes.0.name", "a\u202eb", "no control characters"),
    ("classes.0.name", "x" * 201, "a class name must have at most 200 characters, got 201"),
    ("name", "\x1b]0;evil\x07", "no control characters"),
    ("name", "x" * 10**6, "at most 200 characters, got 1000000"),
    ("layout", "a\nb", "no control characters"),
    ("data", "\x1b", "a description must have no control characters"),
    ("licence", "x" * 10_001, "a description must have at most 10000 characters"),
    ("scores", {"miou": math.nan}, "scores.miou: input should be a finite number, got nan"),
    ("scores", {"\x1b[31m": 1}, "no control characters"),
    ("scores", {str(i): 1 for i in range(1001)}, "at most 1000 items"),
    ("test.shortest", HUGE, "test.shortest: input should be less than or equal to 8192"),
    ("test.longest", HUGE, "test.longest: input should be less than or equal to 32768"),
    ("test.longest", 63, "test: longest must be at least shortest, 64, got 63"),
    ("test.scale", math.inf, "test.scale"),
    ("test.scale", math.nan, "test.scale"),
    ("test.pad_multiple", HUGE, "test.pad_multiple: input should be less than or equal to 1024"),
    ("test.subdivision.num_points", HUGE, "expected num_points of 1 to 100000000, got 1000000000000"),
    ("test.subdivision.num_points", 10**3000, "test.subdivision"),
    ("test.subdivision.num_points", math.nan, "test.subdivision.num_points"),
    ("test.subdivision.steps", 9, "expected steps of 0 to 8"),
    ("input.mean", [math.nan, 0, 0], "input.mean.0: input should be a finite number"),
    ("input.mean", [1e300, 0, 0], "input.mean.0: input should be less than or equal to 100000"),
    ("input.std", [0, 1, 1], "input.std.0: input should be greater than or equal to 0.001"),
    ("input.std", [1e-30, 1, 1], "input.std.0"),
    ("input.std", [math.inf, 1, 1], "input.std.0"),
    ("architecture.fpn_channels", HUGE, "architecture.fpn_channels"),
    ("architecture.fpn_channels", 10**3000, "a number of about 3001 digits"),
    ("architecture.fpn_channels", -1, "architecture.fpn_channels"),
    ("architecture.point.depth", 33, "architecture.point.depth"),
    ("architecture.backbone", "x" * 10**6, "architecture.backbone: a name must have at most 200 characters"),
    ("architecture.fine_strides", [4] * 10**5, "architecture.fine_strides"),
    ("num_logits", HUGE, "num_logits"),
]
INSTANCE: list[tuple[str, object, str]] = [
    ("architecture.anchor_sizes", [[-1], [1], [1], [1], [1]], "architecture.anchor_sizes.0.0"),
    ("architecture.anchor_sizes", [[1e9], [1], [1], [1], [1]], "architecture.anchor_sizes.0.0"),
    ("architecture.anchor_ratios", [0.0], "architecture.anchor_ratios.0"),
    ("architecture.anchor_ratios", [math.inf], "architecture.anchor_ratios.0"),
    ("architecture.box_canonical_size", 1e-9, "architecture.box_canonical_size"),
    ("architecture.mask.hidden", 10**6, "architecture.mask.hidden"),
    ("test.detection.max_proposals", HUGE, "test.detection.max_proposals"),
    ("test.detection.proposals_per_level", HUGE, "test.detection.proposals_per_level"),
    ("test.detection.nms", math.nan, "test.detection.nms"),
    ("test.subdivision", {"num_points": 9, "steps": 6, "start": 512}, "at most 2048 pixels a side, got 32768"),
    ("classes", [], "classes"),
]


def refusal(kind: type[Any], fields: dict[str, Any]) -> str:
    from pydantic import ValidationError

    with pytest.raises(ValidationError) as caught:
        kind.model_validate(fields)
    return first_problem(caught.value)


@pytest.mark.parametrize(("path", "value", "said"), SEMANTIC, ids=lambda v: str(v)[:30])
def test_semantic_specs(small_spec: SemanticSpec, path: str, value: object, said: str) -> None:
    message = refusal(SemanticSpec, changed(json.loads(small_spec.model_dump_json()), path, value))
    assert said in message
    assert message.isprintable()
    assert len(message) < 500


@pytest.mark.parametrize(("path", "value", "said"), INSTANCE, ids=lambda v: str(v)[:30])
def test_instance_specs(path: str, value: object, said: str) -> None:
    fields = json.loads(PUBLISHED["d2-rcnn-r50-coco"].spec.model_dump_json())
    InstanceSpec.model_validate(fields)
    message = refusal(InstanceSpec, changed(fields, path, value))
    assert said in message
    assert len(message) < 500


@pytest.mark.parametrize("text", ["1e999", "NaN", "-Infinity", "9" * 5000, "1" + "0" * 4000])
def test_numbers_in_the_text_of_a_header(small_file: Path, small_spec: SemanticSpec, tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.safetensors"
    spec = small_spec.model_dump_json().replace('"miou":61.25', f'"miou":{text}')
    assert text in spec
    save_file(load_file(small_file), path, {METADATA_KEY: spec})
    with pytest.raises(ModelFileError) as caught:
        read_model(path)
    assert str(caught.value).startswith(f"{path}: its spec ")
    assert len(str(caught.value)) < len(str(path)) + 400
    assert "\n" not in str(caught.value)


def test_models_with_a_scale_need_no_shortest() -> None:
    fields = json.loads(PUBLISHED["d2-rcnn-r50-coco"].spec.model_dump_json())
    fields["test"] |= {"scale": 2.0, "longest": 320}
    assert InstanceSpec.model_validate(fields).test.longest == 320


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": 100_000}, "size must be 32 to 8192 (the shortest edge in pixels), got 100000"),
        ({"size": 31}, "size must be 32 to 8192"),
        ({"size": 64.5}, "size must be an integer, got 64.5"),
        ({"size": True}, "size must be an integer"),
        ({"points": 10**12}, "points must be 1 to 100000000, got 1000000000000"),
        ({"points": 10**5000}, "points must be 1 to 100000000, got a number of about 5001 digits"),
        ({"points": math.nan}, "points must be an integer, got nan"),
        ({"steps": "2"}, "steps must be an integer, got '2'"),
        ({"score_threshold": math.nan}, "score_threshold must be at least 0 and under 1, got nan"),
    ],
)
def test_options(options: dict[str, Any], said: str) -> None:
    with pytest.raises(PointRendError) as caught:
        PredictOptions(**options)
    assert said in str(caught.value)


def test_steps_cannot_make_masks_too_large() -> None:
    model = load_model("nuclei-lite0")
    subdivision = replace(model.spec.test.subdivision, start=512, steps=1)
    model.spec = model.spec.model_copy(update={"test": model.spec.test.model_copy(update={"subdivision": subdivision})})
    with pytest.raises(PointRendError, match="at most 2048 pixels a side, got 16384"):
        model.predictor(PredictOptions(steps=5))


def test_a_size_of_a_model_with_a_scale(small_file: Path) -> None:
    """The longest edge is never limited to less than the shortest one that was asked for."""
    model = read_model(small_file)
    test = model.spec.test.model_copy(update={"scale": 1.0, "shortest": 512, "longest": 128})
    model.spec = model.spec.model_copy(update={"test": test})
    found = model.predictor(PredictOptions(size=96)).test
    assert (found.shortest, found.longest) == (96, 96)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Sampling(num_points=HUGE),
        lambda: Sampling(num_points=5, oversample=math.nan),
        lambda: Sampling(num_points=5, oversample=math.inf),
        lambda: Sampling(num_points=5, importance=math.nan),
        lambda: Subdivision(HUGE, 2),
        lambda: LossWeights(coarse=math.inf),
        lambda: LossWeights(points=math.nan),
        lambda: ClassInfo("a", (0, 0, 300)),
    ],
)
def test_settings_as_arguments(make: Any) -> None:
    with pytest.raises(ValueError, match=r"expected|must be") as caught:
        make()
    assert "\n" not in str(caught.value)


def test_names_of_all_languages_are_names() -> None:
    for name in ("dress/skirt", "Straße", "道路", "شارع", "🚗", "a" * 200, "", "no-break\u00a0space"):
        assert plain_text(name) == name
