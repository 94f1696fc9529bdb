"""Checkpoints of Swin-Transformer-Object-Detection: converted keys, and patch mergings that give the same."""

import pytest
import torch
from torch import nn

pytest.importorskip("mmdet")

from aiqvit.tasks.detection.checkpoints import convert  # noqa: E402
from aiqvit.tasks.mini import coco  # noqa: E402
from aiqvit.tasks.weights import load_state, read_state  # noqa: E402

from aiqvit.interfaces import UserError  # noqa: E402


class OriginalMerging(nn.Module):
    """Patch merging as the Swin authors publish it: four strided copies side by side, LayerNorm, Linear."""

    def __init__(self, channels):
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(4 * channels), nn.Linear(4 * channels, 2 * channels, bias=False)
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.bias)

    def forward(self, x, height, width):
        maps = x.view(len(x), height, width, -1)
        maps = nn.functional.pad(maps, (0, 0, 0, width % 2, 0, height % 2))
        parts = [maps[:, 0::2, 0::2], maps[:, 1::2, 0::2], maps[:, 0::2, 1::2], maps[:, 1::2, 1::2]]
        return self.reduction(self.norm(torch.cat(parts, -1).flatten(1, 2)))


def original(state, mergings):
    """A detector's state as the authors' code would save it, with these patch mergings."""
    swaps = (("backbone.stages.", "backbone.layers."), (".attn.w_msa.", ".attn."), (".ffn.layers.0.0.", ".mlp.fc1."),
             (".ffn.layers.1.", ".mlp.fc2."), (".projection.", ".proj."))
    found = {}
    for key, value in state.items():
        for new, old in swaps:
            key = key.replace(new, old)
        found[key] = value
    for i, merging in enumerate(mergings):
        found |= {f"backbone.layers.{i}.downsample.{k}": v for k, v in merging.state_dict().items()}
    found["backbone.layers.0.blocks.1.attn_mask"] = torch.zeros(1)
    return found


@pytest.fixture(scope="module")
def detector():
    return coco.detector("mini_mask_rcnn_swin")


def test_converted_patch_mergings_give_what_the_originals_give(detector, tmp_path):
    torch.manual_seed(0)
    mergings = [OriginalMerging(32), OriginalMerging(64)]
    path = tmp_path / "mask_rcnn.pth"
    torch.save({"state_dict": original(detector.state_dict(), mergings), "meta": {"epoch": 36}}, path)
    load_state(detector, convert(read_state(path), detector), str(path))
    for i, (merging, (height, width)) in enumerate(zip(mergings, ((6, 8), (5, 7)), strict=True)):
        x = torch.randn(2, height * width, 32 * 2**i)
        found, size = detector.backbone.stages[i].downsample(x, (height, width))
        assert size == (-(-height // 2), -(-width // 2))
        torch.testing.assert_close(found, merging(x, height, width), atol=1e-5, rtol=1e-5)


def test_every_other_tensor_arrives_where_it_was(detector):
    state = detector.state_dict()
    converted = convert(original(state, [OriginalMerging(32), OriginalMerging(64)]), detector)
    assert converted.keys() == state.keys()
    assert all(torch.equal(converted[k], state[k]) for k in state if ".downsample." not in k)


def test_a_checkpoint_in_mmdetections_layout_is_left_alone(detector):
    state = detector.state_dict()
    converted = convert(state, detector)
    assert converted.keys() == state.keys() and all(converted[k] is state[k] for k in state if "index" not in k)


def test_a_checkpoint_of_another_detector_is_refused_by_name(detector):
    other = coco.detector("mini_cascade_mask_rcnn_swin").state_dict()
    with pytest.raises(UserError, match=r"'other.pth' do not fit.*missing.*bbox_head.fc_cls"):
        load_state(detector, convert(other, detector), "other.pth")


def test_settings_of_mmengine_beside_the_weights_are_passed_over(tmp_path):
    from mmengine.config import Config, ConfigDict
    from mmengine.logging import HistoryBuffer

    history = HistoryBuffer([1.0], [1])
    torch.save({"state_dict": {"w": torch.zeros(2)}, "message_hub": {"loss": history}, "hook": UserError,
                "meta": {"cfg": Config({"a": ConfigDict(b=1)})}}, tmp_path / "full.pth")
    assert list(read_state(tmp_path / "full.pth")) == ["w"]
