"""Two ranges a row: which columns share one, what each group is quantized to, its state."""

import copy

import pytest
import torch
from torch import nn

from aiqvit.quant.layers import QuantLinear
from aiqvit.quant.observers import MinMax, PercentileMSE
from aiqvit.quant.quantizers import DualUniform, Uniform
from aiqvit.quant.quantizers.dual import outlier_columns
from aiqvit.recon.levels import Levels


def weight(rows=60, columns=20):
    """Random, but for columns 4, 11 and 17, which are twenty times as large."""
    w = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))
    w[:, [4, 11, 17]] *= 20
    return w


def calibrated(w, bits=3):
    quantizer = DualUniform(bits, 0, PercentileMSE())
    quantizer.calibrate(w)
    quantizer.mode = "on"
    return quantizer


def test_the_columns_with_most_outliers_are_a_twentieth_of_the_rows():
    assert outlier_columns(weight()).nonzero().flatten().tolist() == [4, 11, 17]
    assert outlier_columns(weight(120)).sum() == 6 and outlier_columns(weight(5)).sum() == 1
    assert outlier_columns(weight(400)[:, :5]).sum() == 4  # never all
    assert outlier_columns(torch.zeros(40, 5)).sum() == 2
    assert not outlier_columns(torch.ones(3, 1)).any()


def test_outliers_are_counted_row_by_row_beyond_a_percentile_of_each_sign():
    w = weight()
    counts = torch.zeros(20, dtype=torch.long)
    for row in w:
        counts += (row > row[row > 0].quantile(0.99)) | (row < row[row < 0].quantile(0.01))
    assert set(counts.topk(3).indices.tolist()) == set(outlier_columns(w).nonzero().flatten().tolist())


def test_each_group_is_quantized_as_if_it_were_alone():
    w = weight()
    quantizer = calibrated(w)
    for group in (quantizer.second, ~quantizer.second):
        alone = Uniform(3, 0, PercentileMSE())
        alone.calibrate(w[:, group])
        assert torch.equal(quantizer.fake(w)[:, group], alone.fake(w[:, group]))
    one = Uniform(3, 0, MinMax())
    one.calibrate(w)
    assert (quantizer(w) - w).norm() < 0.7 * (one.fake(w) - w).norm()


@pytest.mark.parametrize("bits", (2, 4))
def test_codes_are_in_range_and_decode_to_what_is_used(bits):
    w = weight()
    quantizer = calibrated(w, bits)
    codes = quantizer.encode(w)
    assert codes.min() >= 0 and codes.max() < 2**bits and codes.shape == w.shape
    assert torch.equal(quantizer.decode(codes), quantizer(w))
    assert torch.equal(quantizer(quantizer(w)), quantizer(w))
    torch.testing.assert_close(Levels.of(quantizer, w).quantize(w.double()).float(), quantizer(w))
    assert "two scales a row" in quantizer.note


def test_the_state_loads_into_a_fresh_quantizer():
    layer = QuantLinear(nn.Linear(20, 60), Uniform(4), calibrated(weight()))
    fresh = QuantLinear(nn.Linear(20, 60), Uniform(4), DualUniform(3))
    fresh.load_state_dict(copy.deepcopy(layer.state_dict()))
    fresh.weight_quantizer.mode = "on"
    assert torch.equal(fresh.weight_quantizer(weight()), layer.weight_quantizer(weight()))
