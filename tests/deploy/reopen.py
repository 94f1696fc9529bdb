"""Load every model of a folder in a process that knows nothing but the files, and write what it gives.

    python -m tests.deploy.reopen FOLDER

`NAME.safetensors` is a model, `NAME.in` its batch; `NAME.out` gets its outputs or, as text, why it cannot be loaded.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

import aiqvit
from tests.deploy.cases import outputs


def reopen(folder: Path) -> None:
    """See above. Networks are initialised by another seed each."""
    for seed, path in enumerate(sorted(folder.glob("*.safetensors"))):
        torch.manual_seed(1000 + seed)
        try:
            found = outputs(aiqvit.load(path), torch.load(path.with_suffix(".in")))
        except ValueError as error:
            found = str(error)
        torch.save(found, path.with_suffix(".out"))


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[2]))
    reopen(Path(sys.argv[1]))
