"""The verdict on outputs: as close to torch as torch in float64 is to torch in float32."""

import math

import pytest
import torch

from aiqvit.deploy.onnx.export import export_onnx
from aiqvit.deploy.proof.floor import Distance, Floor, distance, logit_floor
from aiqvit.interfaces import UserError
from tests.deploy.proof.handmade import change


def near(mean: float, agreement: float) -> Distance:
    return Distance(mean, mean, 10 * mean, agreement, 1.0)


def test_a_right_file_is_as_close_as_the_floor(made):
    found = logit_floor(made.model, made.path, made.images, batch=5)
    assert found.missed == [] and found.images == 16 and found.export.agreement == 1
    assert "the floor (torch in float64 and float32)" in str(found)


def test_the_verdict_turns_with_a_wrong_weight(made):
    found = logit_floor(made.model, change(made.path, "proj.codes", (3, 4), 9), made.images)
    assert found.missed == ["the mean difference is more than 1.5 times the floor"] and "MISSED" in str(found)


@pytest.mark.parametrize(("export", "floor", "images", "missed"), [
    (near(0.14, 0.98), near(0.1, 0.99), 200, 0),
    (near(0.16, 0.98), near(0.1, 0.99), 200, 1),
    (near(0.14, 0.95), near(0.1, 0.99), 200, 1),
    (near(0.14, 0.75), near(0.1, 1.0), 4, 0),  # one image of four
    (near(0.14, 0.5), near(0.1, 1.0), 4, 1),
    (near(1e-6, 1.0), near(0.0, 1.0), 4, 0),  # rounding, nothing has flipped
    (near(math.nan, 0.98), near(0.1, 0.99), 200, 1),
])
def test_bounds(export, floor, images, missed):
    assert len(Floor(export, floor, images).missed) == missed


def test_a_file_of_another_model_is_refused(made):
    with pytest.raises(UserError, match="outputs of other shapes"):
        logit_floor(torch.nn.Linear(16, 5), made.path, made.images)


@pytest.mark.parametrize(("images", "value", "missed"), [
    (1, 0.1, 0),  # a code that flips in one image by chance
    (2, 0.1, 1),
    (1, math.nan, 1),
])
def test_one_image_may_differ_where_the_floor_has_none(images, value, missed):
    expected = torch.ones(8, 5)
    given = expected.clone()
    given[:images] += value
    floor = distance([[expected]], [[expected]])
    assert len(Floor(distance([[given]], [[expected]]), floor, 8).missed) == missed


class Several(torch.nn.Module):
    """Indices in, several outputs: one that is none, one of whole numbers, one number for the batch."""

    def __init__(self, net):
        super().__init__()
        self.net, self.table = net, torch.nn.Embedding(50, 16)

    def forward(self, x):
        y = self.net(self.table(x))
        return {"none": None, "logits": y, "classes": (y > 0, y.argmax(-1)), "mean": y.mean()}


def test_inputs_and_outputs_of_any_kind(made, tmp_path):
    model = Several(made.model).eval()
    x = torch.arange(48).view(3, 16)
    path = export_onnx(model, tmp_path / "several.onnx", x).path
    assert logit_floor(model, path, x).missed == []
