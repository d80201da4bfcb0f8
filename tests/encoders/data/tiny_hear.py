"""A tiny model with the HEAR API: loudness and slope of every 50 ms, and the times of their middles."""

import torch


class Model(torch.nn.Module):
    sample_rate = 8000
    timestamp_embedding_size = 3
    scene_embedding_size = 3

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(3))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        loudness, slope = frames.abs().mean(-1), frames.diff(dim=-1).abs().mean(-1)
        return torch.stack([loudness, slope, loudness * slope], dim=-1) * self.scale


def load_model(model_file_path: str = "") -> Model:
    model = Model()
    if model_file_path:
        model.load_state_dict(torch.load(model_file_path, weights_only=True))
    return model


def get_timestamp_embeddings(audio: torch.Tensor, model: Model) -> tuple[torch.Tensor, torch.Tensor]:
    """One embedding every 50 ms, and one more in the padding at the end, as many modules have."""
    padded = torch.nn.functional.pad(audio, (0, 400))
    frames = padded.unfold(-1, 400, 400)
    times = 25.0 + 50.0 * torch.arange(frames.shape[1])
    return model(frames), times.expand(len(audio), -1)


def get_scene_embeddings(audio: torch.Tensor, model: Model) -> torch.Tensor:
    return get_timestamp_embeddings(audio, model)[0].mean(1)
