"""Ask git: run one of its commands, and list what differs from the commit."""

from __future__ import annotations

import subprocess
from pathlib import Path

from pipeline.errors import PipelineError


def git(directory: Path, *arguments: str) -> str:
    """The output of a git command that runs in ``directory``.

    Raises:
        PipelineError: git is not installed, or refuses; with its last line.
    """
    try:
        done = subprocess.run(["git", *arguments], cwd=directory, capture_output=True, encoding="utf-8", errors="replace", check=False)
    except FileNotFoundError:
        raise PipelineError("git is not installed") from None
    if done.returncode:
        raise PipelineError(f"git {' '.join(arguments)} in {directory}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
    return done.stdout


def changed_files(directory: Path) -> list[str]:
    """The tracked files that differ from the commit; nothing of git's own is written."""
    return [line[3:] for line in git(directory, "--no-optional-locks", "status", "--porcelain", "--untracked-files=no").splitlines()]


def commit_of(directory: Path) -> str:
    return git(directory, "rev-parse", "HEAD").strip()


def code_commit(directory: Path) -> str:
    """The commit whose code ``directory`` holds, with a remark where the code differs from it; empty if git knows none."""
    try:
        commit = git(directory, "rev-parse", "HEAD", "HEAD:./pipeline").split()[0]  # fails in a repository around the project, too
        changed = [path for path in changed_files(directory) if path.startswith(("pipeline/", "stages/"))]
    except PipelineError:
        return ""
    return commit + (", with changes that are not committed" if changed else "")
