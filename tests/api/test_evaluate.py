"""Measuring from Python: labelled batches, or a data folder of the model's task."""

import pytest
import timm
import torch
from torch import nn

import aiqvit
from aiqvit.interfaces import UserError


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=10).eval()
    return model, aiqvit.quantize(model, torch.randn(4, 3, 160, 160), "minmax", "4/8", progress=False)


class Fixed(nn.Module):
    """Says what it is given: the logits are the input."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x * self.scale


def test_top1_and_top5_count_places_with_ties_to_the_first_class():
    logits = torch.tensor([[9.0, 0, 0, 0, 0, 0], [0, 9, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1], [1, 2, 3, 4, 5, 6]])
    labels = torch.tensor([0, 0, 0, 0])  # first, second (ties go to the first class), first of equals, last of six
    assert aiqvit.evaluate(Fixed(), [(logits, labels)]) == {"top1": 50.0, "top5": 75.0, "images": 4}
    assert aiqvit.evaluate(Fixed(), [(logits[:3], labels[:3]), (logits[3:], labels[3:])], limit=2)["images"] == 2


def test_a_dataloader_and_a_folder_give_what_the_task_gives(imagenet, models):
    model, quantized = models
    data = torch.utils.data.TensorDataset(torch.randn(6, 3, 160, 160), torch.arange(6))
    found = aiqvit.evaluate(quantized, torch.utils.data.DataLoader(data, batch_size=4))
    assert found["images"] == 6 and 0 <= found["top1"] <= found["top5"] <= 100
    thousand = timm.create_model("test_vit")
    whole = aiqvit.quantize(thousand, torch.randn(4, 3, 160, 160), "minmax", "8/8", progress=False)
    found = aiqvit.evaluate(whole, imagenet, progress=False)
    assert found["images"] == 15 and found["skipped"] == 0
    assert aiqvit.evaluate(whole, str(imagenet), limit=5, progress=False)["images"] == 5


@pytest.mark.parametrize(("data", "said"), [
    (torch.randn(2, 3, 160, 160), "data has nothing for labels"),
    ([(torch.randn(2, 3, 160, 160), torch.tensor([0, 10]))], "does not fit labels from 0 to 10"),
    ([(torch.randn(2, 3, 160, 160), torch.tensor([-1, 1]))], "does not fit labels from -1"),
    ([(torch.randn(2, 3, 160, 160), torch.zeros(3))], r"data has a tensor of shape \(3,\) for labels.*shape \(2,\)"),
    ([(torch.randn(2, 3, 160, 160), torch.tensor([0.5, 1.0]))], "expected class indices, whole numbers"),
    ([(torch.randn(2, 1, 160, 160), torch.tensor([0, 1]))], r"does not take a batch of shape \(2, 1, 160, 160\)"),
    ([(torch.full((2, 3, 160, 160), torch.nan), torch.tensor([0, 1]))], "NaN or infinite: no class is the right one"),
    ([], "no samples"),
    ("mini", "no model of the embedded data: give --data DIR"),
    ("nowhere", "does not exist"),
])
def test_data_that_do_not_fit_are_refused(data, said, models):
    with pytest.raises(UserError, match=said):
        aiqvit.evaluate(models[1], data)


def test_what_is_no_classifier_and_no_number_of_samples_is_refused():
    data = [(torch.randn(2, 3), torch.tensor([0, 1]))]
    for limit in (0, -5):
        with pytest.raises(UserError, match=f"limit={limit}: expected at least one sample"):
            aiqvit.evaluate(Fixed(), data, limit=limit)
    model = Fixed()
    model.register_forward_hook(lambda module, inputs, output: {"logits": output})
    with pytest.raises(UserError, match="output is a dict: expected logits"):
        aiqvit.evaluate(model, data)


def test_a_folder_takes_networks_that_are_known_by_name(imagenet):
    found = aiqvit.evaluate(timm.create_model("test_vit"), imagenet, limit=5, progress=False)
    assert found["images"] == 5 and found.keys() >= {"top1", "top5"}
    with pytest.raises(UserError, match="give one of imagenet"):
        own = nn.Sequential(timm.create_model("test_vit"))
        aiqvit.evaluate(aiqvit.quantize(own, torch.randn(2, 3, 160, 160), "minmax", progress=False), imagenet)


def test_a_data_set_that_numbers_other_classes_is_warned_of(models):
    data = torch.utils.data.TensorDataset(torch.randn(4, 3, 160, 160), torch.arange(4))
    data.classes = ["n01440764", "n01443537"]
    with pytest.warns(UserWarning, match="has 2 classes and the model 10 outputs"):
        aiqvit.evaluate(models[1], torch.utils.data.DataLoader(data, batch_size=4))
