"""Pictures of all modes become the same RGB; what is white in wide pixels is told by their nature or their range."""

import numpy as np
import pytest
from aiqvit.tasks.pictures import SUFFIXES, UNREAD, as_rgb, reason
from PIL import Image

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def reopened(image, path, **options):
    image.save(path, **options)
    return np.asarray(as_rgb(Image.open(path)))


@pytest.mark.parametrize("name", ("a.png", "a.tif", "a.pgm"))
@pytest.mark.parametrize("kind", ("uint8", "uint16"))
def test_gray_of_sixteen_bits_is_that_of_eight(tmp_path, name, kind):
    pixels = RAMP if kind == "uint8" else RAMP.astype(np.uint16) * 257
    assert (reopened(Image.fromarray(pixels), tmp_path / name) == RAMP[..., None]).all()


def test_big_endian_tiff(tmp_path):
    image = Image.frombytes("I;16B", (16, 16), (RAMP.astype(np.uint16) * 257).astype(">u2").tobytes())
    assert (reopened(image, tmp_path / "a.tif") == RAMP[..., None]).all()


@pytest.mark.parametrize("scale", (1 / 255, 1, 257))
def test_floats_by_their_range(tmp_path, scale):
    image = Image.fromarray(RAMP.astype(np.float32) * np.float32(scale))
    assert (reopened(image, tmp_path / "a.tiff") == RAMP[..., None]).all()


@pytest.mark.parametrize("scale", (1, 257))
def test_wide_integers_by_their_range(tmp_path, scale):
    image = Image.fromarray(RAMP.astype(np.int32) * scale)
    assert (reopened(image, tmp_path / "a.tiff") == RAMP[..., None]).all()


@pytest.mark.parametrize(("pixels", "message"), [
    (RAMP.astype(np.int32) * 10**6, "pixels from 0 to 2.55e\\+08: expected 0 to 255, 65535"),
    (RAMP.astype(np.int32) - 5, "pixels from -5 to 250"),
    (np.full((4, 4), np.nan, np.float32), "pixels from nan to nan"),
    (np.full((4, 4), np.inf, np.float32), "to inf: expected 0 to 1, 255, 65535"),
])
def test_pixels_without_a_white_are_refused(tmp_path, pixels, message):
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=message):
        as_rgb(Image.open(tmp_path / "a.tif"))


@pytest.mark.parametrize(("mode", "suffix"), [("CMYK", "jpg"), ("P", "png"), ("RGBA", "png"), ("LA", "png"),
                                              ("1", "png"), ("L", "webp"), ("RGB", "ppm"), ("RGB", "bmp")])
def test_other_modes_as_before(tmp_path, mode, suffix):
    image = Image.fromarray(np.stack([RAMP] * 3, -1)).convert(mode)
    path = tmp_path / f"a.{suffix}"
    found = reopened(image, path, **({"lossless": True} if suffix == "webp" else {}))
    assert (found == np.asarray(Image.open(path).convert("RGB"))).all() and f".{suffix}" in SUFFIXES


def test_reasons_are_short(tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(Exception) as caught:
        Image.open(tmp_path / "a.png")
    assert reason(caught.value) == UNREAD
    assert reason(FileNotFoundError(2, "No such file or directory")) == "No such file or directory"
    assert reason(ValueError()) == "ValueError"


def test_the_task_reads_sixteen_bits_as_eight(tmp_path):
    from aiqvit.tasks.images import Loader
    from torchvision.transforms.functional import to_tensor

    Image.fromarray(RAMP).save(tmp_path / "a.png")
    Image.fromarray(RAMP.astype(np.uint16) * 257).save(tmp_path / "b.tif")
    (tmp_path / "c.png").write_text("no picture")
    broken = {}
    samples = [(tmp_path / name, i) for i, name in enumerate(("a.png", "b.tif", "c.png"))]
    ((images, good),) = Loader(to_tensor, False, broken, lambda path: path.name).batches(samples, 3)
    assert [label for _, label in good] == [0, 1] and (images[0] == images[1]).all() and images[0].max() == 1
    assert broken == {"c.png": UNREAD}
