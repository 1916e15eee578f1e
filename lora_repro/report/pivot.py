"""The tables that compare rows of conf/row, with a column per metric, task or value of another axis; and their figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from lora_repro.config.paper_values import check_columns
from lora_repro.errors import UserError
from lora_repro.planning.cells import Cell
from lora_repro.report import captions
from lora_repro.report.captions import Caption, data_of_tasks, decoding
from lora_repro.report.columns import (
    columns_of,
    main_column,
    place_of,
    printed_columns,
    score_label,
    task_label,
)
from lora_repro.report.exhibit import Exhibit, ReportRequest
from lora_repro.report.figures import curves, points, scored
from lora_repro.report.numbers import Metric
from lora_repro.report.scores import Result, measured_results, quoted_results, rows_of
from lora_repro.report.sheet import Scores, first_in_words, tables_of
from lora_repro.results import OWN, Run, Store, backbone_name, by_place, grouped, place, runs
from lora_repro.stats.comparable import check_same_origin

SCORE = Metric("score", "Score (%)")


@dataclass(frozen=True)
class Pivot:
    """What an experiment shows: rows beside the paper's values, with each row's difference from the row `reference`.

    title: its name in captions.
    by: what has one column each: `metric` (those of `metrics`; the first is compared), `task` (with the average of several), or
    a swept axis (`row.rank`, `data.n_train`). axis: the axis's name in column titles.
    metrics: if `by` is not `metric`, the first only names the score, and each further one gets a table of its own.
    paper: backbone -> the name of the paper's numbers for it (conf/paper); any other backbone is shown beside the first of these.
    Empty: the table has no numbers of the paper.
    over: the x of a curve figure: `parameters`, `row`, or the axis itself. Empty: points over parameters.
    curves: the rows that a curve figure shows. Empty: all.
    each: task -> the table by metric of that task alone, for tasks with more metrics than the one shown here.
    """

    title: str
    paper: dict[str, str]
    by: str = "metric"
    axis: str = "size"
    metrics: tuple[Metric, ...] = (SCORE,)
    reference: str = "full"
    reference_label: str = "full FT"
    remarks: tuple[str, ...] = ()
    over: str = ""
    curves: tuple[str, ...] = ()
    each: Mapping[str, Pivot] = field(default_factory=dict)

    def exhibits(self, ask: ReportRequest, stores: Sequence[Store]) -> list[Exhibit]:
        """The tables of all that is asked for with their figure, and the tables of each task of `each` that has runs.

        Raises UserError as `check_printed` and `scores` do.
        """
        # Runs that were made for another table, and only shared with this one, do not make a table of this one.
        published_here = any(ask.name in store.tables for store in stores)
        if not published_here and not any(store.source == OWN for store in stores):
            return []
        self.check_printed(ask.name)
        exhibits = []
        for stem, pivot, cells in self.parts(ask):
            scores = pivot.scores(ask, cells, stores)
            all_runs = [run for store in stores for run in runs(cells, store)]
            first = [run for run in all_runs if run.source == stores[0].source]
            # A published table is kept even if the present protocol has to measure all of it again.
            keep = published_here if stores[0].source != OWN else any(run.source == OWN for run in all_runs)
            if pivot is self:
                summary = ask.said(run.signature for run in first)
                draw, words = partial(self.draw, scores, first), first_in_words(scores)
                exhibits.append(Exhibit(stem, self.title, tuple(tables_of(scores)), summary, draw, keep, words=words))
            elif all_runs:
                tables = tables_of([part.without_empty_rows() for part in scores])
                summary = f"{len({run.signature for run in first})} runs in {stem}"
                exhibits.append(Exhibit(stem, pivot.title, tuple(tables), summary, lambda _: [], keep))
        return exhibits

    def check_printed(self, table: str) -> None:
        """Raise UserError for a number in the table's file of conf/paper that no column here shows."""
        patterns = [printed_columns(pivot.by, pivot.metrics) for pivot in (self, *self.each.values())]
        check_columns(table, "|".join(patterns), [*self.paper])

    def parts(self, ask: ReportRequest) -> list[tuple[str, Pivot, list[Cell]]]:
        """(the exhibit's stem, its pivot, its cells) for the whole table, and for that of each task of `each`."""
        parts = [(task, pivot, [cell for cell in ask.cells if cell.task == task]) for task, pivot in self.each.items()]
        return [(ask.name, self, [*ask.cells]), *((f"{ask.name}_{task}", pivot, cells) for task, pivot, cells in parts if cells)]

    def scores(self, ask: ReportRequest, cells: Sequence[Cell], stores: Sequence[Store]) -> list[Scores]:
        """The contents of each table: one per backbone (and task, unless tasks are the columns), then those of further metrics.

        Raises UserError if one store's records differ in data, text form or backbone. A further store whose records differ from
        those of the first is left out, with a footnote: its numbers would not be comparable.
        """
        for store in stores:
            for backbone_cells in by_place(cells, "backbone"):
                check_same_origin([run.record for run in runs(backbone_cells, store)], same_backbone=False)
        tables: list[Scores] = []
        for group in by_place(cells, self.by):
            if tables and self.by != "metric" and not any(runs(group, store) for store in stores):
                continue  # a task that nobody has run
            tables.append(self._scored(ask, group, stores, None))
            if self.by != "metric":
                tables += [self._scored(ask, group, stores, metric) for metric in self.metrics[1:]]
        return tables

    def _scored(self, ask: ReportRequest, group: Sequence[Cell], stores: Sequence[Store], other: Metric | None) -> Scores:
        columns = columns_of(self.by, self.axis, self.metrics, group, other)
        contrasts = [] if other else columns[:1] if self.by == "metric" else columns
        ours: list[Result] = []
        table_runs: list[Run] = []
        refusals = []
        for store in stores:
            of_store = runs(group, store)
            if store is not stores[0] and not of_store:
                continue
            results = measured_results(group, store, columns, self.by, self.reference, contrasts)
            try:
                for peers in grouped([*table_runs, *of_store], lambda run: place(run.cell)):
                    check_same_origin([run.record for run in peers])
            except UserError as error:
                refusals.append(f"The {store.source} runs are not shown beside these: {error}.")
                continue
            ours, table_runs = [*ours, *results], [*table_runs, *of_store]
        backbone = backbone_name(group[0])
        scale = backbone if backbone in self.paper else next(iter(self.paper), "")  # the paper's backbone to show beside it
        quotes = quoted_results(group, columns, scale, self.paper[scale]) if scale else []
        if ask.overrides:  # a part of the table, of which the paper may have no value
            quotes = [result for result in quotes if result.cells]
        everything = [*ours, *quotes]
        order = {row.name: index for index, row in enumerate(rows_of(group))}
        everything.sort(key=lambda result: order[result.row])  # stable: sources keep their order within a row
        has = {key for result in everything for key in result.cells}
        columns = [column for column in columns if not column.metric.note or column.key in has]
        counts = [mean.n for result in ours for mean in result.cells.values() if mean.n]
        caption = self._caption(ask, group, table_runs, counts, other)
        main = main_column(self.by, columns)
        metric_notes = dict.fromkeys(column.metric.note for column in columns if column.metric.note)
        notes = (*captions.of_table(self.remarks, ours, table_runs, main, self.reference_label), *metric_notes, *refusals)
        return Scores(
            self.title,
            self.reference_label,
            ask.profile,
            backbone,
            caption,
            tuple(everything),
            notes,
            tuple(columns),
            main,
            each_compared=contrasts == columns and self.by != "metric",
            score=(other or self.metrics[0]).label,
            reference_row=self.reference,
        )

    def _caption(
        self, ask: ReportRequest, group: Sequence[Cell], group_runs: Sequence[Run], counts: Sequence[int], other: Metric | None
    ) -> Caption:
        cell, records = group[0], [run.record for run in group_runs]
        caption = Caption.of(self.title, ask.profile, cell, records, counts, ask.command(cell))
        if self.by == "metric":
            return replace(caption, decoding=decoding(cell))
        columns = list({place_of(cell, self.by): cell for cell in reversed(group)}.values())[::-1]
        names = dict.fromkeys(f"{task_label(cell)} {other.label if other else score_label(cell)}" for cell in columns)
        return replace(caption, data=data_of_tasks(columns, records), scores=", ".join(names))

    def _with_curves(self, scores: Scores) -> Scores:
        return replace(scores, results=tuple(result for result in scores.results if not self.curves or result.row in self.curves))

    def draw(self, scores: Sequence[Scores], table_runs: Sequence[Run], stem: Path) -> list[Path]:
        """Draw `stem`.svg and .png of what was measured; returns all files.

        The paper's values are curves in a figure of their own (`stem`_paper) or points in one with ours (`stem`_beside_paper).
        A table by metric also gets the losses by step (`stem`_learning).
        """
        pairs = list(zip(scores, scored.titles(scores), strict=True))
        title, caption = scored.statement(scores[0], self.over, self.axis, pairs[0][1]), scored.provenance(*scores)
        if self.over:
            pairs = [(self._with_curves(part), of) for part, of in pairs]
            plots = [(part, of, plot) for part, of in pairs if (plot := scored.curve_plot(part, self.over, self.axis, of)).curves]
            if not plots:
                return []
            files = curves.save([plot for _, _, plot in plots], stem, title=title, caption=caption)
            if paper_plots := scored.printed_plots([(part, of) for part, of, _ in plots], self.over, self.axis):
                to, sources = stem.with_name(f"{stem.name}_paper"), scored.sources(scores)
                paper = next(iter(self.paper.values()))
                files += curves.save(paper_plots, to, title=f"The paper, {paper}: {self.title}", caption=sources)
            return files
        panels = [scored.panel(part, part.backbone in self.paper, of) for part, of in pairs]
        panels = [panel for panel in panels if any(not point.quoted for point in panel.points)]
        if not panels:
            return []
        label = scores[0].compared.metric.label
        files = points.save(panels, label, stem, title, caption)
        if both := [panel for part in scores if (panel := scored.panel_beside_paper(part))]:
            to = stem.with_name(f"{stem.name}_beside_paper")
            versus = f"{label} − {self.reference_label}"
            files += points.save(both, versus, to, scored.statement_beside_paper(scores[0]), scored.BESIDE_PAPER.format(caption))
        if self.by == "metric":
            files += curves.learning(table_runs, self.title, caption, stem.with_name(f"{stem.name}_learning"))
        return files

