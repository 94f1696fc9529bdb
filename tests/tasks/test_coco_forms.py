"""COCO folders as people have them: names of files, order and number of categories, nothing to score."""

import json
import math
import shutil

import pytest

pytest.importorskip("mmdet")

from aiqvit.tasks.coco import Coco  # noqa: E402
from aiqvit.tasks.detection import models  # noqa: E402
from aiqvit.tasks.detection.checkpoints import classes_in  # noqa: E402
from aiqvit.tasks.detection.data import ANNOTATIONS, CLASSES, CocoFolder  # noqa: E402
from aiqvit.tasks.mini import coco as mini  # noqa: E402
from aiqvit.tasks.mini.scenes import NAMES, SIDE  # noqa: E402
from aiqvit.tasks.weights import load_state  # noqa: E402

from aiqvit.bench import main as bench  # noqa: E402
from aiqvit.harness.store.records import Store  # noqa: E402
from aiqvit.interfaces import UserError  # noqa: E402
from tests.detection import ground_truth, scores, small_coco  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_coco(tmp_path_factory.mktemp("coco"))


@pytest.fixture
def edited(folder, tmp_path):
    """A copy whose annotations `edit` changes in place."""

    def call(edit, encoding="utf-8"):
        root = shutil.copytree(folder, tmp_path / "coco", dirs_exist_ok=True)
        content = json.loads((folder / ANNOTATIONS).read_text())
        edit(content)
        (root / ANNOTATIONS).write_text(json.dumps(content), encoding=encoding)
        return root

    return call


def opened(root, classes=NAMES):
    return CocoFolder(root, classes, (SIDE, SIDE))


def perfect(files):
    """What the ground truth scores as predictions, labelled in the order of the head's classes."""
    predictions = [ground_truth(files, identity) for identity in files.ids]
    names = list(files.content.categories)
    for prediction in predictions:
        found = prediction["pred_instances"]
        found["labels"] = found["labels"].new_tensor([files.classes.index(names[i]) for i in found["labels"]])
    return scores(files, predictions, files.ids)


def test_files_are_found_with_their_folder_in_front(edited, folder):
    def front(content):
        for image, start in zip(content["images"], ("val2017/", "val2017\\", "images/val2017/", "./") * 2, strict=True):
            image["file_name"] = start + image["file_name"]

    files = opened(edited(front, "utf-8-sig"))
    assert [path.name for path in files.val] == [path.name for path in opened(folder).val]
    assert perfect(files)["box_ap"] == 100


def test_categories_match_by_name_in_any_order(edited):
    def turned(content):
        content["categories"].reverse()

    files = opened(edited(turned))
    files.fit(5, "w")
    assert files.classes == NAMES and tuple(files.content.categories) == NAMES[::-1]
    found = perfect(files)
    assert found["box_ap"] == found["mask_ap"] == 100
    assert scores(files, [ground_truth(files, i) for i in files.ids], files.ids)["box_ap"] < 50  # labels of the file


def test_some_of_the_head_s_classes_are_enough(edited):
    def fewer(content):
        content["categories"] = content["categories"][3:1:-1]

    files = opened(edited(fewer))
    files.fit(5, "w")
    assert files.classes == NAMES and perfect(files)["box_ap"] == 100
    assert any("name a category that is not listed and are left out" in remark for remark in files.content.remarks)


def test_own_categories_are_those_of_the_head(edited):
    def own(content):
        for category, name in zip(content["categories"], "abcde", strict=True):
            category |= {"name": name, "id": 10 * category["id"]}
        for entry in content["annotations"]:
            entry["category_id"] *= 10

    root = edited(own)
    files = opened(root)
    files.fit(5, "w")
    assert files.classes == tuple("abcde") and perfect(files)["mask_ap"] == 100
    with pytest.raises(UserError, match="weights 'w' have a head of 7 classes, but .*val2017.json' has 5: a, b, c, ...;"
                                        " name the classes of the head in .*classes.txt', one a line"):
        files.fit(7, "w")
    (root / CLASSES).write_bytes("e\r\nd\r\nc\r\nb\r\na\r\nf\r\ng\r\n".encode("utf-8-sig"))
    files = opened(root)
    files.fit(7, "w")
    assert files.classes == tuple("edcbafg") and perfect(files)["box_ap"] == 100
    (root / CLASSES).write_text("a\nb\n")
    with pytest.raises(UserError, match="but classes.txt has 2: a, b; the category 'c' is not among"):
        opened(root).fit(2, "w")


def test_a_detector_has_as_many_classes_as_its_weights():
    for name in ("mask_rcnn_swin_t", "cascade_mask_rcnn_swin_t"):
        net = models.build(models.config(name, 3))
        assert classes_in(net.state_dict(), "w") == 3
        load_state(net, net.state_dict(), "w")
    with pytest.raises(UserError, match="weights 'w' are not those of a detector: .*the first of which is 'a'"):
        classes_in({"a": 1}, "w")


def nothing(content):
    content["annotations"] = []


def crowds(content):
    for entry in content["annotations"]:
        entry["iscrowd"] = 1


def unlisted(content):
    content["images"] = []


@pytest.mark.parametrize("edit", (nothing, crowds, unlisted))
def test_nothing_to_score_is_undefined_and_the_sweep_goes_on(edited, edit, monkeypatch, tmp_path, capsys):
    root = edited(edit)
    monkeypatch.setattr(mini, "prepare", lambda: root)
    monkeypatch.chdir(tmp_path)
    command = ["--task", "coco", "--data", "mini", "--model", "mini_mask_rcnn_swin", "--method", "minmax", "--bits",
               "8/8", "--preset", "smoke", "--threads", "1", "--calib", "2", "--out", "out"]
    for again in (False, True):  # what was written is read back
        assert bench(command) == 0
        out = capsys.readouterr().out
        assert "coco-mini: nothing to score: " in out and "-: undefined, there is nothing to score it by" in out
        assert "MinMax [images=2] 8/8 seed 0: box_ap -, mask_ap -;" in out and again == ("done before" in out)
        assert out.index("nothing to score") < out.index("box_ap -")
    records = list(Store("out").records())
    assert len(records) == 2 and all(math.isnan(r["metrics"]["box_ap"]) for r in records)
    assert "NaN" not in next((tmp_path / "out" / "runs").iterdir()).read_text()
    assert all(r["data"]["notes"][-1].startswith("nothing to score") for r in records)


def test_a_limit_may_leave_nothing_to_score(edited, monkeypatch):
    def first(content):
        content["annotations"] = [e for e in content["annotations"] if e["image_id"] != 1]

    root = edited(first)
    monkeypatch.setattr(mini, "prepare", lambda: root)
    task = Coco("mini")
    task.identity(0, 0, None)
    assert not any("nothing to score" in remark for remark in task.notes())
    task.identity(0, 0, 1)
    assert "nothing to score in the 1 images evaluated" in task.notes()[-1]
    nothing = ground_truth(task._files, 1)
    assert math.isnan(scores(task._files, [nothing], [1])["box_ap"])


def test_without_segmentation_there_is_box_ap_only(edited):
    def masked(content):
        predictions.extend(ground_truth(opened(root), i) for i in (1, 2, 3, 4, 5, 6, 7, 8))
        for entry in content["annotations"]:
            del entry["segmentation"], entry["area"], entry["iscrowd"]

    predictions, root = [], edited(lambda content: None)
    files = opened(edited(masked))
    found = scores(files, predictions, files.ids)
    assert found["box_ap"] == 100 and math.isnan(found["mask_ap"]) and "mask_ap_50" not in found
