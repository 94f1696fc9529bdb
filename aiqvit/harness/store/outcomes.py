"""Outcomes on disk: a small compressed file of arrays for each run, whose record has its checksum."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np

from aiqvit.interfaces import Outcomes, UserError
from aiqvit.io.escape import line
from aiqvit.io.files import read_bytes, write_bytes

SUFFIX = ".npz"
SAMPLES = "samples"  # the array of names
LARGEST = 2**30  # bytes that all arrays take in memory
MOST, SAMPLES_MOST = 64, 10**6  # arrays, samples


def write(path: Path, outcomes: Outcomes) -> str:
    """Write them and return the SHA-256 of the file, the same for the same outcomes.

    `numpy.load` reads the file: `samples`, the names, and the arrays of `Outcomes`. Raises `UserError` when it cannot
    be written.
    """
    content = io.BytesIO()
    np.savez_compressed(content, **{SAMPLES: np.array(outcomes.samples, dtype=str)}, **dict(outcomes.arrays))
    write_bytes(path, content.getvalue())
    return hashlib.sha256(content.getvalue()).hexdigest()


def read(path: Path, digest: str) -> Outcomes:
    """The outcomes of a record that names this digest.

    Raises `UserError` for a file that is not there, was changed after it was written or belongs to another run.
    """
    name = line(str(path))
    try:
        content = read_bytes(path, "outcomes_mib")
    except FileNotFoundError as error:
        raise UserError(f"{name!r} is not there: what the model of that run said of each sample; bring the file "
                        "back, or run it again with --force") from error
    except OSError as error:
        raise UserError(f"cannot read {name!r}: {error.strerror or error}") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise UserError(f"{name!r} was changed after it was written, or belongs to another run: its checksum is not "
                        "the one in the record; bring the file back, or run it again with --force")
    try:
        return _parsed(content)
    except Exception as error:  # of the readers of zip files and arrays, whatever a damaged file makes them raise
        raise UserError(f"{name!r} holds no outcomes: {line(str(error))[:200]}") from error


def _parsed(content: bytes) -> Outcomes:
    """Raises anything for what holds no outcomes."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
    if len(entries) > MOST or sum(entry.file_size for entry in entries) > LARGEST:
        raise ValueError("it has more arrays, or larger ones, than any evaluation gives")
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    samples = arrays.pop(SAMPLES)
    if samples.ndim != 1 or samples.dtype.kind != "U" or len(samples) > SAMPLES_MOST:
        raise ValueError(f"its samples are no list of at most {SAMPLES_MOST} names")
    count = arrays.get("count", np.zeros(0, int))
    if count.dtype.kind not in "iu" or count.size and (count.shape != samples.shape or count.min() < 0):
        raise ValueError("its count is no number of things a sample")
    sizes = {len(samples), int(count.sum())}
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf" or array.ndim == 0 or len(array) not in sizes:
            raise ValueError(f"{name} is no array with a row a sample")
    return Outcomes(tuple(map(str, samples)), arrays)
