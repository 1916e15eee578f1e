"""The paired bootstrap: exact corpus scores, known intervals, several seeds, mistakes."""

from typing import Any

import numpy as np
import pytest
from bootstrap_interval import paired_bootstrap
from hypothesis import given, settings
from hypothesis import strategies as st
from interval_coverage import BESIDE, LIKE_OURS, Case, counted_twice, held
from scipy import stats
from scipy.optimize import brentq
from scipy.special import ndtr

from lora_repro.errors import UserError
from lora_repro.metrics import bleu, glue
from lora_repro.metrics.corpus import METRICS, corpus_bleu, counted_score
from lora_repro.stats import bootstrap, spread
from lora_repro.stats.bootstrap import Resampled, difference, paired_draws, resampled_scores
from lora_repro.stats.spread import UNKNOWN, Error, Pooled, pooled

Row = dict[str, Any]
Answers = tuple[list[str], list[str], list[str]]  # of method a, of method b, gold
GLUE = ["accuracy", "f1", "matthews", "pearson"]


def runs(seed: int, quality: float, n: int = 60) -> list[Row]:
    """Per-input statistics of outputs that copy each reference token with probability `quality`."""
    draw = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        reference = [f"w{draw.integers(20)}" for _ in range(12)]
        output = [token if draw.random() < quality else "x" for token in reference]
        counts = bleu.bleu_counts(" ".join(output), [" ".join(reference)])
        score = output.count("x") / 12
        row = {
            **counts._asdict(),
            "rouge_l": 1 - score,
            "cider": 10 - score,
            "slots": 3 + i % 5,
            "slot_errors": i % 3,
        }
        rows.append(row)
    return rows


def literal_bleu(rows: list[Row]) -> float:
    return bleu.bleu([bleu.BleuCounts(r["matches"], r["totals"], r["hyp_len"], r["ref_len"]) for r in rows])


def answers(metric: str, seed: int = 1, n: int = 60) -> Answers:
    draw = np.random.default_rng(seed)
    if metric == "pearson":
        gold = draw.uniform(0, 5, n)
        return tuple([str(x) for x in gold + draw.normal(0, s, n)] for s in (0.5, 1.5, 0))  # type: ignore[return-value]
    right = draw.random(n) < 0.6
    return tuple([str(int(x)) for x in right ^ (draw.random(n) < s)] for s in (0.1, 0.3, 0))  # type: ignore[return-value]


def glue_rows(metric: str, said: list[str], gold: list[str]) -> list[Row]:
    return glue.per_input_statistics(said, gold, "1", regression=metric == "pearson")


def glue_difference(metric: str, answered: Answers, chosen: list[int] | None = None) -> float:
    a, b, gold = ([side[i] for i in chosen] if chosen else side for side in answered)
    return glue.score([metric], a, gold, "1")[metric] - glue.score([metric], b, gold, "1")[metric]


def chosen_inputs(seed: int, inputs: int, n: int) -> list[list[int]]:
    weights = np.random.default_rng(seed).multinomial(inputs, np.full(inputs, 1 / inputs), n)
    return [[i for i, times in enumerate(row) for _ in range(times)] for row in weights]


def test_difference_is_that_of_the_corpus_scores() -> None:
    a, b = runs(1, 0.8), runs(1, 0.6)
    assert paired_bootstrap(a, b, n=10).difference == pytest.approx(
        literal_bleu(a) - literal_bleu(b), abs=1e-12
    )
    rouge = np.mean([r["rouge_l"] for r in a]) - np.mean([r["rouge_l"] for r in b])
    assert paired_bootstrap(a, b, n=10, metric="rouge_l").difference == pytest.approx(rouge)


def test_slot_error_rate_is_sum_over_sum() -> None:
    a = [{"slots": 8, "slot_errors": 4}, {"slots": 2, "slot_errors": 0}]
    b = [{"slots": 8, "slot_errors": 0}, {"slots": 2, "slot_errors": 1}]
    assert paired_bootstrap(a, b, n=5, metric="slot_error_rate").difference == pytest.approx(4 / 10 - 1 / 10)


@pytest.mark.parametrize("output", ["", "a", "a b", "a b c d e f g h", "x y z x y z"])
def test_vectorised_bleu_equals_the_literal_one(output: str) -> None:
    counts = bleu.bleu_counts(output, ["a b c d e f", "a b"])
    sums = np.array([*counts.matches, *counts.totals, counts.hyp_len, counts.ref_len], dtype=float)
    assert corpus_bleu(sums) == pytest.approx(bleu.bleu([counts]), rel=1e-12)


def test_resamples_equal_a_literal_bootstrap() -> None:
    a, b = runs(1, 0.8, n=9), runs(2, 0.7, n=9)
    differences = [
        literal_bleu([a[i] for i in indices]) - literal_bleu([b[i] for i in indices])
        for indices in chosen_inputs(seed=5, inputs=9, n=40)
    ]
    interval = paired_bootstrap(a, b, n=40, seed=5)
    assert (interval.low, interval.high) == pytest.approx(
        tuple(np.percentile(differences, [2.5, 97.5])), abs=1e-12
    )


@pytest.mark.parametrize("metric", GLUE)
@pytest.mark.parametrize("n", [9, 3])
def test_glue_resamples_equal_a_literal_bootstrap(metric: str, n: int) -> None:
    """With 3 inputs, some resamples hold one input three times: no correlation, no variance, one class."""
    columns = answers(metric, n=n)
    a, b, gold = columns
    literal = [glue_difference(metric, columns, indices) for indices in chosen_inputs(seed=5, inputs=n, n=60)]
    differences = [x for x in literal if not np.isnan(x)]
    interval = paired_bootstrap(
        glue_rows(metric, a, gold), glue_rows(metric, b, gold), n=60, seed=5, metric=metric
    )
    assert interval.difference == pytest.approx(glue_difference(metric, columns), abs=1e-12)
    assert interval[1:3] == pytest.approx(tuple(np.percentile(differences, [2.5, 97.5])), abs=1e-9)
    assert interval.n_resamples == len(differences)
    assert (len(differences) < 60) == (metric == "pearson" and n == 3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.sampled_from("01")] * 3), min_size=1, max_size=12))
def test_class_scores_equal_those_of_glue(rows: list[tuple[str, str, str]]) -> None:
    columns: Answers = tuple(list(side) for side in zip(*rows, strict=True))  # type: ignore[assignment]
    a, b, gold = columns
    for metric in ("accuracy", "f1", "matthews"):
        interval = paired_bootstrap(
            glue_rows(metric, a, gold), glue_rows(metric, b, gold), n=5, metric=metric
        )
        assert interval.difference == pytest.approx(glue_difference(metric, columns), abs=1e-12)
        assert np.isfinite(interval).all()


def test_f1_and_matthews_by_hand() -> None:
    # a: TP 2, FP 1, FN 1, TN 1; b: all negative, so TP 0 and both scores 0
    gold = list("11100")
    a, b = glue_rows("f1", list("11010"), gold), glue_rows("f1", list("00000"), gold)
    assert paired_bootstrap(a, b, n=5, metric="f1").difference == pytest.approx(4 / 6)
    expected = (2 * 1 - 1 * 1) / np.sqrt(3 * 3 * 2 * 2)
    assert paired_bootstrap(a, b, n=5, metric="matthews").difference == pytest.approx(expected)


def test_pearson_far_from_zero_keeps_its_digits() -> None:
    a, b, gold = ([float(x) for x in side] for side in answers("pearson"))

    def rows(said: list[float], shift: float) -> list[Row]:
        return [{"predicted": x + shift, "gold": y + shift} for x, y in zip(said, gold, strict=True)]

    near = paired_bootstrap(rows(a, 0), rows(b, 0), n=50, metric="pearson")
    far = paired_bootstrap(rows(a, 2.0**24), rows(b, 2.0**24), n=50, metric="pearson")
    assert far == pytest.approx(near, abs=1e-7)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1 / 3, 1e9 / 7])
def test_constant_predictions_count_as_no_correlation(constant: float) -> None:
    """A run that gives every input one number has no Pearson correlation: it is not left out, it has 0."""
    a = [{"predicted": x, "gold": x} for x in np.random.default_rng(0).uniform(0, 5, 37)]
    b = [{"predicted": constant, "gold": row["gold"]} for row in a]
    interval = paired_bootstrap(a, b, n=20, metric="pearson")
    assert interval[:3] == pytest.approx((1, 1, 1)) and interval[3:] == (37, 20)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1 / 3, 1e9 / 7])
def test_constant_answers_leave_nothing_to_correlate_with(constant: float) -> None:
    a = [{"predicted": x, "gold": constant} for x in np.random.default_rng(0).uniform(0, 5, 37)]
    b = [{"predicted": -row["predicted"], "gold": constant} for row in a]
    assert paired_bootstrap(a, b, n=20, metric="pearson")[:3] == (0, 0, 0)


def test_a_resample_without_an_input_of_the_group_says_nothing_of_it() -> None:
    a, b = ([{**row, "group": "seen" if i else "unseen"} for i, row in enumerate(runs(0, quality, 3))] for quality in (1.0, 0.5))
    draws = paired_draws(a, b, n=200, metric="bleu_unseen")
    assert draws.difference > 0 and (draws.resamples[~np.isnan(draws.resamples)] > 0).all()
    assert np.isnan(draws.resamples).mean() == pytest.approx((2 / 3) ** 3, abs=0.1)


@pytest.mark.parametrize("metric", ["bleu", "ter", "nist", "spearman", "accuracy_matched"])
def test_a_run_that_diverged_counts_in_every_score_that_a_table_prints(metric: str) -> None:
    """Or one of its cells would be empty, while the others count the run."""
    run: dict[str, Any] = {"status": "diverged", "measured": {}}
    assert counted_score(run, metric) == (1.0 if metric == "ter" else 0.0)
    assert counted_score({**run, "status": "finished"}, metric) is None and counted_score(run, "seconds") is None


def test_a_run_that_diverged_has_the_worst_score_in_every_resample() -> None:
    good = [{"correct": 1.0}] * 9
    interval = paired_bootstrap([good, good], [good, None], n=20, metric="accuracy")
    assert interval.difference == 0.5 and interval.low < 0.5 < interval.high
    clean = [{"slots": 2, "slot_errors": 0}] * 9
    assert paired_bootstrap([clean], [None, clean], n=5, metric="slot_error_rate").difference == -0.5
    assert paired_bootstrap([good], [None], n=5, metric="accuracy")[:4] == (1, 1, 1, 9)  # a row that lost every seed
    with pytest.raises(UserError, match="no inputs"):
        paired_bootstrap([None], [None], metric="accuracy")


def test_seeds_are_resampled_as_widely_as_few_of_them_must() -> None:
    """With answers that are alike in a run, all spread is that of the seeds: s / sqrt(k), and Student's t for 1.96."""
    shares = (0.2, 0.5, 0.9)
    a = [[{"correct": share}] * 5 for share in shares]
    b = [[{"correct": 0.0}] * 5] * 3
    draws = paired_draws(a, b, n=4000, metric="accuracy")
    assert draws.difference == pytest.approx(np.mean(shares)) and draws.error.freedom == 2
    expected = np.std(shares, ddof=1) / np.sqrt(3) * 4.3027 / 1.96
    assert np.std(draws.resamples) == pytest.approx(expected, rel=0.05)
    # At another level by that level's quantiles: t(0.995) with two degrees of freedom, and the normal one.
    assert np.std(draws.at(0.01)) == pytest.approx(expected * 9.9248 / 2.5758 / (4.3027 / 1.96), rel=0.05)
    # Seeds that both methods share are drawn together: what they have in common cancels.
    assert np.ptp(paired_draws(a, a, n=50, metric="accuracy").resamples) == 0
    assert np.ptp(paired_draws(a, a[:2], n=50, metric="accuracy").resamples) > 0
    one = paired_draws(a[0], b[0], n=50, metric="accuracy")
    assert (one.at(0.01) == one.resamples).all() and np.isinf(one.error.freedom)


@pytest.mark.parametrize("common", [0.0, 1.0])
def test_how_each_seed_does_on_each_input_counts_once_by_the_seeds(common: float) -> None:
    """Answers that no seed shares move the seeds apart, and nothing else; what all share moves their mean with the inputs."""
    draw = np.random.default_rng(4)
    values = np.sqrt(common) * draw.normal(size=400) + (2 - common) * draw.normal(size=(3, 400))
    a, b = [[{"cider": float(one)} for one in run] for run in values], [[{"cider": 0.0}] * 400] * 3
    draws = paired_draws(a, b, n=4000, metric="cider")
    by_seeds = np.std(values.mean(axis=1), ddof=1) / np.sqrt(3) * 4.3027 / 1.96
    by_inputs = values.mean(axis=0).std() / np.sqrt(400)
    assert np.std(draws.by_inputs) == pytest.approx(by_inputs, rel=0.05)
    covariance = np.cov(values, bias=True)
    variance = max(covariance[np.triu_indices(3, 1)].mean(), 0.0) / 400  # between two seeds
    assert np.std(draws.by_shared_inputs) == pytest.approx(np.sqrt(variance), abs=0.004)
    assert np.std(draws.resamples) == pytest.approx(np.hypot(by_seeds, np.sqrt(variance)), rel=0.06)
    assert np.mean(draws.by_shared_inputs) == pytest.approx(np.mean(draws.by_inputs))


def test_seeds_that_are_alike_by_luck_are_no_surer_than_their_inputs() -> None:
    """Each seed right on other inputs, and all of them on as many: a spread of 0 says nothing here."""
    a = [[{"correct": float(i % 3 != seed)} for i in range(90)] for seed in range(3)]
    draws = paired_draws(a, [[{"correct": 0.0}] * 90] * 3, n=2000, metric="accuracy")
    assert np.ptp(draws.by_seeds) < 1e-12 and np.std(draws.resamples) == pytest.approx(np.std(draws.by_inputs))
    spread = [[{"correct": float(i % 3 != seed and i < 90 - 20 * seed)} for i in range(90)] for seed in range(3)]
    spread_draws = paired_draws(spread, [[{"correct": 0.0}] * 90] * 3, n=2000, metric="accuracy")
    assert np.std(spread_draws.by_shared_inputs) < 0.9 * np.std(spread_draws.by_inputs) < np.std(spread_draws.resamples)


def test_one_seed_keeps_all_that_its_inputs_leave() -> None:
    draws = paired_draws(runs(1, 0.8), runs(2, 0.7), n=200)
    assert (draws.by_shared_inputs == draws.by_inputs).all()


@pytest.mark.parametrize("case", [Case(3, 0.5, 1.0), Case(3, 2.0, 0.125), LIKE_OURS["SST-2, 3 seeds"]])
def test_the_interval_of_few_seeds_holds_the_true_difference(case: Case) -> None:
    """Cells of the tables in docs/protocol.md, with fewer cases; the rule `twice` is wrong on purpose."""
    coverage = held(case, 300, {**BESIDE, "twice": counted_twice})
    widths = [coverage.pop("twice")[1], *(width for _, width in coverage.values())]
    assert widths == sorted(widths, reverse=True)  # each rule that may know more is as sure, and surer
    assert all(0.92 <= share <= 0.99 for share, _ in coverage.values())


def test_undefined_rates_are_left_out() -> None:
    a = [{"slots": 0, "slot_errors": 0}, {"slots": 4, "slot_errors": 1}]
    interval = paired_bootstrap(a, a, n=40, metric="slot_error_rate")
    assert interval[:3] == (0, 0, 0) and 0 < interval.n_resamples < 40


def test_interval_of_a_mean_matches_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(size=400)
    a, b = [{"cider": 1 + float(v)} for v in values], [{"cider": 0.0}] * 400
    interval = paired_bootstrap(a, b, n=2000, metric="cider")
    half = 1.96 * values.std() / 20
    assert interval.low == pytest.approx(1 + values.mean() - half, abs=0.012)
    assert interval.high == pytest.approx(1 + values.mean() + half, abs=0.012)
    assert (interval.n_inputs, interval.n_resamples) == (400, 2000)


def test_seeds_average_corpus_scores() -> None:
    a, b = [runs(s, 0.8) for s in (1, 2, 3)], [runs(s, 0.7) for s in (4, 5)]
    expected = np.mean([literal_bleu(r) for r in a]) - np.mean([literal_bleu(r) for r in b])
    assert paired_bootstrap(a, b, n=20).difference == pytest.approx(expected)
    assert paired_bootstrap([a[0]], b[0], n=20) == paired_bootstrap(a[0], [b[0]], n=20)


@pytest.mark.parametrize(
    ("a", "b", "options", "message"),
    [
        (runs(1, 0.5), runs(1, 0.5, n=59), {}, "60 inputs against 59 inputs"),
        ([runs(1, 0.5), runs(1, 0.5, n=3)], runs(1, 0.5), {}, "60 inputs against 3 inputs"),
        ([], [], {}, "no inputs"),
        ([[]], [[]], {}, "non-empty"),
        (runs(1, 0.5), runs(1, 0.5), {"metric": "nist"}, "metric=nist: the bootstrap needs one of bleu"),
        (runs(1, 0.5), runs(1, 0.5), {"n": 0}, "n=0"),
        *[([[]], [[]], {"metric": metric}, "non-empty") for metric in METRICS],
        (
            [{"correct": 1}],
            [{"correct": 1}],
            {"metric": "f1"},
            "the per-input statistics have no 'tp', which f1 needs",
        ),
        ([{"gold": "a"}], [{"gold": "a"}], {"metric": "pearson"}, "have no 'predicted', which"),
        ([{"bleu": 1}], [{"bleu": 1}], {}, "the per-input statistics have no 'matches'"),
    ],
)
def test_mistakes_are_named(a: Any, b: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        paired_bootstrap(a, b, **options)


@pytest.mark.parametrize("metric", ["ter", "ter_seen"])
def test_a_diverged_run_has_the_worst_error_rate(metric: str) -> None:
    clean = [{"ter_edits": 0, "ter_words": 5, "group": "seen"}] * 9
    assert paired_bootstrap([clean, clean], [None, clean], n=5, metric=metric).difference == -0.5


SHARES = ((0.2, 0.5, 0.9), (0.1, 0.6, 0.3), (0.0, 0.1, 0.3))


def of_shares(*shares: float) -> list[Resampled | None]:
    """A run a seed, whose inputs are all alike: only seeds move its score."""
    return [resampled_scores([{"correct": share}] * 5, "accuracy") for share in shares]


@pytest.mark.parametrize("shares", [SHARES[:2], (SHARES[0], SHARES[1][:2])])
def test_of_seeds_that_do_not_go_together_the_interval_is_welchs(shares: tuple[tuple[float, ...], ...]) -> None:
    draws = difference([of_shares(*side) for side in shares], "accuracy", paired=False)
    expected = stats.ttest_ind(*shares, equal_var=False)
    for level in (0.05, 0.01):
        ends = expected.confidence_interval(1 - level)
        share = 1 - 2 * float(ndtr(-(ends.high - ends.low) / 2 / draws.at(level).std()))  # the resamples are normal
        assert share == pytest.approx(1 - level, abs=2e-4)
    assert draws.error.freedom == pytest.approx(expected.df)


def test_of_paired_seeds_it_is_that_of_their_differences_in_all_four_cells_too() -> None:
    a, b, c = SHARES
    expected = stats.ttest_rel(c, b)
    for cells in ((c, b), (a, b, a, c)):  # (a - b) - (a - c) = c - b
        draws = difference([of_shares(*side) for side in cells], "accuracy")
        assert draws.error[:2] == pytest.approx((np.std(np.subtract(c, b), ddof=1) / 3**0.5, 2))
        assert draws.difference / draws.error.size == pytest.approx(expected.statistic)
    assert difference([of_shares(0.1), of_shares(0.2)], "accuracy").error == (0, np.inf, None)  # one seed has no spread


def test_a_known_spread_stands_for_the_rows_own() -> None:
    pool = Pooled(0.3, 24, 9)
    one = (SHARES[0][:1], SHARES[1][:1])
    for sides, terms in (((SHARES[0], SHARES[1][:2]), 1 / 3 + 1 / 2), (one, 2), ((*SHARES, SHARES[0]), 4 / 3)):
        draws = difference([of_shares(*side) for side in sides], "accuracy", paired=False, common=pool)
        assert draws.error == (pytest.approx(0.3 * terms**0.5), 24, pool)
    assert difference([of_shares(*side) for side in SHARES[:2]], "accuracy", common=pool).error.pooled is None  # they are paired


def test_a_spread_is_pooled_where_equal_variances_are_not_rejected() -> None:
    draw = np.random.default_rng(0)
    rows = [list(2 * draw.normal(size=k)) for k in (3, 5, 3, 4, 3)]
    assert stats.bartlett(*rows).pvalue > 0.1

    def wider(factor: float) -> list[list[float]]:
        return [[factor * one for one in rows[0]], *rows[1:]]

    at = brentq(lambda factor: stats.bartlett(*wider(factor)).pvalue - 0.1, 1.5, 50)
    assert pooled(wider(0.999 * at)) and pooled(wider(1.001 * at)) is None
    squares = sum(np.var(row, ddof=1) * (len(row) - 1) for row in rows)
    assert pooled([*rows, [1.0, 99.0]]) == (pytest.approx((squares / 13) ** 0.5), 13, 5)  # two seeds are too few to count
    assert pooled([*rows, [1.0, 30.0, 5.0]]) is None and pooled([*rows, [1.0, 1.0, 1.0]]) is None
    assert pooled(rows[:3]) is None and pooled([list(draw.normal(size=20))]) is None  # 8 degrees of freedom; one row


def test_errors_of_tasks_join_as_satterthwaite_has_it() -> None:
    error = spread.mean([Error(3.0, 2), Error(4.0, 8)])
    assert error == (pytest.approx(5 / 2), pytest.approx(25**2 / (81 / 2 + 256 / 8)), None)
    assert spread.mean([Error(3.0, 2), UNKNOWN]) == (1.5, np.inf, None) and spread.mean([Error(0.0, 2)]).freedom == 2
    assert spread.mean([UNKNOWN]) == UNKNOWN


def test_the_order_in_which_sums_are_added_does_not_tell() -> None:
    """With one BLAS thread or two a figure had another pixel."""
    draw = np.random.default_rng(0)
    metric, weights = METRICS["pearson"], draw.integers(4, size=(50, 300)).astype(float)
    table = np.asarray(metric.columns([{"predicted": x, "gold": y} for x, y in draw.normal(size=(300, 2))]))
    other = draw.permutation(300)
    scores = [bootstrap._scores([rows], metric, counts) for rows, counts in ((table, weights), (table[other], weights[:, other]))]
    assert (scores[0] == scores[1]).all() and np.isfinite(scores[0]).all()
