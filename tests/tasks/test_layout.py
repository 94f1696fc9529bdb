"""Folders as people have them, and what is counted as ignored."""

import json
import os
import shutil

import numpy as np
import pytest
from aiqvit.tasks.imagenet import ImageNet
from aiqvit.tasks.layout import find
from aiqvit.tasks.pictures import UNREAD
from PIL import Image

from aiqvit.interfaces import UserError

WNIDS = ("n01440764", "n01443537", "n02124075")


def picture(path, level=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), level, np.uint8)).save(path)
    return path


def folders(root, names=("ape", "bee", "cow"), parts=("train", "val")):
    for part in parts:
        for level, name in enumerate(names):
            picture(root / part / name / "0.png", level)
    return root


def flat(root, count=3):
    for i in range(1, count + 1):
        picture(root / "val" / f"ILSVRC2012_val_{i:08d}.JPEG", i)
    return root


def labels(found):
    return [found.classes.names[label] for _, label in found.val]


def test_any_folder_of_folders(tmp_path):
    found = find(str(folders(tmp_path)))
    assert labels(found) == ["ape", "bee", "cow"] and len(found.train) == 3 and str(found.ignored) == ""


def test_a_class_may_be_missing_in_one_of_the_two(tmp_path):
    folders(tmp_path, ("ape", "bee", "cow"), ("train",))
    folders(tmp_path, ("bee", "cow"), ("val",))
    found = find(str(tmp_path))
    assert found.classes.names == ("ape", "bee", "cow") and labels(found) == ["bee", "cow"]
    (tmp_path / "val" / "cov").mkdir()
    with pytest.raises(UserError, match="val' \\(of which 'cov' is not in 'train'\\) has 4"):
        find(str(tmp_path)).classes.outputs(3, "net")
    picture(folders(tmp_path / "b") / "train" / "unsorted" / "0.png")
    shutil.rmtree(tmp_path / "b" / "train" / "ape")
    for name in ("bee", "cow"):
        shutil.rmtree(tmp_path / "b" / "train" / name)
    assert find(str(tmp_path / "b")).classes.names == ("ape", "bee", "cow")


def test_class_folders_may_be_links(tmp_path):
    folders(tmp_path / "real")
    for part in ("train", "val"):
        (tmp_path / "data" / part).mkdir(parents=True)
        for name in ("ape", "bee"):
            (tmp_path / "data" / part / name).symlink_to(tmp_path / "real" / part / name)
    (tmp_path / "real" / "train" / "ape" / "round").symlink_to("..")
    found = find(str(tmp_path / "data"))
    assert len(found.train) == 2 and len(found.val) == 2 and str(found.ignored).startswith("1 ignored (1 a link to a f")


def test_pictures_deeper_in_a_class_folder(tmp_path):
    folders(tmp_path, WNIDS)
    picture(tmp_path / "val" / WNIDS[0] / "images" / "1.png")
    picture(tmp_path / "val" / WNIDS[1] / "named.png" / "1.png")
    assert len(find(str(tmp_path)).val) == 5


def test_what_is_ignored_is_counted_with_the_first_reason(tmp_path):
    folders(tmp_path)
    kinds = tmp_path / "val" / "bee"
    (kinds / "notes.txt").write_text("")
    (kinds / ".hidden.png").write_text("")
    (kinds / "LICENSE").write_text("")
    (kinds / "gone.png").symlink_to("nowhere.png")
    (kinds / "round.png").symlink_to("round.png")
    (tmp_path / "val" / ".git").mkdir()
    picture(tmp_path / "val" / "loose.png")
    found = find(str(tmp_path))
    assert labels(found) == ["ape", "bee", "cow"]
    assert str(found.ignored) == (
        "7 ignored (2 hidden, 2 a link to nothing, 1 not a picture: no suffix, 1 not a picture: .txt, 1 beside the "
        "class folders); the first: 'val/.git', hidden")


def test_a_link_to_nothing_is_broken_under_strict(tmp_path):
    (folders(tmp_path) / "val" / "bee" / "gone.png").symlink_to("nowhere.png")
    assert ImageNet(str(tmp_path)).fingerprint()["ignored"].startswith("1 ignored (1 a link to nothing)")
    with pytest.raises(UserError, match="broken image '.*gone.png': a link to nothing"):
        ImageNet(str(tmp_path), strict=True)


def test_names_that_are_no_text(tmp_path):
    folders(tmp_path)
    try:
        shutil.copy(tmp_path / "val/bee/0.png", os.fsencode(tmp_path) + b"/val/bee/caf\xe9.png")
        shutil.copy(tmp_path / "val/bee/0.png", os.fsencode(tmp_path) + b"/val/bee/caf\xe9.txt")
    except OSError:
        pytest.skip("this file system takes only text")
    found = find(str(tmp_path))
    assert len(found.val) == 4 and str(found.ignored).encode() and "\\udce9" in str(found.ignored)
    assert ImageNet(str(tmp_path)).identity(1, 0, None).data


def test_the_evaluation_folder_by_another_name_or_itself(tmp_path):
    folders(tmp_path / "a", parts=("train", "valid"))
    assert len(find(str(tmp_path / "a")).val) == 3
    inner = find(str(tmp_path / "a" / "valid"), str(tmp_path / "a" / "train"))
    assert labels(inner) == ["ape", "bee", "cow"] and len(inner.train) == 3


def test_calibration_pictures_from_elsewhere(tmp_path):
    folders(tmp_path / "data", parts=("val",))
    picture(tmp_path / "own" / "b.png")
    picture(tmp_path / "own" / "kinds" / "a.png")
    found = find(str(tmp_path / "data"), str(tmp_path / "own"))
    assert [p.name for p in found.train] == ["b.png", "a.png"]
    (tmp_path / "file").write_text("")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    for wrong in ("file", "zero", "loop"):
        with pytest.raises(UserError, match=f"{wrong}': it is no folder"):
            find(str(tmp_path / "data"), str(tmp_path / wrong))
    for wrong, message in (("none", "there is no such folder"), ("data", "no pictures in it or in the folders in it")):
        with pytest.raises(UserError, match=message):
            find(str(tmp_path / "data"), str(tmp_path / wrong))


def test_one_folder_alone_where_one_is_needed(tmp_path):
    val = ImageNet(str(folders(tmp_path / "a", parts=("val",))))
    assert val.identity(0, 0, None).train == ""
    with pytest.raises(UserError, match="nothing to calibrate on: .* no folder 'train': give --calib-data DIR"):
        val.identity(1, 0, None)
    train = ImageNet(str(folders(tmp_path / "b", parts=("train",))))
    assert train.train_images == 3
    with pytest.raises(UserError, match="nothing to evaluate on: .* has no folder 'val'"):
        train.identity(1, 0, None)


@pytest.mark.parametrize("text", [
    "ImageId,PredictionString\n{0},n01440764 1 2 3 4 n01440764 5 6 7 8\n{1},n02124075 1 2 3 4 \n{2},n01440764\n",
    "\ufeffImageId,PredictionString\r\n{0},n01440764 1 2\r\n{1},n02124075 1 2\r\n{2},n01440764 1\r\n\r\n",
    "PredictionString,ImageId\nn01440764,{0}.JPEG\nn02124075,{1}.JPEG\nn01440764,{2}.JPEG\nn01443537,other\n",
])
@pytest.mark.parametrize("place", (".", "val"))
def test_the_solution_table(tmp_path, text, place):
    names = [p.stem for p in sorted((flat(tmp_path) / "val").iterdir())]
    (tmp_path / place / "LOC_val_solution.csv").write_text(text.format(*names), newline="")
    found = find(str(tmp_path))
    assert labels(found) == ["n01440764", "n02124075", "n01440764"]
    assert [label for _, label in found.val] == [0, 285, 0]


def test_the_usual_download(tmp_path):
    flat(tmp_path / "ILSVRC" / "Data" / "CLS-LOC", 1)
    (tmp_path / "LOC_val_solution.csv").write_text("ImageId,PredictionString\nILSVRC2012_val_00000001,n02124075 1\n")
    for root in (tmp_path, tmp_path / "ILSVRC" / "Data" / "CLS-LOC"):
        assert labels(find(str(root))) == ["n02124075"]


def test_pictures_that_the_table_does_not_have_are_counted(tmp_path):
    flat(tmp_path)
    (tmp_path / "LOC_val_solution.csv").write_text("ImageId,PredictionString\nILSVRC2012_val_00000002,n02124075 1\n")
    found = find(str(tmp_path))
    assert len(found.val) == 1 and "2 not in LOC_val_solution.csv" in str(found.ignored)


@pytest.mark.parametrize("folder", (".", "ILSVRC2012_devkit_t12/data", "val"))
@pytest.mark.parametrize(("map_file", "content"), [
    ("map_clsloc.txt", "n02119789 1 kit_fox\nn02124075 2 Egyptian_cat\nn01440764 3 tench\n"),
    ("synsets.txt", "n02119789\nn02124075\nn01440764\n"),
])
def test_the_devkit_s_list(tmp_path, folder, map_file, content):
    place = flat(tmp_path) / folder
    place.mkdir(parents=True, exist_ok=True)
    (place / "ILSVRC2012_validation_ground_truth.txt").write_text("3\n2\n3\n1\n")
    with pytest.raises(UserError, match="nothing here says what they stand for: put the devkit's meta.mat or map_clsl"):
        find(str(tmp_path))
    (place / map_file).write_text(content)
    assert labels(find(str(tmp_path))) == ["n01440764", "n02124075", "n01440764"]


def test_the_devkit_s_own_map(tmp_path):
    io = pytest.importorskip("scipy.io")
    flat(tmp_path)
    (tmp_path / "ILSVRC2012_validation_ground_truth.txt").write_text("2\n1\n2\n")
    kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("num_children", "O")]
    rows = np.array([(1, "n02124075", 0), (2, "n01440764", 0), (3, "n99999999", 4)], dtype=kind)
    io.savemat(tmp_path / "meta.mat", {"synsets": rows})
    assert labels(find(str(tmp_path))) == ["n01440764", "n02124075", "n01440764"]
    (tmp_path / "meta.mat").write_text("no matlab")
    with pytest.raises(UserError, match="is not the devkit's meta.mat"):
        find(str(tmp_path))


@pytest.mark.parametrize(("name", "content", "message"), [
    (None, "", "has no class folders, but 3 pictures: put LOC_val_solution.csv"),
    ("LOC_val_solution.csv", "a,b\n1,2\n", "begins with 'a,b': expected a first line with the columns ImageId and"),
    ("LOC_val_solution.csv", "", "expected a first line with the columns"),
    ("LOC_val_solution.csv", "ImageId,PredictionString\na\n", "line 2: expected a picture, a comma and its class"),
    ("LOC_val_solution.csv", "ImageId,PredictionString\na,b\na,c\n", "line 3: a is there twice"),
    ("LOC_val_solution.csv", "ImageId,PredictionString\nother,n02124075\n", "no images .* .3 not in LOC_val_solution"),
    ("ILSVRC2012_validation_ground_truth.txt", "1\nx\n", "line 2: expected the number of a class"),
])
def test_tables_that_cannot_be_used(tmp_path, name, content, message):
    flat(tmp_path)
    if name:
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        find(str(tmp_path))


def test_maps_that_cannot_be_used(tmp_path):
    from timm.data import ImageNetInfo

    flat(tmp_path)
    (tmp_path / "ILSVRC2012_validation_ground_truth.txt").write_text("1\n2\n1001\n")
    for content, message in (("one\n", "expected lines such as"), ("n02124075 1 cat\n", "line 2: class 2 is not in"),
                             ("\n".join(ImageNetInfo().label_names()), "is not the order of the devkit's numbers")):
        (tmp_path / "synsets.txt").write_text(content)
        with pytest.raises(UserError, match=message):
            find(str(tmp_path))


def test_it_is_printed_and_recorded(bench, imagenet, tmp_path, capsys):
    root = shutil.copytree(imagenet, tmp_path / "copy")
    (root / "val" / WNIDS[0] / "notes.txt").write_text("")
    (root / "val" / WNIDS[0] / "bad.png").write_text("no picture")
    assert bench(data=str(root), method="fp32") == 0
    out = capsys.readouterr().out
    ignored = f"1 ignored (1 not a picture: .txt); the first: 'val/{WNIDS[0]}/notes.txt', not a picture: .txt"
    why = f"val/{WNIDS[0]}/bad.png: {UNREAD}"
    assert f"imagenet: {ignored}\n" in out and f"({why})" in out
    (record,) = (json.loads(path.read_text()) for path in (tmp_path / "out" / "runs").iterdir())
    assert record["data"] == {"train": 12, "val": 16, "skipped": [f"val/{WNIDS[0]}/bad.png"], "why": why,
                              "ignored": ignored}


def test_none_can_be_read(bench, tmp_path, capsys):
    for part in ("train", "val"):
        for path in (folders(tmp_path / "data", WNIDS) / part).rglob("*.png"):
            path.write_text("no picture")
    assert bench(data=str(tmp_path / "data"), method="fp32") == 2
    assert "none of the 3 validation images can be read: val/n01440764/0.png: not a pic" in capsys.readouterr().err
