"""Masks of every kind, and what they cover."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pointrend.errors import PointRendError
from pointrend.refining.masks import fitted, fitted_labels, given_mask

HALF = np.repeat([[0, 0, 1, 1]], 4, axis=0)


@pytest.mark.parametrize(
    "mask",
    [
        HALF.astype(bool),
        (HALF * 255).astype(np.uint8),
        HALF.astype(np.uint8),
        HALF.astype(np.int64),
        torch.from_numpy(HALF),
        torch.from_numpy(HALF).bool()[None],
        HALF.astype(np.uint8)[..., None],
        Image.fromarray((HALF * 255).astype(np.uint8)),
        Image.fromarray((HALF * 255).astype(np.uint8)).convert("RGB"),
        Image.fromarray(HALF.astype(bool)),
    ],
)
def test_binary_masks_of_any_form(mask: Any) -> None:
    given = given_mask(mask)
    assert given.kind == "binary"
    np.testing.assert_array_equal(given.planes[0].numpy(), HALF)


def test_what_floats_mean() -> None:
    soft = given_mask(HALF.astype(np.float32) * 0.75)
    assert (soft.kind, float(soft.planes[0].max())) == ("probabilities", 0.75)
    logits = given_mask(torch.from_numpy(HALF * 6.0 - 3).half())
    assert logits.kind == "logits"
    plane = fitted(logits.planes[0], (4, 4), None, logits=True)
    torch.testing.assert_close(plane[0, ::2], torch.sigmoid(torch.tensor([-3.0, 3.0])))


def test_a_clear_image_gives_its_alpha() -> None:
    cut = Image.new("RGBA", (4, 4))
    cut.paste((9, 200, 7, 255), (2, 0, 4, 4))
    np.testing.assert_array_equal(given_mask(cut).planes[0].numpy(), HALF)


@pytest.mark.parametrize(
    ("mask", "kind", "said"),
    [
        (np.arange(16, dtype=np.uint8).reshape(4, 4), None, "16 different values, 0 to 15, which may be a soft mask"),
        (np.full((4, 4), 7.0), None, "of probabilities in \\[0, 1\\] or logits, got 7 to 7"),
        (np.full((4, 4), np.nan), None, "finite values"),
        (np.full((4, 4), 2.0), "probabilities", "probabilities must be in \\[0, 1\\], got 2 to 2"),
        (np.full((4, 4), 0.5), "labels", "labels must be integers from 0, got float64"),
        (np.full((4, 4), -1), "ids", "ids must be integers from 0, got int64 from -1"),
        (np.zeros((4, 4, 3), np.uint8), None, "got \\(4, 4, 3\\), which is a photograph's"),
        (np.zeros((0, 4)), None, "one value a pixel"),
        (HALF, "mask", "kind must be one of binary, probabilities, logits, labels, ids, got 'mask'"),
        ({"a": 1}, None, "a mask must be a path, an image, an array"),
        (np.array([["a"]]), None, "bool, integers or floats, got <U1"),
    ],
)
def test_what_is_uncertain_or_wrong_is_said(mask: Any, kind: Any, said: str) -> None:
    with pytest.raises(PointRendError, match=said):
        given_mask(mask, kind)


def test_files(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", HALF.astype(np.float32))
    assert given_mask(tmp_path / "a.npy").kind == "probabilities"
    np.save(tmp_path / "b.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(PointRendError, match=r"b\.npy: cannot be read as an array"):
        given_mask(tmp_path / "b.npy")
    (tmp_path / "c.png").write_text("no image")
    with pytest.raises(PointRendError, match=r"c\.png: cannot be read as a mask"):
        given_mask(str(tmp_path / "c.png"))
    palette = Image.fromarray((HALF * 3).astype(np.uint8), "P")
    palette.putpalette([0, 0, 0, 9, 9, 9, 99, 99, 99, 255, 0, 0])
    palette.save(tmp_path / "d.png")
    given = given_mask(tmp_path / "d.png")
    assert (given.kind, given.values) == ("labels", (0, 3))


def test_labels_have_a_plane_each_and_ids_none_for_0() -> None:
    labels = np.array([[0, 4], [9, 9]])
    assert given_mask(labels, "labels").values == (0, 4, 9)
    ids = given_mask(labels, "ids")
    assert ids.values == (4, 9)
    np.testing.assert_array_equal(ids.planes[1].numpy(), [[0, 0], [1, 1]])
    empty = given_mask(np.zeros((2, 2), np.int32), "ids")
    assert float(empty.planes[0].max()) == 0


def test_a_mask_of_equal_sides_is_stretched() -> None:
    plane = fitted(torch.from_numpy(HALF).float(), (8, 8), None)
    torch.testing.assert_close(plane[0], torch.tensor([0, 0, 0, 0.25, 0.75, 1, 1, 1]))
    fitted(torch.zeros(256, 171), (600, 400), None)  # 170.67, rounded


def test_a_square_mask_may_be_padded() -> None:
    mask = torch.zeros(4, 4)
    mask[:, 2:] = 1
    stretched, padded = (fitted(mask, (8, 16), fit) for fit in ("stretch", "pad"))  # type: ignore[arg-type]
    assert stretched.shape == padded.shape == (8, 16)
    torch.testing.assert_close(stretched.mean(0), padded.mean(0))
    tall = fitted(mask, (16, 8), "pad")  # its right half is padding
    assert float(tall[:, :6].max()) == 0
    assert float(fitted(mask, (16, 8), "stretch")[:, 7].min()) == 1


@pytest.mark.parametrize(
    ("size", "photo", "fit", "said"),
    [
        (
            (4, 4),
            (8, 16),
            None,
            "a square mask may cover the photograph stretched or padded: say fit='stretch' or 'pad'",
        ),
        ((4, 6), (8, 16), None, "the mask is 4 x 6 and the photograph 8 x 16: it is of another photograph"),
        ((4, 6), (8, 16), "pad", "fit='pad' is for square masks, got 4 x 6"),
        ((4, 4), (4, 4), "crop", "fit must be stretch or pad, got 'crop'"),
    ],
)
def test_what_a_mask_covers_must_be_certain(size: Any, photo: Any, fit: Any, said: str) -> None:
    with pytest.raises(PointRendError, match=said):
        fitted(torch.zeros(size), photo, fit)


def test_labels_of_another_size_are_of_the_greatest_part() -> None:
    given = given_mask(np.array([[1, 7], [1, 7]]), "labels")
    np.testing.assert_array_equal(fitted_labels(given, (4, 4), None), np.repeat([[1, 1, 7, 7]], 4, axis=0))
    ids = given_mask(np.array([[0, 7], [0, 7]]), "ids")
    np.testing.assert_array_equal(fitted_labels(ids, (4, 4), None), np.repeat([[0, 0, 7, 7]], 4, axis=0))
