"""Saves a workspace, given as plain data, at W&B together with the tables and figures that it shows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lora_repro.errors import NotAvailable, UserError
from lora_repro.tracking.background import one_line
from lora_repro.tracking.wandb_run import WandbTracker, begin, key_known

NO_KEY = "no W&B key: set WANDB_API_KEY, or DRY_RUN=1 to print the workspace, or WANDB_MODE=offline to upload the run later"


def save(spec: dict[str, Any], tables: dict[str, list[dict[str, Any]]], figures: dict[str, Path], folder: Path) -> str:
    """Upload and save; returns where the workspace is. With WANDB_MODE=offline only the run is kept, in `folder`.

    Raises NotAvailable without a package or a key, UserError if W&B refuses.
    """
    import wandb

    if os.environ.get("WANDB_MODE") == "offline":
        upload(WandbTracker(mode="offline"), spec, tables, figures, folder)
        return f"offline, without panels; to upload tables and figures: wandb sync {folder}/wandb/offline-run-*"
    tracker = WandbTracker(mode="online")
    try:
        if not key_known():
            raise NotAvailable(NO_KEY)
        entity = tracker.entity or wandb.Api().default_entity
        board = build(spec, str(entity), tracker.project)
        upload(tracker, spec, tables, figures, folder)
        board.save()
    except (wandb.Error, OSError, ValueError) as error:
        raise UserError(f"W&B refused the dashboard: {one_line(error)}") from error
    return str(board.url)


def upload(
    tracker: WandbTracker,
    spec: dict[str, Any],
    tables: dict[str, list[dict[str, Any]]],
    figures: dict[str, Path],
    folder: Path,
) -> None:
    """Upload one run that holds the tables and figures; the figures also as an artifact, which keeps their versions.

    The run has the workspace's id, so a later upload replaces it.
    """
    import wandb

    name = str(spec["name"]).replace(" ", "-")
    about = {"group": "dashboard", "job_type": "report", "config": dict(spec["filter"])}
    run = begin(tracker, folder, id=name, name=name, resume="allow", **about)
    media: dict[str, Any] = {key: wandb.Image(str(path)) for key, path in figures.items()}
    for key, lines in tables.items():
        columns = lines[0] if lines else ["line"]
        media[key] = wandb.Table(columns=[*columns], data=[[*line.values()] for line in lines], allow_mixed_types=True)
    run.log(media)
    if figures:
        artifact = wandb.Artifact(f"figures-{name}", type="figures")
        for key, path in figures.items():
            artifact.add_file(str(path), name=f"{key}{path.suffix}", policy="immutable", skip_cache=True)
        run.log_artifact(artifact)
    run.finish()


def build(spec: dict[str, Any], entity: str, project: str) -> Any:
    """The spec as a wandb_workspaces Workspace. Raises NotAvailable without that package."""
    try:
        from wandb_workspaces import expr, workspaces
    except ImportError as error:
        raise NotAvailable("the dashboard needs wandb-workspaces: pip install -e '.[dashboard]'") from error
    conditions = [workspaces.Config(key) == value for key, value in spec["filter"].items()]
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=spec["name"],
        sections=[
            workspaces.Section(name=item["name"], panels=[panel(p) for p in item["panels"]], is_open=True)
            for item in spec["sections"]
        ],
        runset_settings=workspaces.RunsetSettings(
            filters=expr.And(*conditions), groupby=[workspaces.Config(key) for key in spec["group_by"]]
        ),
    )


def panel(data: dict[str, Any]) -> Any:
    """One panel. Table charts use W&B's own presets, as `wandb.plot` does."""
    from wandb_workspaces.reports.v2 import interface as reports

    title, kind = data["title"], data["kind"]
    seeds: dict[str, Any] = {"groupby_aggfunc": "mean", "groupby_rangefunc": "minmax"}
    if kind == "line":
        return reports.LinePlot(title=title, x=data["x"], y=[data["y"]], **seeds)
    if kind == "bar":
        group = reports.Config(data["group"])
        return reports.BarPlot(title=title, metrics=[data["metric"]], groupby=group, **seeds)
    if kind == "scatter":
        y = reports.SummaryMetric(data["y"])
        return reports.ScatterPlot(title=title, x=reports.Config(data["x"]), y=y, log_x=True)
    if kind == "table":
        return reports.WeavePanelSummaryTable(table_name=data["table"])
    if kind == "compare":
        return reports.RunComparer(diff_only="split")
    if kind == "parallel":
        keys: dict[str, Any] = {"config": reports.Config, "summary": reports.SummaryMetric}
        columns = [
            reports.ParallelCoordinatesPlotColumn(keys[col["where"]](key := col["key"]), display_name=key, log=key == "train.lr")
            for col in data["columns"]
        ]
        return reports.ParallelCoordinatesPlot(columns=columns, title=title)
    if kind == "image":
        return reports.MediaBrowser(title=title, media_keys=[data["key"]], num_columns=1)
    names = ("label", "value") if kind == "table_bar" else ("x", "y")
    chart = {"table_bar": "wandb/bar/v0", "table_scatter": "wandb/scatter/v0"}[kind]
    return reports.CustomChart(
        query={"summaryTable": {"tableKey": data["table"]}},
        chart_name=chart,
        chart_fields={name: data[name] for name in names},
        chart_strings={"title": title},
    )
