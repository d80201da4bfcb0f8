import pytest

from pipeline.datasets.base import Event
from pipeline.films.fit import fit, fit_windows
from pipeline.media.windowing import Windowing


@pytest.mark.parametrize(
    ("lengths", "window", "windows"),
    [
        ([4.0, 4.3], (4, 1.0), "first"),
        ([10.02, 3], (10, 1.0), "first"),
        ([10.6], (10, 1.0), "all"),
        ([3600.0, 5], (10, 1.0), "all"),
        ([0.4], (2, 1.0), "first"),
    ],
)
def test_a_window_is_no_longer_than_the_films_and_ten_seconds(lengths, window, windows):
    assert fit_windows(lengths, [Event("av", "Dog", 0, 3)]) == (Windowing(*window), windows)


def test_short_events_get_segments_of_half_a_second():
    events = [Event("av", "Dog", 0, length) for length in (0.4, 0.6, 0.8, 5.0)]
    assert fit_windows([20.0], events)[0] == Windowing(20, 0.5)
    assert fit_windows([20.0], events[2:])[0] == Windowing(10, 1.0)


@pytest.mark.parametrize(("films", "batch_size", "epochs"), [(4, 2, 60), (14, 2, 51), (240, 16, 24), (5000, 16, 24)])
def test_batches_and_epochs_fit_the_number_of_training_clips(films, batch_size, epochs):
    chosen = fit(Windowing(10, 1.0), "first", [8.0] * films)
    assert (chosen.clips, chosen.batch_size, chosen.epochs) == (films, batch_size, epochs)
    assert fit(Windowing(10, 1.0), "all", [25.0] * films).clips == 3 * films
