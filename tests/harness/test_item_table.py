"""Tables of items as strangers write them: read where they can be, refused with the line else."""

import codecs
import gzip
import os
from pathlib import Path

import pytest

from harness.contract import Artifact, MetricSpec, Report
from harness.journal.item_table import (
    LONGEST_NAME,
    MOST_BYTES,
    MOST_COLUMNS,
    MOST_ROWS,
    TableError,
    read_table,
)
from harness.journal.prompt_values import complaints, values_of

PLAIN = "item,prompt,m\na,p,1\nb,q,2.5\n"


def read(tmp_path: Path, content: bytes | str, kind: str = "items", metrics=("m",)):
    file = tmp_path / "t.csv"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table(file, kind, metrics)


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        codecs.BOM_UTF8 + PLAIN.encode(),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        PLAIN.replace("\n", "\n\n"),
        PLAIN.rstrip(),
        PLAIN.replace("item,", "item_id,"),
        '"item", prompt ,"m"\n"a","p"," 1 "\nb,q,2.5e0\n',
        "other,m,prompt,item\nx,1,p,a\n,2.5,q,b\n",
        "item,prompt,m\na,p,1\nb,q,2.5\nc,q,\nd,q,NaN\n",
        "item,prompt,weight,m\na,p,,1\nb,q,1,2.5\nc,q,0,9\n",
    ],
)
def test_read(tmp_path, content):
    found = values_of(read(tmp_path, content), "m")
    assert found.values == {"all": {"p": 1.0, "q": 2.5}}
    assert found.strata == {"all": 1.0}


def test_columns_of_no_metric_are_for_other_readers(tmp_path):
    assert read(tmp_path, "draw,item,clip\n0,a,x\n0,a,y\n") is None
    assert read(tmp_path, "") is None


def test_without_prompts_each_item_is_one(tmp_path):
    assert values_of(read(tmp_path, "item,m\na,1\nb,2\n"), "m").values == {"all": {"a": 1, "b": 2}}


@pytest.mark.parametrize(
    ("content", "kind", "why"),
    [
        ("prompt,m\np,1\n", "items", "lacks the column `item`"),
        ("item,m\na,1\n", "prompts", "lacks the column `prompt`"),
        ("item,m\na,1\na,2\n", "items", "line 3: item 'a' is there twice"),
        ("prompt,stratum,m\np,k,1\np,l,1\np,k,2\n", "prompts", "line 4: prompt 'p' is there twice"),
        ("item,m\na,good\n", "items", "line 2, m: 'good' is no number"),
        ("item,m\na,1_000\n", "items", "line 2, m: '1_000' is no number"),
        ("item,m\na,inf\n", "items", "line 2, m: inf is not finite"),
        ("item,m\na,1e999\n", "items", "line 2, m: 1e999 is not finite"),
        ('item,m\na,"1,5"\n', "items", "'1,5' is no number"),
        ("item,m\na,1,2\n", "items", "line 2 has 3 cells, the first has 2"),
        ("item,m\na\n", "items", "line 2 has 1 cells, the first has 2"),
        ("item,m,m\na,1,2\n", "items", "the column 'm' is there twice"),
        ("item,m\n ,1\n", "items", "line 2: its item has no name"),
        ("prompt,m\n,1\n", "prompts", "line 2: its prompt has no name"),
        ("item,weight,m\na,-1,1\n", "items", "line 2, weight: -1 is below 0"),
        ("item,weight,m\na,heavy,1\n", "items", "line 2, weight: 'heavy' is no number"),
        (
            "item,stratum,stratum_weight,m\na,k,1,1\nb,k,2,1\n",
            "items",
            "'k' has two weights, 1 and",
        ),
        ("prompt,n_prompts,m\np,1.5,1\n", "prompts", "n_prompts: 1.5 is no whole number"),
        ('item,m\na,"1\n', "items", "it is no CSV"),
        (PLAIN.encode("utf-16"), "items", "it is not UTF-8 (byte 0)"),
        ("item,prompt,m\na,häuschen,1\n".encode("latin-1"), "items", "it is not UTF-8"),
        (gzip.compress(PLAIN.encode()), "items", "it is not UTF-8"),
        ("item," + ",".join(f"c{i}" for i in range(MOST_COLUMNS)) + ",m\n", "items", "columns"),
    ],
)
def test_refused(tmp_path, content, kind, why):
    with pytest.raises(TableError) as told:
        read(tmp_path, content, kind)
    assert why in str(told.value)
    report = Report(step=1, artifacts=(Artifact(kind=kind, path="t.csv", step=1),))
    found = complaints(tmp_path, report, {"m": MetricSpec()})
    assert list(found) == [f"{kind} not used"]
    assert why in found[f"{kind} not used"]


def test_ten_million_rows_are_refused_without_reading_them(tmp_path):
    file = tmp_path / "t.csv"
    with file.open("wb") as stream:
        stream.write(b"item,m\n")
        for _ in range(100):
            stream.write(b"1,2\n" * 100_000)
    assert file.stat().st_size < MOST_BYTES
    with pytest.raises(TableError, match="there twice"):
        read_table(file, "items", ["m"])
    with file.open("wb") as stream:
        stream.write(b"item,m\n")
        for start in range(0, 10**7, 10**6):
            stream.write(b"".join(b"%d,2\n" % i for i in range(start, start + 10**6)))
    assert file.stat().st_size > MOST_BYTES
    with pytest.raises(TableError, match="larger than 64 MiB"):
        read_table(file, "items", ["m"])
    os.truncate(file, MOST_BYTES)
    with pytest.raises(TableError, match=f"more than {MOST_ROWS:,} rows"):
        read_table(file, "items", ["m"])


def test_files_that_are_not_there_or_no_files(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path, tmp_path / "t.parquet"):
        with pytest.raises(TableError, match="cannot be read"):
            read_table(path, "items", ["m"])


def test_a_csv_beside_a_parquet_file_is_read(tmp_path):
    assert read(tmp_path, PLAIN) is not None
    assert read_table(tmp_path / "t.parquet", "items", ["m"]) is not None


def test_words_of_others_are_printable_and_bounded(tmp_path):
    long = "x" * 5000
    found = read(tmp_path, f"item,prompt,m\na,\x1b[2J\u202eevil,1\nb,{long},2\nc,{long}y,3\n")
    evil, one, other = found.prompts
    assert evil.isprintable()
    assert len(one) == len(other) == LONGEST_NAME
    assert one != other, "two long names stay two"
    with pytest.raises(TableError) as told:
        read(tmp_path, f"item,m\na,\x1b[2J{long}\n")
    assert "\x1b" not in str(told.value)
    assert len(str(told.value)) < 300


@pytest.mark.parametrize("cell", ["1e308", "-1e308", "1e-320"])
def test_numbers_at_the_edge_raise_nothing_else(tmp_path, cell):
    rows = "".join(f"{i},{i % 3},{i % 2},{cell},{cell}\n" for i in range(40))
    file = tmp_path / "t.csv"
    file.write_text("item,prompt,stratum,weight,m\n".replace("weight", "other") + rows)
    report = Report(
        step=1, metrics={"m": 1.0}, measured=True, artifacts=(Artifact(kind="items", path="t.csv"),)
    )
    assert "items not used" in complaints(tmp_path, report, None)
    file.write_text("item,prompt,stratum,weight,m\n" + rows.replace("-", ""))
    assert "items not used" in complaints(tmp_path, report, None)
