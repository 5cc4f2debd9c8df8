"""How certain a semantic model is of what it found, and the note where that is less than usual."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from pointrend.data.classes import ClassInfo
from pointrend.inputs import Frame
from pointrend.predict.semantic import certainty, cropped_cells
from pointrend.zoo import Model


def test_it_is_the_mean_best_probability_where_something_else_than_background_is_best() -> None:
    probabilities = torch.tensor([[0.9, 0.2, 0.3], [0.05, 0.7, 0.2], [0.05, 0.1, 0.5]])  # C x pixels
    logits = probabilities.log().reshape(1, 3, 1, 3)
    assert certainty(logits, 0) == pytest.approx((0.7 + 0.5) / 2)
    assert certainty(logits, None) == pytest.approx((0.9 + 0.7 + 0.5) / 3)
    assert certainty(logits[..., :1], 0) is None


def test_one_logit_is_the_second_of_two_classes() -> None:
    logits = torch.tensor([0.8, 0.1, 0.6]).logit().reshape(1, 1, 1, 3)
    assert certainty(logits, 0) == pytest.approx(0.7)
    assert certainty(logits, 1) == pytest.approx(0.9)


def test_padding_does_not_count() -> None:
    maps = torch.arange(32.0).reshape(1, 1, 4, 8)
    frame = Frame(size=(90, 100), valid=(48, 95), padded=(64, 128))
    assert torch.equal(cropped_cells(maps, frame), maps[:, :, :3, :5])
    assert cropped_cells(maps, Frame(size=(1, 1), valid=(1, 1), padded=(64, 128))).shape == (1, 1, 1, 1)


@pytest.mark.parametrize(("usual", "noted"), [(None, False), (0.01, False), (1.0, True)])
def test_less_than_usual_is_noted(
    color_model: Callable[..., Model], color_image: Callable[..., np.ndarray], usual: float | None, noted: bool
) -> None:
    model = color_model(shortest=32)
    names = ("background", "one", "two")
    classes = tuple(ClassInfo(name, (index, 0, 0)) for index, name in enumerate(names))
    model.spec = model.spec.model_copy(update={"usual_certainty": usual, "classes": classes})
    image = color_image(48, 48)
    if noted:
        with pytest.warns(UserWarning, match="unsure of what it found"):
            result = model.predict(image)
        assert result.notes[-1].endswith("the image may show something else than it was trained for")
    else:
        result = model.predict(image)
        assert not result.notes
    assert result.certainty is not None
    assert 1 / 3 < result.certainty < 1
    assert result.summary()["certainty"] == round(result.certainty, 4)
