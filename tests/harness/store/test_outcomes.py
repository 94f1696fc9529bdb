"""Outcomes on disk: the same bytes for the same outcomes, and nothing is read but what was written."""

import hashlib
import io
import zipfile

import numpy as np
import pytest

from aiqvit.harness.store import outcomes
from aiqvit.harness.store.records import Store
from aiqvit.interfaces import Outcomes, UserError

FOUND = Outcomes(("val/a/1.png", "val/b/\udcff.png"), {"label": np.array([0, 1], np.int32),
                                                       "kl": np.array([0.5, np.nan], np.float32)})
RAGGED = Outcomes(("1.png", "2.png"), {"count": np.array([0, 3]), "score": np.array([0.5, 0.25, 0.125]),
                                       "objects": np.ones((2, 4, 5), np.uint16)})


@pytest.mark.parametrize("found", [FOUND, RAGGED])
def test_they_come_back_as_they_were(tmp_path, found):
    digest = outcomes.write(tmp_path / "a.npz", found)
    again = outcomes.read(tmp_path / "a.npz", digest)
    assert again.samples == found.samples and again.arrays.keys() == found.arrays.keys()
    for name, array in found.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array, strict=True)
    assert outcomes.write(tmp_path / "b.npz", again) == digest
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz") as file:  # as docs/statistics.md tells people to read it
        assert file["samples"].tolist() == list(found.samples)


def test_a_file_that_is_not_the_record_s_is_refused_by_name(tmp_path):
    digest = outcomes.write(tmp_path / "a.npz", FOUND)
    outcomes.write(tmp_path / "a.npz", RAGGED)
    with pytest.raises(UserError, match="a.npz' was changed after it was written, or belongs to another run"):
        outcomes.read(tmp_path / "a.npz", digest)
    with pytest.raises(UserError, match="b.npz' is not there"):
        outcomes.read(tmp_path / "b.npz", digest)
    (tmp_path / "c.npz").mkdir()
    with pytest.raises(UserError, match="cannot read .*c.npz"):
        outcomes.read(tmp_path / "c.npz", digest)


def saved(**arrays):
    np.savez_compressed(content := io.BytesIO(), **arrays)
    return content.getvalue()


def zipped(**files):
    with zipfile.ZipFile(content := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in files.items():
            archive.writestr(f"{name}.npy", value)
    return content.getvalue()


def huge(shape):
    """An array file that says it has this shape, and has nothing of it."""
    np.lib.format.write_array_header_1_0(content := io.BytesIO(), {"descr": "<f8", "fortran_order": False,
                                                                   "shape": shape})
    return content.getvalue()


NAMES = np.array(["a", "b"])
HOSTILE = {
    "text": b"no archive", "nothing": b"", "no names": saved(label=np.zeros(2)),
    "objects": saved(samples=NAMES, label=np.array([{}, []], dtype=object)),
    "pickled names": saved(samples=np.array(["a", 3], dtype=object)),
    "rows": saved(samples=NAMES, label=np.zeros(3)), "scalar": saved(samples=NAMES, label=np.float64(1)),
    "text rows": saved(samples=NAMES, label=NAMES), "many": saved(samples=NAMES, **{f"a{i}": NAMES for i in range(99)}),
    "bomb": zipped(samples=bytes(2**30 + 1)), "shape": zipped(samples=huge((2**40,))),
    "negative": zipped(samples=huge((-4,))), "no header": zipped(samples=b"\x93NUMPY\x01\x00"),
    "a number for names": saved(samples=np.array("a"), label=np.zeros(1)),
    "a table of names": saved(samples=np.array([["a", "b"]]), label=np.zeros(1)),
    "too many": saved(samples=np.zeros(10**6 + 1, "U1"), label=np.zeros(10**6 + 1, np.int8)),
    "a text file in it": zipped(samples=b"", **{"note.txt/x": b"hello"}), "no array": zipped(samples=b"hello"),
    "counts below 0": saved(samples=NAMES, count=np.array([-1, 3])),
    "counts of half": saved(samples=NAMES, count=np.array([0.5, 1.5])),
    "counts of others": saved(samples=NAMES, count=np.array([2])),
    "bad header": zipped(samples=b"\x93NUMPY\x01\x00\x10\x00{'descr': (((  \n" + bytes(8)),
    "cut": saved(samples=NAMES, label=np.arange(2))[:200],
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_holds_no_outcomes_is_said_in_one_sentence(tmp_path, what):
    (tmp_path / "a.npz").write_bytes(HOSTILE[what])
    with pytest.raises(UserError, match="holds no outcomes") as caught:
        outcomes.read(tmp_path / "a.npz", hashlib.sha256(HOSTILE[what]).hexdigest())
    assert "\n" not in str(caught.value)


def test_a_record_of_before_has_none(tmp_path):
    assert Store(tmp_path).outcomes({"id": "a"}) is None


def test_where_they_cannot_be_written_the_record_goes_without(tmp_path, capsys):
    (tmp_path / "outcomes").write_text("in the way")
    assert Store(tmp_path).write_outcomes("a", FOUND) == ""
    assert "a goes without outcomes" in capsys.readouterr().err
