"""Truth and answer of a clip as spans: against hand-enumerated answers."""

import pandas as pd

from pipeline.tasks import avel, avvp
from pipeline.tasks.lanes import Lane, spans_of

BACKGROUND = 3


def segments(true, predicted, valid=None, event=None):
    return pd.DataFrame({"true": true, "predicted": predicted, "valid": valid or [True] * len(true), "event": event or [0.5] * len(true)})


def test_every_kind_of_answer_becomes_a_span():
    true = [3, 3, 0, 0, 0, 0, 3, 1]
    said = [3, 2, 2, 0, 0, 3, 3, 1]
    (lane,) = avel.lanes(segments(true, said, event=[0.1, 0.6, 0.7, 0.9, 1.0, 0.4, 0.0, 0.8]), BACKGROUND)
    assert lane.truth == [[2, 6, 0, "true"], [7, 8, 1, "true"]]
    assert lane.spans == [[1, 2, 2, "false"], [2, 3, 2, "wrong"], [3, 5, 0, "right"], [5, 6, 0, "missed"], [7, 8, 1, "right"]]
    assert lane.scores == [0.1, 0.6, 0.7, 0.9, 1.0, 0.4, 0.0, 0.8]


def test_padded_segments_show_nothing():
    (lane,) = avel.lanes(segments([0, 0, 3], [0, 0, 0], valid=[True, True, False], event=[1.0, 1.0, 0.9]), BACKGROUND)
    assert lane.truth == [[0, 2, 0, "true"]]
    assert lane.spans == [[0, 2, 0, "right"]]
    assert lane.scores == [1.0, 1.0, 0.0]


def test_parsing_has_a_lane_for_each_modality_in_which_classes_overlap():
    table = pd.DataFrame({
        "valid": [True, True, True, False],
        "true_audio": [[0], [0, 2], [], [1]], "audio": [[0, 1], [0], [], [1]], "scores_audio": [[0.9, 0.8, 0.1]] * 4,
        "true_visual": [[], [], [1], []], "visual": [[], [], [1], [1]], "scores_visual": [[0.1, 0.25, 0.2]] * 4,
    })  # fmt: skip
    audio, visual = avvp.lanes(table, BACKGROUND)
    assert audio.track == "audio"
    assert audio.truth == [[0, 2, 0, "true"], [1, 2, 2, "true"]]
    assert audio.spans == [[0, 2, 0, "right"], [0, 1, 1, "false"], [1, 2, 2, "missed"]]
    assert audio.scores == [0.9, 0.9, 0.9, 0.0]
    assert visual == Lane("visual", [[2, 3, 1, "true"]], [[2, 3, 1, "right"]], [0.25, 0.25, 0.25, 0.0])
    assert sorted(avvp.true_classes(table, BACKGROUND)) == [0, 0, 1, 2]


def test_equal_neighbours_are_joined_and_others_are_not():
    assert spans_of([(1, "right"), (1, "right"), (1, "wrong"), None, (1, "wrong"), (2, "wrong")]) == [
        [0, 2, 1, "right"],
        [2, 3, 1, "wrong"],
        [4, 5, 1, "wrong"],
        [5, 6, 2, "wrong"],
    ]
    assert spans_of([]) == []
