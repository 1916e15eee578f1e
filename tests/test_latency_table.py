"""Measurements written by hand as tables: what each cell says, which flags it carries, and what the notes admit."""

from __future__ import annotations

import pytest
from latency_measure import entry, measurement

from lora_repro.config.paths import choices
from lora_repro.report.subjects import costs
from lora_repro.report.subjects.latency import cell_text, command, latency_tables, paper_numbers
from lora_repro.report.subjects.memory import memory_tables
from lora_repro.report.table import Number, bound, signed


@pytest.mark.parametrize(
    ("value", "text"), [(1.25, "+1.2"), (-3.0, "−3.0"), (0.0, "0.0"), (-0.01, "0.0"), (0.04, "0.0"), (10.0, "+10.0")]
)
def test_signs(value: float, text: str) -> None:
    assert signed(value) == text


def test_a_cell_says_its_interval_and_whether_it_holds_zero() -> None:
    assert cell_text(entry("lora_merged", 1, 64)) == "−0.2 [−0.9, +0.3] ="
    assert cell_text(entry("adapter_l_large", 1, 64)) == "+21.5 [+19.0, +24.2]"
    assert cell_text(entry("plain", 2, 64)) == "200.0 ms" and cell_text(None) == "—"


def test_an_end_near_zero_says_on_which_side_it_lies() -> None:
    assert [bound(value) for value in (-0.03, 0.004, 0.0, -6.44)] == ["−0.03", "+0.004", "0.0", "−6.4"]
    near = entry("lora_merged", 1, 64)
    number = cell_text(near)
    assert isinstance(number, Number) and (number.value, number.low, number.high) == (-0.2, -0.9, 0.3) and number.n == 3
    near["slowdown"] = {"median": -5.0, "low": -6.4, "high": -0.02, "n": 3}
    assert cell_text(near) == "−5.0 [−6.4, −0.02]"  # without `=`: not 0


def test_every_table_ends_its_caption_with_the_command_that_measures_it_again() -> None:
    benchmark = measurement()
    for table in [*latency_tables({"published": benchmark}), memory_tables({"published": benchmark})[0]]:
        assert table.facts[-1] == "To reproduce: lora-repro latency profile=mini"
    benchmark["where"]["kind"], benchmark["asked"]["overrides"] = "cuda", ["profile=mini", "device=cuda", "bench.rounds=50"]
    assert command(benchmark) == "lora-repro latency profile=mini device=cuda bench.rounds=50"


def test_own_published_and_paper_stand_in_this_order() -> None:
    (table,) = latency_tables({"this checkout": measurement(), "published": measurement()})
    assert table.header == ("Method", "Source", "Parameters", "1 × 64", "1 × 128", "2 × 128")
    rows = [row for row in table.rows if row[0] == "AdapterL, r 224"] + list(table.rows[-2:])
    assert [row[1] for row in rows] == ["this checkout", "published", "paper (GPT-2 medium, Quadro RTX8000)"]
    assert rows[0][2:4] == ("11.00 M", "+21.5 [+19.0, +24.2]") and rows[2][3:] == ("—", "+20.7", "—")
    assert [row for row in table.rows if "19.8 ± 2.7 ms" in row]  # the plain model's, at 1 x 128 alone
    assert "Some CPU, 2 threads" in table.caption and "profile mini" in table.caption and "124 M" in table.caption


def test_two_devices_are_both_named() -> None:
    other = measurement(where={**measurement()["where"], "device": "Another"})
    (table,) = latency_tables({"this checkout": measurement(), "published": other})
    assert "this checkout: Some CPU, 2 threads; published: Another" in table.caption


def test_the_notes_count_where_merged_lora_is_the_plain_model_and_name_where_not() -> None:
    benchmark = measurement()
    (table,) = latency_tables({"published": benchmark})
    expected = "LoRA, merged (published): the interval contains 0 in 3 of 3 cells. The widest interval spans 1.2 points."
    assert expected in table.footnotes
    slow = next(e for e in benchmark["latency"] if e["row"] == "lora_merged" and e["length"] == 64)
    slow["slowdown"] = {"median": 1.9, "low": 0.2, "high": 3.0, "n": 3}
    (table,) = latency_tables({"published": benchmark})
    assert any("in 2 of 3 cells; not in 1 × 64 (+1.9 %)" in note for note in table.footnotes)
    assert not any("busy" in note for note in table.footnotes)
    busy = measurement(where={**benchmark["where"], "load_before": 2.5})
    assert any("busy" in note and "load 2.5" in note for note in latency_tables({"published": busy})[0].footnotes)


def test_a_wide_grid_goes_on_below_length_by_length() -> None:
    cells = [(batch, length) for batch in (1, 2, 4, 8, 16, 32) for length in (128, 512)]
    benchmark = measurement(latency=[entry(row, *cell) for cell in cells for row in ("plain", "lora_merged")])
    tables = latency_tables({"published": benchmark})
    assert [table.header[3] for table in tables] == ["1 × 128", "1 × 512"]
    assert [len(table.header) for table in tables] == [9, 9] and not tables[0].footnotes and tables[1].footnotes


def test_the_paper_s_numbers_are_those_of_table_1() -> None:
    paper = paper_numbers()
    assert [*paper] == choices("row/latency")
    by_row = {row: numbers["gpt2_medium"] for row, numbers in paper.items() if "gpt2_medium" in numbers}
    assert set(by_row) == {"plain", "adapter_l_small", "adapter_l_large", "adapter_h_small", "adapter_h_large"}
    for row, numbers in by_row.items():
        assert "Table 1" in numbers["source"]
        for cell, value in numbers.items():
            if row != "plain" and cell != "source":  # each per cent follows from the milliseconds it was printed with
                assert 100 * (value["ms"] / by_row["plain"][cell]["ms"] - 1) == pytest.approx(value["slowdown"], abs=0.11)


def test_an_older_measurement_has_no_bytes_of_weights_gradients_and_activations_and_no_steps() -> None:
    benchmark = measurement()
    for line in benchmark["memory"]:
        del line["weights_bytes"], line["quantised"], line["gradient_bytes"], line["activation_bytes"]
    del benchmark["steps"]
    (table, _) = memory_tables({"published": benchmark})
    for row in table.rows:
        line = dict(zip(table.header, row, strict=True))
        assert (line["Weights, MB"], line["(4 P)"], line["Gradients, MB"], line["Activations, MB"]) == ("—", "(498)", "—", "—")
    assert line["Step, ms"] == line["Step / full FT [95 %]"] == "—"
    lines = [each for each in costs.numbers(benchmark) if each["quantity"] in ("gradient_bytes", "activation_bytes")]
    assert len(lines) == 4 and not any(each["value"] for each in lines)


def test_memory_stands_beside_the_arithmetic() -> None:
    table, last = memory_tables({"published": measurement()})
    lora, full = (dict(zip(table.header, row, strict=True)) for row in table.rows)
    assert (full["Optimizer state, MB"], full["(8 T)"]) == ("995.52", "(995.52)")
    assert (full["Gradients, MB"], lora["Gradients, MB"], full["Activations, MB"]) == ("497.76", "0.59", "50.00")
    assert (full["File, MB"], full["(4 T)"]) == ("497.76", "(497.76)")
    assert (full["Above the model, MB"], full["(12 T)"]) == ("1887", "(1493)")  # 1,800 MiB
    assert (lora["Trained"], lora["(4 P + 12 T)"], lora["Peak / full FT"]) == ("0.15 M", "(500)", "0.38")
    assert (lora["Step, ms"], lora["Step / full FT [95 %]"], full["Step, ms"]) == ("360", "0.75 [0.70, 0.80]", "500")
    assert full["Step / full FT [95 %]"] == "—"
    (quotient,) = [line for line in costs.numbers(measurement()) if line["quantity"] == "step_over_full"]
    assert [quotient[key] for key in ("row", "value", "low", "high", "n")] == ["lora", "0.75", "0.7", "0.8", "3"]
    numbers = {title: cell for title, cell in full.items() if isinstance(cell, Number)}
    assert numbers["Above the model, MB"].value == pytest.approx(1887.4368) and numbers["Trained"].value == 124_439_808
    rows = {row[:2]: row for row in last.rows}
    assert "174.6 billion" in last.caption
    assert rows["LoRA", "arithmetic"][3:6] == ("349", "349", "37.7")
    assert rows["Full fine-tuning", "arithmetic"][3:6] == ("1,397", "1,048", "349,183.4")
    assert [row[3:] for row in last.rows if row[1] == "paper"] == [("350", "—", "35", "43.1"), ("1,200", "—", "350,000", "32.5")]
    assert any("9,250 times smaller" in note for note in last.footnotes)
