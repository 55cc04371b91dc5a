"""The files are read by pandas, polars and DuckDB without our code, and say all that the numbers rest on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scrub.store.results.folder import Results
from scrub.store.results.read import known

SQL = """
with cells as (
    select study, experiment, part, sum(loss_sum) / sum(scored) as loss
    from '{}/losses/*.parquet' group by study, experiment, part
)
select cells.study, cells.experiment,
    100 * (baseline.loss - cells.loss) / (baseline.loss - unscrubbed.loss) as recovered
from cells
join cells as baseline on baseline.study = cells.study and baseline.experiment = 'baseline'
join cells as unscrubbed on unscrubbed.study = cells.study and unscrubbed.experiment = 'unscrubbed'
where cells.part <> ''
"""
ASKED = {
    "hypothesis_hash", "weights_hash", "tokens_hash", "selection_hash", "seed", "draw", "dtype", "device",
    "scrub_version", "torch_version", "time", "study", "model", "data", "hypothesis", "part", "parameters",
    "sequence", "other", "loss_sum", "token_losses",
}  # fmt: skip


def ours(folder: Path) -> dict[tuple[str, str], float]:
    found = known(Results(folder))
    return {
        (each.result.study, f"{row.hypothesis}/{row.part}"): row.recovered.estimate
        for each in found
        for row in each.result.table
    }


def test_percent_recovered_by_pandas_polars_and_duckdb(swept: Path) -> None:
    import duckdb
    import polars as pl

    folder = swept / "results"
    wanted = ours(folder)
    assert len(wanted) == 12
    by_sql = {(study, name): value for study, name, value in duckdb.sql(SQL.format(folder)).fetchall()}
    assert by_sql == pytest.approx(wanted, rel=1e-12)

    table = pd.read_parquet(folder / "losses")
    sums = table.groupby(["study", "experiment"], observed=True)[["loss_sum", "scored"]].sum()
    loss = sums["loss_sum"] / sums["scored"]
    by_pandas = {
        at: 100 * (loss[at[0], "baseline"] - loss[at]) / (loss[at[0], "baseline"] - loss[at[0], "unscrubbed"])
        for at in wanted
    }
    assert by_pandas == pytest.approx(wanted, rel=1e-12)

    lazy = pl.scan_parquet(folder / "losses" / "*.parquet").with_columns(pl.col("study", "experiment").cast(pl.String))
    means = lazy.group_by("study", "experiment").agg(pl.col("loss_sum").sum() / pl.col("scored").sum()).collect()
    by_name = {(study, name): value for study, name, value in means.iter_rows()}
    at_zero = {at: by_name[at[0], "baseline"] for at in wanted}
    by_polars = {at: 100 * (zero - by_name[at]) / (zero - by_name[at[0], "unscrubbed"]) for at, zero in at_zero.items()}
    assert by_polars == pytest.approx(wanted, rel=1e-12)


def test_every_row_says_what_it_rests_on(swept: Path) -> None:
    for file in (swept / "results/losses").iterdir():
        table = pd.read_parquet(file)
        assert set(table.columns) >= ASKED
        assert not table[sorted(ASKED)].isna().any().any()
        for lengths, scored in zip(table["token_losses"].map(len), table["scored"], strict=True):
            assert lengths == scored
        sums = table["token_losses"].map(np.sum)
        np.testing.assert_allclose(sums, table["loss_sum"], rtol=1e-5)
        without = table["experiment"] == "bigram"
        assert (table["change_sum"].isna() == without).all()
        assert (table["kl_sum"].isna() == without).all()
        assert set(table["device"]) == {"cpu"}
        assert str(table["time"].dtype) == "datetime64[us, UTC]"


def test_the_inputs_are_there_and_go_with_the_losses(swept: Path) -> None:
    import polars as pl

    (file,) = (swept / "results/inputs").iterdir()
    inputs = pl.read_parquet(file)
    first = pl.read_parquet(swept / "results/losses/*.parquet").row(0, named=True)
    assert file.name.partition(".")[0] == f"{first['tokens_hash']}-{first['selection_hash']}"
    assert inputs["sequence"].to_list() == list(range(37))
    lengths = inputs.select(
        tokens=pl.col("tokens").list.len(), texts=pl.col("texts").list.len(), selected=pl.col("selected").list.len()
    )
    assert lengths.unique().rows() == [(12, 12, 11)]
    scored = pl.read_parquet(swept / "results/losses/*.parquet").select("sequence", "scored").unique().sort("sequence")
    assert scored["scored"].to_list() == inputs["selected"].list.sum().to_list()
    assert set(inputs["texts"][0]) <= {"<|begin|>", "\n", *"abcdefghijklmnopqrstuvwxyz .,"}
