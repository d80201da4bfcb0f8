"""tests/slow.txt, by which `make test-fast` leaves tests out, names what is there."""


def test_every_line_names_a_room_a_file_or_a_test(repository):
    tests = repository / "tests"
    for line in (tests / "slow.txt").read_text(encoding="utf-8").splitlines():
        file, _, test = line.partition("::")
        if not line.startswith("#"):
            assert (tests / file).exists(), line
            assert not test or f"def {test}(" in (tests / file).read_text(encoding="utf-8"), line
