"""Fixtures of the encoder tests: the shared material, decoded without pipeline.media."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def shared() -> Path:
    folder = Path(__file__).resolve().parents[3] / "shared"
    if not folder.is_dir():
        pytest.skip(f"needs the material in {folder}, which is not part of the project")
    return folder


@pytest.fixture(scope="session")
def read_audio():
    """Path -> mono float32 (L,), sample rate."""
    av = pytest.importorskip("av")

    def read(path: Path) -> tuple[torch.Tensor, int]:
        with av.open(str(path)) as container:
            stream = container.streams.audio[0]
            mixer = av.AudioResampler(format="flt", layout="mono", rate=stream.rate)
            parts = [part.to_ndarray()[0] for frame in container.decode(stream) for part in mixer.resample(frame)]
            return torch.from_numpy(np.concatenate(parts)), stream.rate

    return read


@pytest.fixture(scope="session")
def read_frames():
    """path, step -> every step-th frame (F, H, W, 3) uint8."""
    av = pytest.importorskip("av")

    def read(path: Path, step: int) -> torch.Tensor:
        with av.open(str(path)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        return torch.from_numpy(np.stack(frames[step // 2 :: step]))

    return read
