"""Git's answers on the project: the commit of the code, and whether the code is still that."""

from pipeline.git import code_commit, git

IDENTITY = ("-c", "user.name=test", "-c", "user.email=test@test")


def test_the_commit_is_that_of_this_code_and_says_where_it_differs(tmp_path):
    assert code_commit(tmp_path) == ""  # no repository

    for folder in ("pipeline", "stages", "around"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.py").write_text("", encoding="utf-8")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, *IDENTITY, "commit", "-q", "-m", "start")
    commit = git(tmp_path, "rev-parse", "HEAD").strip()
    (tmp_path / "around" / "a.py").write_text("1", encoding="utf-8")  # no code of ours
    assert code_commit(tmp_path) == commit
    assert code_commit(tmp_path / "around") == ""  # a project in a repository of other things
    (tmp_path / "stages" / "a.py").write_text("1", encoding="utf-8")
    assert code_commit(tmp_path).startswith(f"{commit}, with changes")
