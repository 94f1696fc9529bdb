"""Image folders: list them, identify them, and load images in the background."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import torch
from PIL import Image

from aiqvit.interfaces import UserError

SUFFIXES = (".jpeg", ".jpg", ".png", ".webp", ".bmp")
Sample = tuple[Path, int]  # image file, class index


def list_samples(folder: Path, classes: dict[str, int]) -> list[Sample]:
    """Images in `folder/<class name>/`, sorted, with the class index of each.

    Raises `UserError` for a sub-folder that is no class and when there is no image.
    """
    samples = []
    for sub in sorted((e for e in os.scandir(folder) if e.is_dir() and e.name[0] != "."), key=lambda e: e.name):
        if sub.name not in classes:
            raise UserError(f"{str(folder)!r} has a folder {sub.name!r}: not one of the {len(classes)} class names")
        files = (e for e in os.scandir(sub.path) if e.name.lower().endswith(SUFFIXES) and e.name[0] != ".")
        samples += [(Path(file.path), classes[sub.name]) for file in sorted(files, key=lambda e: e.name)]
    if not samples:
        raise UserError(f"no images in {str(folder)!r}: looked for <class name>/*{{{','.join(SUFFIXES)}}}")
    return samples


class Loader:
    """Loads images on threads (decoding releases the interpreter lock) and remembers the broken ones."""

    def __init__(self, transform: Callable[[Image.Image], torch.Tensor], strict: bool, broken: list[str]) -> None:
        """`broken` collects the names of files that cannot be decoded; under `strict` they raise `UserError`."""
        self.transform, self.strict, self.broken = transform, strict, broken

    def batches(self, samples: Sequence[Sample], size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Images (B, 3, H, W) and labels (B,), B <= size, in order, the next batch loading meanwhile."""
        chunks = iter([samples[i : i + size] for i in range(0, len(samples), size)])
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:

            def submit(chunk: Sequence[Sample]) -> list:
                return [(pool.submit(self._load, path), label) for path, label in chunk]

            waiting = [submit(chunk) for chunk in islice(chunks, 2)]
            try:
                while waiting:
                    loaded = [(future.result(), label) for future, label in waiting.pop(0)]
                    waiting += [submit(chunk) for chunk in islice(chunks, 1)]
                    good = [(image, label) for image, label in loaded if image is not None]
                    if good:
                        yield torch.stack([image for image, _ in good]), torch.tensor([label for _, label in good])
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _load(self, path: Path) -> torch.Tensor | None:
        try:
            with Image.open(path) as image:
                return self.transform(image.convert("RGB"))
        except Exception as error:
            if self.strict:
                raise UserError(f"broken image {str(path)!r}: {error}") from error
            name = f"{path.parent.parent.name}/{path.parent.name}/{path.name}"
            if name not in self.broken:
                self.broken.append(name)
            return None
