"""The task coco: what wrong data says, ground truth fed back, the same numbers as MMDetection's own runner."""

import copy
import json
import shutil

import pytest
import torch
from PIL import Image

pytest.importorskip("mmdet")

from aiqvit.tasks.coco import Coco  # noqa: E402
from aiqvit.tasks.detection import models  # noqa: E402
from aiqvit.tasks.detection.data import ANNOTATIONS, CocoFolder  # noqa: E402
from aiqvit.tasks.mini import coco as mini  # noqa: E402
from aiqvit.tasks.mini.scenes import NAMES, SIDE  # noqa: E402

from aiqvit.families.opening import quantize_model  # noqa: E402
from aiqvit.interfaces import Bits, Diverged, UserError  # noqa: E402
from aiqvit.quant.card import sites  # noqa: E402
from aiqvit.quant.policy import BitPolicy  # noqa: E402
from tests.detection import ground_truth, scores, small_coco  # noqa: E402
from tests.models import uniform  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_coco(tmp_path_factory.mktemp("coco"))


@pytest.fixture(scope="module")
def task(folder):
    """The task on a few mini scenes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mini, "prepare", lambda: folder)
        return Coco("mini")


def opened(root):
    return CocoFolder(root, NAMES, (SIDE, SIDE))


@pytest.fixture
def copied(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "coco")


def test_missing_parts_are_named(copied):
    (copied / "val2017" / "000000000002.png").unlink()
    with pytest.raises(UserError, match="lists 1 images that are not in .*000000000002.png"):
        opened(copied)
    (copied / ANNOTATIONS).unlink()
    with pytest.raises(UserError, match="annotations file .*instances_val2017.json' does not exist"):
        opened(copied)
    with pytest.raises(UserError, match="train2017/, val2017/"):
        opened(copied / "elsewhere")


def edited(root, edit):
    """Annotations changed in place by `edit`."""
    content = json.loads((root / ANNOTATIONS).read_text())
    edit(content)
    (root / ANNOTATIONS).write_text(json.dumps(content))
    return root


def test_what_is_not_in_the_format_is_named(copied):
    for text, message in (('{"images": 3', "is not JSON"), ("[]", "no list 'images': expected COCO"),
                          ('{"images": [], "categories": []}', "has none: expected COCO"), (" ", "is empty")):
        (copied / ANNOTATIONS).write_text(text)
        with pytest.raises(UserError, match=message):
            opened(copied)


def test_a_mini_folder_does_not_fit_the_real_detectors(folder):
    with pytest.raises(UserError, match="head of 80 classes, but .* has 5: .*; name the classes of the head in"):
        opened(folder).fit(80, "w.pth")


def test_a_broken_image_is_named(copied):
    (copied / "val2017" / "000000000001.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="broken image .*000000000001.png"):
        opened(copied).sample(copied / "val2017" / "000000000001.png")


def test_weights_must_be_given_for_real_data_and_fit(task, tmp_path):
    with pytest.raises(UserError, match="unknown model 'mask_rcnn_swin_t'"):
        task.load("mask_rcnn_swin_t")
    with pytest.raises(UserError, match="do not fit the model"):
        task.load("mini_mask_rcnn_swin", str(mini.weights("mini_cascade_mask_rcnn_swin")))


def test_ground_truth_fed_back_is_perfect(task):
    files = task._files
    found = scores(files, [ground_truth(files, identity) for identity in files.ids], files.ids)
    assert found["box_ap"] == found["mask_ap"] == found["box_ap_75"] == 100
    assert "box_ap_l" not in found  # no scene has an object that COCO calls large


def test_no_prediction_at_all_scores_zero(task):
    files = task._files
    nothing = ground_truth(files, files.ids[0])
    nothing["pred_instances"] = {key: value[:0] for key, value in nothing["pred_instances"].items()}
    assert scores(files, [nothing], files.ids[:1])["mask_ap"] == 0


@pytest.fixture(scope="module")
def subject(task):
    return task.load("mini_mask_rcnn_swin")


def test_calibration_batches_are_drawn_by_the_seed(task, subject):
    first, again, other = (task.calibration(subject, 10, seed) for seed in (0, 0, 1))
    assert [len(batch) for batch in first] == [8, 2]
    paths = [[s["data_samples"].img_path for batch in batches for s in batch] for batches in (first, again, other)]
    assert paths[0] == paths[1] != paths[2]
    assert len(task.calibration(subject, 99, 0)) == 2
    with pytest.raises(UserError, match="99 calibration images asked, but there are only 12"):
        task.calibration(subject, 99, 0, explicit=True)


@pytest.mark.parametrize("name", mini.MODELS)
def test_raw_outputs_have_one_shape_whatever_the_model_and_gradients(task, name):
    model, batch = models.prepare(mini.detector(name)), task.calibration(None, 2, 0)[0]
    with torch.no_grad():
        first = task.forward(model, batch)
    regions = batch[0]["regions"]
    stem = model.backbone.patch_embed.projection.weight
    stem.data.mul_(2)
    stem.requires_grad_()
    second = task.forward(model, batch)
    assert [a.shape for a in first] == [b.shape for b in second] and batch[0]["regions"] is regions
    stages = 3 if name.startswith("mini_cascade") else 1
    assert len(first) == 8 + 3 * stages and first[8].shape[1] == 6 and first[9].shape[1:] == (5, 4)
    second[-1].sum().backward()
    assert stem.grad.abs().sum() > 0


@pytest.mark.parametrize("name", mini.MODELS)
def test_regions_stay_with_their_image_whatever_images_are_joined(task, name):
    model, samples = models.prepare(mini.detector(name)), task.calibration(None, 4, 0)[0]
    with torch.no_grad():
        together = task.forward(model, samples[:3])
        joined = task.forward(model, [samples[2], samples[3], samples[0]])  # one is new
        alone = [task.forward(model, [sample]) for sample in (samples[2], samples[3], samples[0])]
    kept = [len(sample["regions"][0]) for sample in samples]
    assert min(kept) > 0
    torch.testing.assert_close(joined[8], torch.cat([outputs[8] for outputs in alone]), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(joined[8][: kept[2]], together[8][-kept[2] :], rtol=1e-3, atol=1e-4)


def plain(items, *_, **__):
    return items


def test_numbers_are_those_of_mmdetections_own_runner(task, subject, folder, tmp_path):
    from mmengine.config import Config
    from mmengine.runner import Runner
    from safetensors.torch import load_file

    state = {k: v.float() if v.is_floating_point() else v
             for k, v in load_file(mini.weights(subject.name)).items()}
    torch.save({"state_dict": state}, tmp_path / "weights.pth")
    files = task._files
    dataset = dict(type="CocoDataset", data_root=str(folder), ann_file=ANNOTATIONS, data_prefix=dict(img="val2017/"),
                   metainfo=dict(classes=NAMES), test_mode=True, pipeline=files.pipeline())
    runner = Runner.from_cfg(Config(dict(
        model=mini.config(subject.name), work_dir=str(tmp_path), load_from=str(tmp_path / "weights.pth"),
        test_dataloader=dict(batch_size=1, num_workers=0, dataset=dataset,
                             sampler=dict(type="DefaultSampler", shuffle=False)),
        test_cfg=dict(type="TestLoop"), default_scope="mmdet", log_level="ERROR",
        test_evaluator=dict(type="CocoMetric", ann_file=str(folder / ANNOTATIONS), metric=["bbox", "segm"]))))
    theirs = runner.test()
    ours = task.evaluate(subject.model, subject, limit=None, batch_size=1, device="cpu", progress=plain)
    for kind, name in (("bbox", "box_ap"), ("segm", "mask_ap")):
        for end in ("", "_50", "_75", "_s", "_m"):
            assert ours[name + end] == pytest.approx(100 * theirs[f"coco/{kind}_mAP{end}"], abs=0.05)
    assert ours["box_ap"] > 20


def test_a_detector_that_is_not_finite_diverges(task, subject):
    model = copy.deepcopy(subject.model)
    model.neck.fpn_convs[0].conv.bias.data[0] = float("nan")
    with pytest.raises(Diverged, match="not finite"):
        task.evaluate(model, subject, limit=1, batch_size=1, device="cpu", progress=plain)


def test_images_keep_their_sizes(folder):
    Image.new("RGB", (60, 30)).save(folder / "train2017" / "wide.png")
    sample = CocoFolder(folder, NAMES, (SIDE, SIDE)).sample(folder / "train2017" / "wide.png")
    (folder / "train2017" / "wide.png").unlink()
    assert sample["inputs"].shape == (3, 64, 128)


def test_pictures_show_both_models_side_by_side(task, subject, tmp_path):
    blank = copy.deepcopy(subject.model)
    blank.roi_head.bbox_head.fc_cls.weight.data.zero_()  # all classes alike: nothing is sure enough to be drawn
    blank.roi_head.bbox_head.fc_cls.bias.data.zero_()
    task.draw(blank, subject, tmp_path / "pictures", 2, "cpu")
    files = sorted((tmp_path / "pictures").iterdir())
    assert [file.name for file in files] == ["000000000001.png", "000000000005.png"]
    side = 4 * SIDE  # small images are enlarged
    for file in files:
        with Image.open(file) as drawn, Image.open(task._files.root / "val2017" / file.name) as plain:
            assert drawn.size == (2 * side, side)
            left, right = (drawn.crop((x, 0, x + side, side)).resize((SIDE, SIDE), Image.NEAREST) for x in (0, side))
            assert right.tobytes() == plain.convert("RGB").tobytes() != left.tobytes()


def test_predictors_can_keep_eight_bits(task):
    subject = task.load("mini_mask_rcnn_swin_head8")
    model = quantize_model(subject.model, uniform(), BitPolicy(Bits(4, 4), subject.bit_rules))
    assert {q.bits for _, q in sites(model) if q.role == "head"} == {8}
    assert {q.bits for _, q in sites(model) if q.role not in ("head", "image")} == {4}
    assert task.resolve("all") == list(mini.MODELS)


def test_all_samples_asked_for_are_joined_where_they_have_one_size(task, subject):
    batches = task.calibration(subject, 12, 0)
    assert [len(batch) for batch in batches] == [8, 4]
    assert len(task.join(batches, 10)) == 10
    narrow = [dict(sample, inputs=sample["inputs"][:, :, :64]) for sample in batches[0][:3]]
    assert len(task.join([narrow, *batches], 12)) == 9  # the commonest size


def test_a_record_says_on_how_many_images_ranges_were_found(tmp_path, folder, monkeypatch):
    from aiqvit.bench import main

    monkeypatch.setattr(mini, "prepare", lambda: folder)
    assert main(["--task", "coco", "--data", "mini", "--model", "mini_mask_rcnn_swin", "--method", "minmax", "--bits",
                 "8/8", "--limit", "1", "--out", str(tmp_path)]) == 0
    (record,) = (json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*minmax*"))
    assert record["calibration_images"] == record["range_images"] == 12
    assert record["coverage"]["quantized"] > 0.84 and record["coverage"]["missed"] == 0
    assert 0 < record["coverage"]["declared"] < 0.16  # the transposed convolution of the mask head
