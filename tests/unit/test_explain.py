from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from pointrend.explain import Rendering, choose_window, explain, predict_and_keep, render, save_explanation
from pointrend.inputs import Frame, ImageInput, to_photo
from pointrend.predict import Encoded, PredictOptions, SemanticPredictor
from pointrend.results import is_ours
from pointrend.zoo import Model

MakeModel = Callable[..., Model]


def to_pixels(image: ImageInput, **options: object) -> np.ndarray:
    return to_photo(image, **options).pixels  # type: ignore[arg-type]


def predictor_of(model: Model, **options: int) -> SemanticPredictor:
    found = model.predictor(PredictOptions(**options))
    assert isinstance(found, SemanticPredictor)
    return found


def spot(height: int, width: int, y: int, x: int, radius: int) -> np.ndarray:
    """A green disc on red."""
    rows, columns = np.mgrid[:height, :width]
    disc = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
    return (np.eye(3, dtype=np.uint8) * 255)[disc.astype(int)]


def titles(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes]


@pytest.mark.parametrize("pad_multiple", [1, 32])
@pytest.mark.parametrize(("y", "x"), [(40, 40), (160, 250), (20, 270)])
def test_the_window_shows_the_boundary(color_model: MakeModel, y: int, x: int, pad_multiple: int) -> None:
    predictor = predictor_of(color_model(shortest=200, pad_multiple=pad_multiple, num_points=3000))
    window = choose_window(render(predictor, spot(200, 300, y, x, 12)))
    assert window.left <= x <= window.right
    assert window.top <= y <= window.bottom
    assert window.left >= 0
    assert window.top >= 0
    assert window.right <= 300
    assert window.bottom <= 200
    assert window.right - window.left == window.bottom - window.top == 64


def test_changes_at_a_coarse_boundary_count_more_than_larger_ones_elsewhere() -> None:
    size = (200, 300)
    coarse = np.zeros(size, np.uint8)
    coarse[:, :40] = 1
    labels = coarse.copy()
    labels[100:120, 40:44] = 1
    labels[60:90, 240:270] = 1
    encoded = Encoded(None, Frame(padded=size, valid=size, size=size))
    window = choose_window(Rendering(encoded, (), coarse, labels))  # type: ignore[arg-type]
    assert window.left <= 40
    assert window.right >= 44
    assert window.top <= 100
    assert window.bottom >= 120


def test_a_patch_of_another_class_is_no_moved_boundary() -> None:
    size = (200, 300)
    coarse = np.zeros(size, np.uint8)
    coarse[:, :40] = 1
    labels = coarse.copy()
    labels[20:60, 30:60] = 2  # large, and at a boundary, but of a class that was not there
    labels[150:160, 40:43] = 1
    encoded = Encoded(None, Frame(padded=size, valid=size, size=size))
    window = choose_window(Rendering(encoded, (), coarse, labels))  # type: ignore[arg-type]
    assert window.top <= 150
    assert window.bottom >= 160


def test_a_change_that_the_mirror_image_shows_too_counts_more_than_a_larger_one() -> None:
    size = (200, 300)
    coarse = np.zeros(size, np.uint8)
    coarse[:, :40] = 1
    labels = coarse.copy()
    labels[20:60, 40:45] = 1
    labels[140:150, 40:44] = 1
    second = coarse.copy()
    second[140:150, 40:44] = 1
    encoded = Encoded(None, Frame(padded=size, valid=size, size=size))
    assert choose_window(Rendering(encoded, (), coarse, labels)).top <= 20  # type: ignore[arg-type]
    window = choose_window(Rendering(encoded, (), coarse, labels, second))  # type: ignore[arg-type]
    assert 60 < window.top <= 140
    assert window.bottom >= 150
    second[30:45, 40:45] = 1  # more pixels that it shows too, among as many that it does not
    window = choose_window(Rendering(encoded, (), coarse, labels, second))  # type: ignore[arg-type]
    assert 60 < window.top <= 140


def test_the_mirror_image_is_mirrored_back(color_model: MakeModel) -> None:
    rendering = render(predictor_of(color_model(shortest=96, pad_multiple=32)), spot(96, 130, 50, 20, 12))
    assert rendering.second is not None
    assert np.mean(rendering.second == rendering.labels) > 0.995
    assert rendering.second[50, 20] == rendering.labels[50, 20] != rendering.labels[50, 110]


@pytest.mark.parametrize(("size", "steps"), [((1, 1), 2), ((1, 300), 1), ((40, 40), 0), ((300, 90), 2)])
def test_any_image_has_a_window_inside(color_model: MakeModel, size: tuple[int, int], steps: int) -> None:
    rendering = render(predictor_of(color_model(pad_multiple=32), steps=steps), np.zeros((*size, 3), np.uint8))
    window = choose_window(rendering)
    height, width = rendering.encoded.frame.valid
    assert 0 <= window.left < window.right <= width
    assert 0 <= window.top < window.bottom <= height


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_there_is_a_panel_for_each_step(color_model: MakeModel, steps: int) -> None:
    predictor = predictor_of(color_model(shortest=96, pad_multiple=32, num_points=500), steps=steps)
    found = titles(explain(predictor, spot(96, 130, 50, 60, 20)))
    assert found[:2] == ["the image", "coarse prediction, 24 x 40"]
    expected = ["step 1: 500 points on 48 x 80", "step 2: 500 points on 96 x 160"][:steps]
    assert found[2:-2] == expected
    assert found[-2].startswith("uncertainty")
    assert found[-1] == "result, 96 x 130"


def test_points_are_drawn_where_they_were_predicted(color_model: MakeModel) -> None:
    """In pixels of the padded input: a dot of step 2 is the centre of one of its grid's cells, inside the window."""
    # In the padding this model's logits are tied: some 3600 points go there before any goes to the disc.
    predictor = predictor_of(color_model(shortest=96, pad_multiple=32, num_points=4000))
    image = spot(96, 130, 50, 60, 20)
    rendering = render(predictor, image)
    window = choose_window(rendering)
    panel = explain(predictor, image).axes[3]
    drawn = np.asarray(panel.collections[0].get_offsets())
    points = rendering.steps[1].points[0].numpy() * (160, 96)
    inside = points[
        (points[:, 0] >= window.left)
        & (points[:, 0] <= window.right)
        & (points[:, 1] >= window.top)
        & (points[:, 1] <= window.bottom)
    ]
    assert 0 < len(drawn) == len(inside)
    assert {tuple(p) for p in drawn.round(3)} == {tuple(p) for p in inside.round(3)}
    # They lie on the disc's edge, and the panel shows the window with y downwards.
    distance = np.hypot(drawn[:, 0] - 60, drawn[:, 1] - 50)
    assert abs(np.median(distance) - 20) < 3
    assert panel.get_xlim() == (window.left, window.right)
    assert panel.get_ylim() == (window.bottom, window.top)


def test_maps_of_every_resolution_lie_in_one_frame(color_model: MakeModel) -> None:
    """The disc's centre of mass is the same in the coarse panel, the steps and the result."""
    predictor = predictor_of(color_model(shortest=192, pad_multiple=32, num_points=20_000))
    figure = explain(predictor, spot(96, 130, 50, 60, 8))  # seen at twice its size
    for panel in (figure.axes[1], figure.axes[2], figure.axes[3], figure.axes[5]):
        labels = panel.images[1]
        green = labels.get_array()[..., 1] == 200
        left, right, bottom, top = labels.get_extent()
        rows, columns = np.nonzero(green)
        x = left + (columns.mean() + 0.5) * (right - left) / green.shape[1]
        y = top + (rows.mean() + 0.5) * (bottom - top) / green.shape[0]
        assert abs(x - 121) < 1
        assert abs(y - 101) < 1


@pytest.mark.parametrize("steps", [0, 2])
def test_a_kept_rendering_is_the_prediction_and_is_not_made_again(
    color_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    predictor = predictor_of(color_model(shortest=96, pad_multiple=32, num_points=500), steps=steps)
    path = tmp_path / "photo.png"
    Image.fromarray(spot(96, 130, 50, 60, 20)).save(path)
    expected = predictor.predict(to_pixels(path), path)
    result, rendering = predict_and_keep(predictor, to_pixels(path), path)
    assert np.array_equal(result.labels, expected.labels)
    assert result.labels.dtype == expected.labels.dtype
    assert np.array_equal(result.image, expected.image)
    assert (result.classes, result.path) == (expected.classes, expected.path)
    found = titles(explain(predictor, result.image))

    def again(*arguments: object) -> None:
        raise AssertionError("the network ran again")

    monkeypatch.setattr(SemanticPredictor, "encode", again)
    assert titles(explain(predictor, result.image, rendering=rendering)) == found


def test_it_is_saved_whole_or_not_at_all(
    color_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = predictor_of(color_model())
    image = spot(48, 64, 24, 30, 10)
    path = tmp_path / "new" / "explained.png"
    save_explanation(predictor, image, path)
    assert is_ours(path)
    with Image.open(path) as picture:
        assert picture.width > 1000
    before = path.read_bytes()

    def fail(self: Figure, target: Path, **settings: object) -> None:
        target.write_bytes(b"\x89PNG half")
        raise OSError("No space left on device")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="No space left"):
        save_explanation(predictor, image, path)
    assert [p.name for p in path.parent.iterdir()] == ["explained.png"]
    assert path.read_bytes() == before
