"""Load pictures in the background, in order, and remember those that cannot be read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import torch
from aiqvit.tasks.folders import Sample
from aiqvit.tasks.pictures import reason, rgb
from PIL import Image

from aiqvit.interfaces import UserError
from aiqvit.io.escape import line


class Loader:
    """Loads images on threads (decoding releases the interpreter lock) and remembers the broken ones."""

    def __init__(self, transform: Callable[[Image.Image], torch.Tensor], strict: bool, broken: dict[str, str],
                 name: Callable[[Path], str] = str) -> None:
        """`broken` collects what cannot be decoded, by its `name`, and why; under `strict` it raises `UserError`."""
        self.transform, self.strict, self.broken, self.name = transform, strict, broken, name

    def batches(self, samples: Sequence[Sample], size: int) -> Iterator[tuple[torch.Tensor, list[Sample]]]:
        """Images (B, 3, H, W) and the samples that they are, B <= size, in order, the next batch loading meanwhile."""
        chunks = iter([samples[i : i + size] for i in range(0, len(samples), size)])
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:

            def submit(chunk: Sequence[Sample]) -> list:
                return [(pool.submit(self._load, sample[0]), sample) for sample in chunk]

            waiting = [submit(chunk) for chunk in islice(chunks, 2)]
            try:
                while waiting:
                    loaded = [(self._kept(future.result(), sample[0]), sample) for future, sample in waiting.pop(0)]
                    waiting += [submit(chunk) for chunk in islice(chunks, 1)]
                    good = [(image, sample) for image, sample in loaded if image is not None]
                    if good:
                        yield torch.stack([image for image, _ in good]), [sample for _, sample in good]
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _load(self, path: Path) -> torch.Tensor | Exception:
        try:
            with rgb(path) as image:
                return self.transform(image)
        except Exception as error:  # of the decoders, whatever a damaged file makes them raise
            return error

    def _kept(self, loaded: torch.Tensor | Exception, path: Path) -> torch.Tensor | None:
        if isinstance(loaded, torch.Tensor):
            return loaded
        if self.strict:
            raise UserError(f"broken image {line(str(path))!r}: {reason(loaded)}") from loaded
        self.broken.setdefault(line(self.name(path)), reason(loaded))
        return None
