"""Data sets of a hub that is hostile: no file of the user's is read, whatever a card, a link or a config names."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
from fake_hub import Hub, commit_of, on

from scrub import ScrubError
from scrub.cli import _status
from scrub.data import streams
from scrub.data.rows import rows


def test_names_that_look_like_patterns(tiny: Hub) -> None:
    tiny.datasets["some-one/rows"] = {
        "part[1].jsonl": b'{"text": "one"}\n',
        "part*.jsonl": b'{"text": "two"}\n',
        "what?.jsonl": b'{"text": "three"}\n',
    }

    assert sorted(map(str, rows("some-one/rows"))) == ["one", "three", "two"]


def test_a_card_names_no_file_of_the_user(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On the hub, in a folder that was copied from there, and in what `datasets` saved."""
    secret = tmp_path / "secret.jsonl"
    secret.write_text('{"text": "my diary"}\n')
    copied = tmp_path / "copied"
    copied.mkdir()
    (copied / "rows.jsonl").write_text('{"text": "theirs"}\n')
    for path in (
        f"{secret}",
        "../secret.jsonl",
        "a/../../secret.jsonl",
        f"file://{secret}",
        "http://127.0.0.1:9/x.jsonl",
    ):
        for files in (path, [path], [{"split": "train", "path": [path]}]):
            card = f"---\nconfigs:\n- config_name: default\n  data_files: {json.dumps(files)}\n---\n# Rows\n"
            hub.datasets["some-one/rows"] = {"rows.jsonl": b'{"text": "theirs"}\n', "README.md": card.encode()}
            (copied / "README.md").write_text(card)
            for words in (["fetch", "some-one/rows"], ["fetch", str(copied)]):
                status = _status(words)
                said = capsys.readouterr()
                assert (status, said.out, said.err.count("\n")) == (2, "", 1)
                assert "which aren't beside it" in said.err
                assert "diary" not in said.err
    from datasets import Dataset

    Dataset.from_dict({"text": ["my diary"]}).save_to_disk(tmp_path / "own")
    Dataset.from_dict({"text": ["theirs"]}).save_to_disk(tmp_path / "saved")
    state = json.loads((tmp_path / "saved" / "state.json").read_text())
    (file,) = (tmp_path / "own").glob("*.arrow")
    for path in (f"../own/{file.name}", str(file)):
        (tmp_path / "saved" / "state.json").write_text(json.dumps({**state, "_data_files": [{"filename": path}]}))
        assert _status(["fetch", str(tmp_path / "saved")]) == 2
        assert "which aren't beside it" in capsys.readouterr().err


LINES = [json.dumps({"text": f"a text of words {number}"}) for number in range(30)]
TABLE = "text\n" + "".join(f"a text of words {number}\n" for number in range(30))
CARD = "---\nconfigs:\n- config_name: default\n  data_files: inside/*.txt\n---\n"
LAYOUTS: dict[str, dict[str, str]] = {
    "lines": {"train.jsonl": "\n".join(LINES[:10]), "validation.jsonl": "\n".join(LINES[10:])},
    "an array": {"data.json": f"[{','.join(LINES)}]"},
    "a table": {"data/train.csv": TABLE},
    "text": {"book.txt": "\n".join(LINES)},
    "a card": {"README.md": CARD, "inside/a.txt": "\n".join(LINES), "b.txt": "another"},
    "a script beside": {"rows.py": "raise SystemExit", "train.jsonl": "\n".join(LINES)},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_was_fetched_needs_no_network(
    hub: Hub, layout: str, offline: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:

    hub.datasets["some-one/rows"] = {name: text.encode() for name, text in LAYOUTS[layout].items()}
    online = list(rows("some-one/rows"))
    assert _status(["fetch", "some-one/rows"]) == 0, capsys.readouterr().err
    assert not any(path.endswith(".py") for path in hub.asked)
    offline()
    asked = len(hub.asked)
    assert list(rows("some-one/rows")) == online
    assert len(hub.asked) == asked
    (folder,) = (line.split(" (")[0].strip() for line in capsys.readouterr().out.splitlines() if " MB)" in line)
    assert list(rows(folder)) == online, "nor does the folder that fetch names"


def test_only_files_that_are_read_are_brought(hub: Hub) -> None:
    hub.datasets["some-one/rows"] = {f"data/train-{n}.jsonl": f'{{"text": "{n}"}}\n'.encode() * 300 for n in range(5)}
    hub.datasets["some-one/rows"]["data/test-0.jsonl"] = LINES[0].encode()
    assert len(list(islice(rows("some-one/rows", split="train"), 310))) == 310
    assert [path.rpartition("/")[2] for path in hub.asked if "/resolve/" in path] == ["train-0.jsonl", "train-1.jsonl"]


def test_no_row_fills_the_memory(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    monkeypatch.setattr(streams, "LARGEST_ROW", 1000)
    monkeypatch.setattr(streams, "MOST_VALUES", 1000)
    monkeypatch.setattr(streams, "VALUES_A_ROW", 1000)
    parquet.write_table(pa.table({"input_ids": [[7] * 10_000]}), tmp_path / "ids.parquet")
    hub.datasets["some-one/rows"] = {"a.jsonl": json.dumps({"text": "x" * 5000}).encode()}
    hub.datasets["some-one/ids"] = {"ids.parquet": (tmp_path / "ids.parquet").read_bytes()}
    for name, message in (("some-one/rows", "line 1 of .*a.jsonl"), ("some-one/ids", "10,000 values in 1 rows")):
        with pytest.raises(ScrubError, match=message):
            list(rows(name))


CARDS = {
    "line ends of another system": "---\r\nconfigs:\r\n- config_name: default\r\n  data_files: {}\r\n---\r\n",
    "a mark of the byte order": "\ufeff---\nconfigs:\n- config_name: default\n  data_files: {}\n---\n",
    "dashes within": "---\nlicense: mit\n---x: y\nconfigs:\n- config_name: default\n  data_files: {}\n---\n",
    "a folder": "---\nconfigs:\n- config_name: default\n  data_dir: {}\n---\n",
}


def outcome(spec: str | Path) -> list[str] | str:
    """The rows of some data, or what is said instead."""
    try:
        return list(map(str, rows(spec)))
    except ScrubError as error:
        return str(error)


@pytest.mark.parametrize("card", CARDS)
def test_a_card_that_others_read_otherwise(hub: Hub, card: str, tmp_path: Path) -> None:
    """Only what was looked at reaches the library that finds the files."""
    secret = tmp_path / "secret.jsonl"
    secret.write_text('{"text": "my diary"}\n')
    copied = tmp_path / "copied"
    copied.mkdir()
    (copied / "rows.jsonl").write_text('{"text": "theirs"}\n')
    for path in (str(secret), "../" * 20 + str(secret)[1:], "../..", "http://127.0.0.1:9/x.jsonl"):
        text = CARDS[card].replace("{}", path)
        (copied / "README.md").write_text(text, newline="")
        hub.datasets["some-one/rows"] = {"rows.jsonl": b'{"text": "theirs"}\n', "README.md": text.encode()}
        for spec in (copied, "some-one/rows"):
            found = outcome(spec)
            assert found == ["theirs"] or "aren't beside it" in found


def test_what_was_saved_names_nothing_else(hub: Hub, tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    Dataset.from_dict({"text": ["my diary"]}).save_to_disk(tmp_path / "own")
    DatasetDict(train=Dataset.from_dict({"text": ["theirs"]})).save_to_disk(str(tmp_path / "saved"))
    files = {p.relative_to(tmp_path / "saved").as_posix(): p.read_bytes() for p in (tmp_path / "saved").rglob("*.*")}
    hub.datasets["some-one/saved"] = files
    assert list(rows("some-one/saved")) == list(rows(tmp_path / "saved")) == ["theirs"]
    for splits in ([str(tmp_path / "own")], ["../own"]):
        said = json.dumps({"splits": splits}).encode()
        (tmp_path / "saved" / "dataset_dict.json").write_bytes(said)
        hub.datasets["some-one/saved"] = {**files, "dataset_dict.json": said}
        for spec in (tmp_path / "saved", "some-one/saved"):
            with pytest.raises(ScrubError, match="aren't beside it"):
                list(rows(spec))


def test_the_older_copy_of_data_stays_usable(hub: Hub, offline: Callable[[], None]) -> None:
    old = {"train.jsonl": b'{"text": "old"}\n' * 3, "README.md": b"# Rows"}
    hub.datasets["some-one/rows"] = old
    assert _status(["fetch", "some-one/rows"]) == 0
    hub.datasets["some-one/rows"] = {"train.jsonl": b'{"text": "new"}\n' * 3, "README.md": b"# Rows, anew"}
    hub.spoil = on("/train.jsonl", lambda *_: (404, {}, b""))
    found = rows("some-one/rows")
    assert (list(found), found.commit) == (["old"] * 3, commit_of(old))
    assert "can't be had" in "\n".join(found.notes)
    hub.spoil = lambda _path, _headers, answer: answer
    asked = hub.datasets.pop("some-one/rows")
    offline()
    assert list(rows("some-one/rows")) == ["old"] * 3
    assert asked


def test_rows_of_other_shapes(hub: Hub, tmp_path: Path) -> None:
    missing = b'{"id": 1}\n{"text": "a"}\n{"id": 2}\n{"text": "b"}\n'
    typed = b"---\ndataset_info:\n  features:\n  - name: text\n    dtype: string\n---\n"
    array = json.dumps([{"text": "x" * 99}] * 3).encode()
    for files, wanted in (
        ({"a.jsonl": missing}, ["a", "b"]),
        ({"README.md": typed, "a.csv": b"text\n123\n456\n"}, ["123", "456"]),
        ({"a.json": array}, ["x" * 99] * 3),
        ({"README.md": b"---\na: &x 1\nb: *x\n---\n", "a.jsonl": b'{"text": "a"}\n'}, ["a"]),
    ):
        hub.datasets["some-one/rows"] = files
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(streams, "LARGEST_ROW", 200)
            assert list(rows("some-one/rows")) == wanted
    hub.datasets["some-one/rows"] = {"a.jsonl": b'{"text": "a"}\n[1]\n'}
    with pytest.raises(ScrubError, match=r"line 2 of .* is no row"):
        list(rows("some-one/rows"))
    hub.datasets["some-one/rows"] = {"a.jsonl": b'{"text": "a\\ud800"}\n'}
    with pytest.raises(ScrubError, match=r"row 0 of .* half a character"):
        list(rows("some-one/rows"))
    (tmp_path / "x::y.jsonl").write_text('{"text": "a"}\n')
    assert list(rows(tmp_path / "x::y.jsonl")) == ["a"]
