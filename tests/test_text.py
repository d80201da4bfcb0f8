"""Encodings of the user's texts in every reader, and of this project's sources."""

import ast
import codecs
import json

import pytest

from pipeline import config
from pipeline.datasets import DATASETS, DatasetSettings
from pipeline.datasets.base import read_class_names
from pipeline.errors import InputProblems
from pipeline.raw.wanted import read_wanted
from pipeline.text import printable, read_text, text_lines
from tests.wording import each_says, says

VIDEO = "-abcdefghij"
AVE = f"Category&VideoID&Quality&StartTime&EndTime\nCafé&{VIDEO}&good&0&5\n"


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_a_byte_order_mark_is_no_text(tmp_path, mark):
    path = tmp_path / "a.txt"
    path.write_bytes(mark + "é\r\n×".encode())
    assert read_text(path) == "é\r\n×"
    assert text_lines(path, []) == ["é", "×"]


OTHERS = {
    "latin-1": (lambda text: text.encode("latin-1"), ("line 2: ", "0xe9", "UTF-8", "save", "UTF-8")),
    "cp1252": (lambda text: text.encode("cp1252"), ("line 2: ", "0xe9", "UTF-8", "save", "UTF-8")),
    "utf-16": (lambda text: text.encode("utf-16"), ("UTF-16", "save", "UTF-8")),
    "utf-16-le": (lambda text: text.encode("utf-16-le"), ("UTF-16", "save", "UTF-8")),
    "utf-32": (lambda text: text.encode("utf-32"), ("UTF-16", "save", "UTF-8")),
}


@pytest.mark.parametrize("encoding", OTHERS)
def test_another_encoding_is_one_sentence_with_the_file(tmp_path, encoding):
    encode, parts = OTHERS[encoding]
    path = tmp_path / "a.txt"
    path.write_bytes(encode("first\ncafé\n"))
    with pytest.raises(InputProblems) as error:
        read_text(path)
    (sentence,) = error.value.problems
    assert error.value.where == str(path)
    assert says(sentence, *parts)
    problems = ["one before"]
    assert text_lines(path, problems) == []
    assert problems == ["one before", f"{path}: {sentence}"]


def ave(root, encode):
    (root / "Annotations.txt").write_bytes(encode(AVE))
    (root / "trainSet.txt").write_bytes(encode(AVE))
    (root / "categories.txt").write_bytes(encode("Café\n"))
    for name in ("valSet.txt", "testSet.txt"):
        (root / name).write_text("", encoding="utf-8")
    return DATASETS.get("ave")(DatasetSettings(kind="ave", clips="none", segments=10, segment_seconds=1.0, annotations=root))


def llp(root, encode):
    weak, spans = f"filename\tevent_labels\n{VIDEO}_0_10\tCafé\n", f"filename\tonset\toffset\tevent_labels\n{VIDEO}_0_10\t0\t3\tCafé\n"
    (root / "categories.txt").write_bytes(encode("Café\n"))
    for name in ("AVVP_train.csv", "AVVP_val_pd.csv", "AVVP_test_pd.csv", "AVVP_dataset_full.csv"):
        (root / name).write_bytes(encode(weak.replace(VIDEO, f"{name[5:7]}cdefghij{len(name):02d}"[:11])))
    for name in ("AVVP_eval_audio.csv", "AVVP_eval_visual.csv"):
        (root / name).write_bytes(encode(spans))
    return DATASETS.get("llp")(DatasetSettings(kind="llp", clips="none", segments=10, segment_seconds=1.0, annotations=root))


def unav100(root, encode):
    annotation = {"segment": [0.0, 5.0], "label": "Café", "label_id": 0}
    video = {"subset": "train", "duration": 10.0, "annotations": [annotation]}
    document = {"database": {VIDEO: video}}
    (root / "unav100_annotations.json").write_bytes(encode(json.dumps(document, ensure_ascii=False)))
    return DATASETS.get("unav100")(DatasetSettings(kind="unav100", clips="none", annotations=root, segments=10, segment_seconds=1.0))


def folder(root, encode):
    (root / "clips").mkdir(exist_ok=True)
    (root / "clips" / "a.mp4").write_bytes(b"x")
    (root / "labels.csv").write_bytes(encode("clip,split,label,onset,offset\r\na.mp4,train,Café,0,5\r\n"))
    return DATASETS.get("folder")(
        DatasetSettings(kind="folder", clips=root / "clips", segments=10, segment_seconds=1.0, annotations=root / "labels.csv")
    )


READERS = {"ave": ave, "llp": llp, "unav100": unav100, "folder": folder}


@pytest.mark.parametrize("kind", READERS)
def test_every_data_set_reads_a_mark_and_refuses_what_it_would_have_to_guess(tmp_path, kind):
    plain = READERS[kind](tmp_path, lambda text: text.encode())
    assert plain.classes == ["Café"]
    assert READERS[kind](tmp_path, lambda text: codecs.BOM_UTF8 + text.encode()) == plain
    for encoding, words in (("latin-1", "0xe9.*UTF-8"), ("utf-16", "UTF-16")):
        with pytest.raises(InputProblems, match=words) as error:
            READERS[kind](tmp_path, lambda text, encoding=encoding: text.encode(encoding))
        assert str(tmp_path) in str(error.value)
        assert "save" in str(error.value)


def test_classes_that_differ_in_a_letter_that_is_not_utf8_are_never_one(tmp_path):
    """Read with errors="replace", both of these were "Caf\ufffd"."""
    lines = [f"Caf{letter}&-abcdefghi{number}&good&0&5" for number, letter in enumerate("éè")]
    (tmp_path / "Annotations.txt").write_bytes("\n".join(lines).encode("latin-1"))
    with pytest.raises(InputProblems, match=r"Annotations\.txt: line 1: .*0xe9 .*UTF-8"):
        DATASETS.get("ave")(DatasetSettings(kind="ave", clips="none", segments=10, segment_seconds=1.0, annotations=tmp_path))


@pytest.mark.parametrize("kind", ["ave", "llp"])
def test_a_class_twice_in_the_list_is_refused_with_its_lines(tmp_path, kind):
    READERS[kind](tmp_path, lambda text: text.encode())
    (tmp_path / "categories.txt").write_text("Dog\nCafé\n\n Dog \nCafé\n", encoding="utf-8")
    with pytest.raises(InputProblems) as error:
        READERS[kind](tmp_path, lambda text: b"Dog\nCaf\xc3\xa9\n\n Dog \nCaf\xc3\xa9\n" if text == "Café\n" else text.encode())
    path = tmp_path / "categories.txt"
    assert each_says(error.value.problems, [(f"{path}: ", "'Dog'", "lines 1 and 4"), (f"{path}: ", "'Café'", "lines 2 and 5")])
    (tmp_path / "classes.txt").write_text("Dog\n\nCafé\n", encoding="utf-8")
    assert read_class_names(tmp_path / "classes.txt", []) == ["Dog", "Café"]


def test_lists_of_ids_and_spans(tmp_path):
    spans = f'{VIDEO}, 30.000, 40.000, "/m/é"\n'
    files = {
        "csv": ("ids.csv", f"id,start,end\n{VIDEO},0,10\n"),
        "ave": ("Annotations.txt", AVE),
        "llp": ("AVVP_train.csv", f"filename\tevent_labels\n{VIDEO}_0_10\tDog\n"),
        "unav100": ("unav100_annotations.json", json.dumps({"database": {VIDEO: {}}})),
    }
    for kind, (name, text) in files.items():
        path = tmp_path / name
        for mark in (b"", codecs.BOM_UTF8):
            path.write_bytes(mark + text.encode())
            assert [each.video for each in read_wanted(kind, path, [], kind == "ave")] == [VIDEO], kind
        path.write_bytes(text.encode("utf-16"))
        with pytest.raises(InputProblems, match=f"{name}.*\n?.*UTF-16"):
            read_wanted(kind, path, [], kind == "ave")
    (tmp_path / "Annotations.txt").write_text(AVE, encoding="utf-8")
    lists = tmp_path / "spans.csv"
    lists.write_bytes(codecs.BOM_UTF8 + spans.encode())
    assert read_wanted("ave", tmp_path, [lists], False)[0].start == 30
    lists.write_bytes(spans.encode("latin-1"))
    with pytest.raises(InputProblems, match=r"0xe9 .*UTF-8"):
        read_wanted("ave", tmp_path, [lists], False)


def test_params_yaml(tmp_path, repository):
    path = tmp_path / "params.yaml"
    content = (repository / "suites" / "demo.yaml").read_bytes()
    path.write_bytes(codecs.BOM_UTF8 + content)
    assert config.load(path) == config.load(repository / "suites" / "demo.yaml")
    for encoding in ("latin-1", "utf-16"):
        path.write_bytes(b"" + (content.decode() + "# é\n").encode(encoding, errors="ignore"))
        with pytest.raises(InputProblems, match="save") as error:
            config.load(path)
        assert error.value.where == str(path)
        assert len(error.value.problems) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Café ×", "Café ×"), ("a\nb\x1b[31m", "a\\nb\\x1b[31m"), ("caf\udce9", "caf\\xe9"), ("\u2028", "\\u2028"), ("\ud800", "\\ud800")],
)
def test_what_cannot_be_printed_is_shown_as_its_code(text, expected):
    assert printable(text) == expected
    printable(text).encode("utf-8")


TEXT_CALLS = {"read_text", "write_text"}
PROCESSES = {"run", "Popen", "check_output", "check_call", "call"}
OPENERS = {"open", "fdopen", "NamedTemporaryFile", "TemporaryFile", "SpooledTemporaryFile"}
NOT_FILES = {"av", "os", "Image", "dataset", "tarfile", "webbrowser", "container", "wave", "urllib", "archive", "zipfile", "decompress"}


def without_encoding(source: str) -> list[int]:
    """Lines of the calls that read or write text in whatever encoding the locale has."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        owner_name = getattr(owner, "id", getattr(owner, "attr", ""))
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        if "encoding" in given or None in given:
            continue
        if name in TEXT_CALLS and owner is not None and owner_name != "publish":
            least = 1 if name == "write_text" else 0  # Path.write_text(text, encoding): given by its place
            if len(node.args) <= least:
                found.append(node.lineno)
        elif name in OPENERS and owner_name not in NOT_FILES - ({"os"} if name == "fdopen" else set()):
            place = 0 if owner is not None and name == "open" and owner_name not in {"io", "builtins", "gzip", "bz2", "lzma"} else 1
            place = 0 if name in {"NamedTemporaryFile", "TemporaryFile"} else place
            mode = given.get("mode", node.args[place] if len(node.args) > place else None)
            default = "w+b" if "Temporary" in name else "r"
            text = mode.value if isinstance(mode, ast.Constant) else default if mode is None else "b"
            if isinstance(text, str) and "b" not in text:
                found.append(node.lineno)
        elif name in PROCESSES and any(
            isinstance(given.get(key), ast.Constant) and given[key].value is True for key in ("text", "universal_newlines")
        ):
            found.append(node.lineno)
    return found


def test_the_check_of_the_sources_sees_what_it_should():
    wrong = ['path.read_text()', 'path.write_text("a")', 'open(p)', 'open(p, "w")', 'p.open("a")', 'os.fdopen(n, "w")',
             'NamedTemporaryFile("w")', 'subprocess.run(c, text=True)', 'Popen(c, universal_newlines=True)',
             'io.open(p, "r")', 'open(p, mode="r")']  # fmt: skip
    right = ['path.read_text(encoding="utf-8")', 'path.read_text("utf-8")', 'open(p, "rb")', 'p.open("wb")', 'TemporaryFile()',
             'av.open(p, "w")',
             'run(c, encoding="utf-8")', 'open(p, "w", encoding="utf-8")', 'os.open(p, os.O_RDONLY)', 'read_text(path)',
             'open(p, "ab" if x else "wb")']  # fmt: skip
    assert [call for call in wrong if not without_encoding(call)] == []
    assert [call for call in right if without_encoding(call)] == []


def test_every_text_that_the_project_reads_or_writes_names_its_encoding(repository):
    paths = [path for room in ("pipeline", "stages", "benchmarks", "tests") for path in sorted((repository / room).rglob("*.py"))]
    assert len(paths) > 300
    found = [f"{path.relative_to(repository)}:{line}" for path in paths for line in without_encoding(path.read_text(encoding="utf-8"))]
    assert found == []


def test_no_reader_of_users_files_guesses(repository):
    """errors="replace" makes one name of two; the names inside an archive are made safe where they are written."""
    pipeline = repository / "pipeline"
    for path in [*sorted((pipeline / "datasets").glob("*.py")), pipeline / "raw" / "wanted.py", pipeline / "config.py"]:
        source = path.read_text(encoding="utf-8")
        assert "errors=" not in source, path
        for call in (".read_text(encoding", "open(path, newline"):
            lines = [line for line in source.splitlines() if call in line and "classes.json" not in line]
            assert lines == [], path
