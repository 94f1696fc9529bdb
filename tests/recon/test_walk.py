"""Which units count as the head."""

import pytest

from aiqvit.families.opening import quantize_model
from aiqvit.recon.walk import gives_logits, is_head
from tests.models import FAMILIES, tiny, tiny_points, uniform, units


def counted(model, names):
    model = quantize_model(model, uniform())
    parts = {name: model.get_submodule(name) for name in names}
    return [n for n, u in parts.items() if gives_logits(u)], [n for n, u in parts.items() if is_head(u)]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_linear_of_an_image_classifier_is_the_head(family):
    heads = [name for name in units(family) if name.startswith("head")]
    assert counted(tiny(family), units(family)) == (heads, heads)


@pytest.mark.parametrize("kind", ("classifier", "segmenter"))
def test_a_classifier_of_several_layers_gives_logits_and_is_no_head(kind):
    model = tiny_points(kind)
    assert counted(model, model.units()) == (["classifier"], [])
