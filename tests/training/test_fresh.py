"""Other negatives of a row each epoch: in turn, equally often, and the same whoever asks."""

from collections import Counter

import numpy as np
import pytest
from datasets import Dataset
from torch.utils.data import DataLoader

from hf_hardneg.errors import ColumnError, ConfigError, DataError
from hf_hardneg.training import CrossBatchCollator, FreshNegatives
from tests.training.world import live_model

ROWS = 6


def rows_of(negatives=5):
    names = [[f"n{row} {place}" for place in range(negatives)] for row in range(ROWS)]
    return Dataset.from_dict(
        {
            "query": [f"query {row // 2}" for row in range(ROWS)],
            "positive": [[f"positive {row}"] for row in range(ROWS)],
            "negatives": names,
            "negative_ids": [[name.upper() for name in listed] for listed in names],
            "negative_scores": [[float(place) for place in range(negatives)] for _ in range(ROWS)],
            "negative_generation": [3] * ROWS,
            "chance": [[place / 10 for place in range(negatives)] for _ in range(ROWS)],
        }
    )


def seen(rows, fresh, epochs):
    """The negatives of each row in each epoch."""
    shown = rows.with_transform(fresh)
    for epoch in range(epochs):
        fresh.set_epoch(epoch)
        yield [row["negatives"] for row in shown]


def test_the_published_vector_through_the_permutation_of_a_row():
    epochs = [names[0] for names in seen(rows_of(), FreshNegatives(2), 5)]
    order = [*epochs[0], *epochs[1], epochs[2][0]]
    assert sorted(order) == [f"n0 {place}" for place in range(5)]
    assert [[order.index(name) for name in row] for row in epochs] == [[0, 1], [2, 3], [4, 0], [1, 2], [3, 4]]


@pytest.mark.parametrize(("negatives", "size"), [(5, 2), (6, 4), (7, 3), (4, 4), (3, 5)])
def test_all_negatives_are_used_equally_often(negatives, size):
    epochs = list(seen(rows_of(negatives), FreshNegatives(size), negatives))
    for row in range(ROWS):
        counts = Counter(name for epoch in epochs for name in epoch[row])
        assert set(counts.values()) == {min(size, negatives)} and len(counts) == negatives
        assert all(len(set(epoch[row])) == min(size, negatives) for epoch in epochs)


def test_rows_and_seeds_have_permutations_of_their_own():
    orders = {
        (seed, row): tuple(int(name.split()[1]) for name in names)
        for seed in (1, 2)
        for row, names in enumerate(next(seen(rows_of(12), FreshNegatives(12, seed=seed), 1)))
    }
    assert len(set(orders.values())) == len(orders)


def test_what_belongs_to_a_negative_stays_with_it_and_the_rest_stays():
    fresh = FreshNegatives(2, columns={"false_negative": "chance"})
    for row in rows_of().with_transform(fresh):
        places = [int(name.split()[1]) for name in row["negatives"]]
        assert row["negative_ids"] == [name.upper() for name in row["negatives"]]
        assert row["negative_scores"] == places and row["chance"] == [place / 10 for place in places]
        assert row["negative_generation"] == 3 and len(row["positive"]) == 1


def test_transform_collator_map_and_stream_agree_in_any_order():
    rows, fresh = rows_of(), FreshNegatives(2)
    fresh.set_epoch(3)
    expected = [row["negatives"] for row in rows.with_transform(fresh)]
    assert [row["negatives"] for row in fresh.of_rows(rows.to_list())] == expected
    assert rows.map(fresh, batched=True)["negatives"][:] == expected
    assert [row["negatives"] for row in rows.to_iterable_dataset().map(fresh, batched=True)] == expected
    order = np.random.default_rng(0).permutation(ROWS)
    assert rows.select(order).with_transform(fresh)[:]["negatives"] == [expected[row] for row in order]
    assert FreshNegatives(2).epoch == 0 and fresh.epoch == 3


def test_a_null_list_stays_one_and_an_empty_one_too():
    rows = Dataset.from_dict({"query": ["a", "b"], "negatives": [["x", "y"], []], "negative_verdicts": [None, []]})
    fresh = FreshNegatives(1)
    shown = rows.with_transform(fresh)[:]
    assert [len(names) for names in shown["negatives"]] == [1, 0] and shown["negative_verdicts"] == [None, []]


def shown_by(loader):
    return [row for batch in loader for row in batch]


@pytest.mark.parametrize("persistent", [True, False])
def test_workers_learn_of_the_epoch(persistent):
    rows, fresh = rows_of(), FreshNegatives(2)
    alone = list(seen(rows, FreshNegatives(2), 3))
    loader = DataLoader(rows, batch_size=2, collate_fn=fresh.of_rows, num_workers=2, persistent_workers=persistent)
    for epoch in range(3):
        fresh.set_epoch(epoch)
        assert [row["negatives"] for row in shown_by(loader)] == alone[epoch]


def test_the_collator_takes_it_with_scores_and_weights():
    rows = (
        rows_of()
        .add_column("positive_scores", [[9.0]] * ROWS)
        .add_column("quality", [0.5 * row for row in range(ROWS)])
    )
    fresh = FreshNegatives(2, columns={"false_negative": "chance"})
    names = {"false_negative": "chance", "weight": "quality"}
    tokenizer = live_model().tokenizer
    collate = CrossBatchCollator(
        tokenizer, num_negatives=fresh, columns=names, score_columns=("positive_scores", "negative_scores")
    )
    fresh.set_epoch(1)
    batch = collate(rows.to_list())
    places = [[int(name.split()[1]) for name in row["negatives"]] for row in fresh.of_rows(rows.to_list())]
    assert batch["scores"][:, 1:].tolist() == places
    np.testing.assert_allclose(batch["negative_weights"], 1 - np.array(places) / 10, rtol=1e-6)
    assert batch["weights"].tolist() == [0.5 * row for row in range(ROWS)]
    assert batch["negative_mask"].shape == (ROWS, 2)
    assert "weights" not in CrossBatchCollator(tokenizer)(rows.to_list())


def test_the_collator_cuts_by_its_own_columns():
    """What it reads is cut at the same places, whatever it is called, and `FreshNegatives` alone names nothing."""
    rows = rows_of().rename_columns({"negatives": "hard", "query": "asked"})
    rows = rows.add_column("taught", [[9.0]] * ROWS).add_column("teacher", rows["negative_scores"][:]).to_list()
    fresh = FreshNegatives(2)
    names = {"query": "asked", "negatives": "hard", "false_negative": "chance"}
    collate = CrossBatchCollator(
        lambda texts, **_: texts, num_negatives=fresh, columns=names, score_columns=("taught", "teacher")
    )
    expected = list(seen(rows_of(), FreshNegatives(2), 3))
    for epoch in range(3):
        fresh.set_epoch(epoch)
        batch = collate(rows)
        assert batch["negatives"] == [name for names in expected[epoch] for name in names]
        places = [[int(name.split()[1]) for name in names] for names in expected[epoch]]
        assert batch["scores"][:, 1:].tolist() == places
        np.testing.assert_allclose(batch["negative_weights"], 1 - np.array(places) / 10, rtol=1e-6)
    with pytest.raises(ConfigError, match="'hard'.* reads other columns than CrossBatchCollator"):
        CrossBatchCollator(print, num_negatives=FreshNegatives(2, columns={"negatives": "hard"}))
    with pytest.raises(ColumnError, match="no column 'negatives'"):
        CrossBatchCollator(lambda texts, **_: texts, num_negatives=fresh)(
            rows_of().remove_columns("negatives").to_list()
        )
    with pytest.raises(ColumnError, match="no column 'absent'.* beside="):
        FreshNegatives(2, beside=("absent",))(rows_of()[:])


def test_views_of_rows_follow_the_epoch():
    """`datasets` copies the transform of each of them."""
    fresh = FreshNegatives(2)
    rows = rows_of().with_transform(fresh)
    views = [
        rows.remove_columns("chance"),
        rows.rename_column("chance", "likelihood"),
        rows.select_columns(["query", "positive", "negatives"]),
        rows.shuffle(seed=1).select(range(3)),
    ]
    shown = []
    for epoch in range(2):
        fresh.set_epoch(epoch)
        shown.append([view[0]["negatives"] for view in views])
    assert all(not set(first) & set(second) for first, second in zip(*shown, strict=True))


def test_rows_of_any_format_have_the_same_negatives():
    rows, fresh = rows_of().add_column("query_id", list(range(ROWS))), FreshNegatives(2)
    expected = [row["negatives"] for row in rows.with_transform(fresh)]
    for name in (None, "numpy", "torch"):
        assert [row["negatives"] for row in fresh.of_rows(list(rows.with_format(name)))] == expected


def test_one_negative_alone_stays():
    rows = [{"query": "a", "negatives": "x", "negative_ids": ["X"]}]
    assert FreshNegatives(2).of_rows(rows) == rows


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"weight": "absent"}, "no column 'absent'"),
        ({"weight": "query"}, "'query' holds 'query 0'; it must hold a finite number of at least 0"),
        ({"false_negative": "negative_scores"}, "it must hold 5 probabilities from 0 to 1"),
    ],
)
def test_weights_that_are_none_say_so(columns, message):
    with pytest.raises((ColumnError, DataError), match=message):
        CrossBatchCollator(live_model().tokenizer, columns=columns)(rows_of().to_list())


def test_what_cannot_be_cut_says_so():
    with pytest.raises(ConfigError, match="size=0"):
        FreshNegatives(0)
    with pytest.raises(ColumnError, match="no column 'negatives'"):
        FreshNegatives(1)({"query": ["a"]})
    uneven = {"query": ["a"], "negatives": [["x", "y"]], "negative_ids": [["x"]]}
    with pytest.raises(DataError, match="'negative_ids' has a list of 1 beside 2 negatives"):
        FreshNegatives(1)(uneven)
    with pytest.raises(DataError, match="'negative_ids' has a list of 1 beside 2 negatives"):
        FreshNegatives(1).of_rows(Dataset.from_dict(uneven).to_list())
