"""``texts``: embed a prompt for each class by the text network of CLIP or CLAP, for the block ``labels``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LLP = "llp"
VALOR = "valor"


def add(commands: Any) -> None:
    parser = commands.add_parser("texts", help="embed a prompt for each class by CLIP or CLAP, for `labels` of params.yaml")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="of the model, as transformers stores it, with its tokenizer")
    parser.add_argument(
        "--prompts", required=True, metavar="P",
        help="valor: VALOR's, for LLP's classes | a text with {} where the class goes | a YAML file of class: prompt",
    )  # fmt: skip
    parser.add_argument("--classes", metavar="C", help="llp | a text file with a class a line (else those of data/index)")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.npz", help="the text table to write")
    parser.set_defaults(command=texts)


def texts(arguments: argparse.Namespace) -> None:
    from pipeline.labels.text_networks import embed  # imports torch
    from pipeline.labels.texts import write_texts

    prompts = prompts_of(arguments.prompts, classes_of(arguments.classes, arguments.prompts), arguments.folder)
    table = embed(arguments.folder, prompts)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_texts(arguments.out, table)
    print(
        f"{arguments.out}: {len(table.classes)} classes of width {table.embeddings.shape[1]}, scale of the logits {table.scale:.4g}, by"
        f" {table.model}, weights {table.weights[:16]}"
    )


def classes_of(named: str | None, prompts: str) -> list[str]:
    """The classes in order: LLP's, those of a file, or those of the project's index.

    Raises:
        InputProblems: the file or the index cannot be read.
    """
    from pipeline.datasets import read_index
    from pipeline.datasets.base import read_class_names
    from pipeline.datasets.llp import CLASSES
    from pipeline.errors import InputProblems

    if named == LLP or (named is None and prompts == VALOR):
        return list(CLASSES)
    problems: list[str] = []
    if named is None:
        if not Path("data/index").is_dir():
            raise InputProblems("texts", ["there is no data/index to name the classes; run `dvc repro index`, or give --classes"])
        return read_index(Path("data/index"))[1]
    if not Path(named).is_file():
        raise InputProblems("texts", [f"--classes: there is no file {named}; give llp, or a text file with a class a line"])
    classes = read_class_names(Path(named), problems)
    if problems:
        raise InputProblems("texts", problems)
    return classes


def prompts_of(stated: str, classes: Sequence[str], folder: Path) -> dict[str, str]:
    """One prompt for each class, in their order.

    Raises:
        InputProblems: prompts for other classes, or none for a class.
    """
    from pipeline.errors import InputProblems
    from pipeline.labels.text_networks import MODALITIES, model_type
    from pipeline.labels.texts import class_problems
    from pipeline.labels.valor import VALOR as PUBLISHED
    from pipeline.yaml_files import read_yaml

    if "{}" in stated:
        return {label: stated.replace("{}", label.replace("_", " ")) for label in classes}
    if stated == VALOR:
        found: Any = PUBLISHED[MODALITIES[model_type(folder)]].prompts
    else:
        if not Path(stated).is_file():
            raise InputProblems("texts", [f"--prompts: there is no file {stated}; give valor, a text with {{}} in it, or a YAML file"])
        try:
            found = read_yaml(Path(stated))
        except ValueError as error:
            raise InputProblems(stated, [str(error)]) from None
    if not isinstance(found, dict) or not all(isinstance(text, str) and text.strip() for pair in found.items() for text in pair):
        raise InputProblems(stated, ["a mapping of class: prompt is needed, both texts"])
    ordered = sorted(found, key=lambda label: classes.index(label) if label in classes else len(classes))
    if problems := class_problems(ordered, classes, "prompts"):
        raise InputProblems(stated, problems)
    return {label: found[label] for label in classes}
