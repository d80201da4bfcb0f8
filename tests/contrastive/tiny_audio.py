"""A tiny audio network with the HEAR API, of three blocks and with dropout, to be fine-tuned."""

import torch


class Model(torch.nn.Module):
    sample_rate = 4000
    timestamp_embedding_size = 7

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(200, 12)
        self.second = torch.nn.Sequential(torch.nn.Tanh(), torch.nn.Dropout(0.1), torch.nn.Linear(12, 12))
        self.last = torch.nn.Linear(12, 7)


def load_model(model_file_path: str = "") -> Model:
    return Model()


def get_timestamp_embeddings(audio: torch.Tensor, model: Model) -> tuple[torch.Tensor, torch.Tensor]:
    frames = audio.unfold(-1, 200, 200)
    embeddings = model.last(model.second(4 * model.first(frames).abs()))
    return embeddings, (25.0 + 50.0 * torch.arange(frames.shape[1], device=audio.device)).expand(len(audio), -1)
