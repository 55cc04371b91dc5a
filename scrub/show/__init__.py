"""Looking at results: trees of paths, tables, charts, pages and reports."""

from scrub.text.looks import register


def register_looks() -> None:
    """Say how results look. Nothing is imported for that: each function is, when something is shown by it."""
    tables, charts = "scrub.show.tables", "scrub.show.charts"
    result = {"tables": f"{tables}.results:result_tables", "chart": f"{charts}.recovery:recovery_chart"}
    register("scrub.study.result.Result", **result)
    interventions = f"{charts}.interventions"
    for kind, name in (("ablation", "Ablation"), ("patching", "Patching")):
        shown = {"tables": f"{tables}.measurements:{kind}_tables", "chart": f"{interventions}:{kind}_chart"}
        register(f"scrub.measure.interventions.{kind}.{name}", **shown)
    for kind, name in (("direct", "DirectAttribution"), ("lens", "LogitLens")):
        shown = {"tables": f"{tables}.stream:{kind}_tables", "chart": f"{charts}.stream:{kind}_chart"}
        register(f"scrub.measure.stream.{kind}.{name}", **shown)
    shown = {"tables": f"{tables}.generation:generation_tables", "chart": f"{charts}.generation:generation_chart"}
    register("scrub.measure.generation.generation.Generation", **shown)
    for kind, name, drawn in (
        ("attribution", "Attribution", "edges"),
        ("faithfulness", "Faithfulness", "faithfulness"),
    ):
        shown = {"tables": f"{tables}.circuits:shown_{kind}", "chart": f"{charts}.{drawn}:shown_{kind}"}
        register(f"scrub.measure.circuits.{kind}.{name}", **shown)
    written = {
        way: f"scrub.show.searched:{function}" for way, function in (("claim", "claim_of"), ("module", "found_module"))
    }
    shown = {"tables": f"{tables}.search:found_tables", "chart": f"{charts}.search:found_chart"}
    register("scrub.measure.search.found.Found", **shown, **written)
    register("scrub.study.run.Trial", picture="scrub.show.picture:picture")
    register("scrub.measure.predictions.Predictions", tables=f"{tables}.measurements:prediction_tables")
    register("scrub.measure.parity.parity.Parity", tables=f"{tables}.parity:parity_tables")
    register("scrub.measure.heads.score.Scores", tables=f"{tables}.heads:shown_scores")
    study = {"tables": f"{tables}.measurements:shown_study", "charts": f"{charts}.heads:study_charts"}
    register("scrub.measure.study.heads.HeadStudy", **study)
    register("scrub.store.comparisons.comparison.Comparison", tables=f"{tables}.results:comparison_tables")
    across = {"tables": f"{tables}.models:across_tables", "chart": f"{charts}.models:across_chart"}
    register("scrub.store.comparisons.models.AcrossModels", **across)
    register("scrub.store.comparisons.moved.Moved", tables=f"{tables}.results:moved_tables")
    register("scrub.store.comparisons.leaderboard.Leaderboard", tables=f"{tables}.results:leaderboard_tables")
