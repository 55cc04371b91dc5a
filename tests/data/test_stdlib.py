"""The split of the standard library: disjoint, deterministic, and with copies on one side."""

from pathlib import Path

import pytest

from scrub.data.stdlib import VALIDATION_FRACTION, SourceFile, hash_fraction, read_source, source_files, split


def distinct_text(seed: int) -> str:
    return "\n".join(f"name_{chr(97 + seed % 26)}{'x' * seed} = function({'y' * line})" for line in range(12))


@pytest.fixture
def files() -> list[SourceFile]:
    return [SourceFile(f"package/module_{'z' * number}.py", distinct_text(number)) for number in range(150)]


def test_split_is_a_partition_by_the_hash_of_the_path(files: list[SourceFile]) -> None:
    training, validation = split(files)
    assert {file.path for file in validation} == {f.path for f in files if hash_fraction(f.path) < VALIDATION_FRACTION}
    assert sorted(file.path for file in training + validation) == sorted(file.path for file in files)
    assert 5 <= len(validation) <= 30


def test_split_does_not_depend_on_the_order_of_the_files(files: list[SourceFile]) -> None:
    assert split(files) == split(files[::-1])


def test_copies_take_the_side_of_the_module_that_is_no_test(files: list[SourceFile]) -> None:
    _, validation = split(files)
    held_out, kept = validation[0], split(files)[0][0]
    copies = [SourceFile(f"test/copy_{'a' * number}.py", held_out.text + "\n# copied") for number in range(20)]
    copies += [SourceFile(f"tests/again_{'a' * number}.py", kept.text) for number in range(20)]
    training, validation = split(files + copies)
    assert {file.path for file in copies[:20]} <= {file.path for file in validation}
    assert {file.path for file in copies[20:]} <= {file.path for file in training}


def test_reads_what_python_would(tmp_path: Path) -> None:
    (tmp_path / "latin.py").write_bytes("# coding: latin-1\nname = 'é'\r\n".encode("latin-1"))
    (tmp_path / "broken.py").write_bytes(b"name = '\xff'\n")
    (tmp_path / "table.py").write_text("values = [" + "12345, " * 50 + "]\n")
    (tmp_path / "encodings").mkdir()
    (tmp_path / "encodings" / "ascii.py").write_text("name = 1\n")
    assert read_source(tmp_path / "latin.py") == "# coding: latin-1\nname = 'é'\n"
    assert [file.path for file in source_files(tmp_path)] == ["latin.py"]
