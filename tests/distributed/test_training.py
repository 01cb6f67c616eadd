"""Two ranks train as one process does with their joined batch."""

import pytest
import torch

from hf_hardneg.training import gather_rows, joined_mean
from tests.distributed import training
from tests.distributed.test_ranks import torchrun

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    assert torchrun("training.py", folder) == 0
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("run", training.RUNS)
def test_losses_gradients_and_parameters_are_those_of_one_process(ranks, run):
    alone = training.train(*training.RUNS[run])
    assert alone["losses"][0] > 0 and alone["losses"].isfinite().all()
    for rank in ranks:
        for what, expected in alone.items():
            torch.testing.assert_close(rank["runs"][run][what], expected, rtol=1e-10, atol=1e-10)


def test_gradients_of_two_towers_are_those_of_one_process(ranks):
    alone = training.train_towers()
    for rank in ranks:
        torch.testing.assert_close(rank["towers"], alone, rtol=1e-12, atol=1e-12)


def test_the_mask_matters_across_ranks(ranks):
    losses = [ranks[0]["runs"][name]["losses"][0] for name in ("masked", "mined")]
    assert losses[0] < losses[1] - 1e-3


def test_rows_that_do_not_fit_name_the_rank_on_all_ranks(ranks):
    width, kind, names = ranks[0]["refused"]
    assert "Rank 1 gave positives of shape (2, 4), torch.float32; rank 0 of shape (2, 3), torch.float32." in width
    assert "torch.float64; rank 0" in kind
    assert "Rank 1 gave keys and rank 0 did not" in names
    assert ranks[1]["refused"] == ranks[0]["refused"]


def test_a_rank_that_wants_no_gradient_still_sends_it_back(ranks):
    assert ranks[0]["lopsided"] is None
    assert ranks[1]["lopsided"].tolist() == [[2.0] * 3] * 2


def test_alone_rows_stay_as_they_are():
    rows = torch.ones(2, 3, requires_grad=True)
    gathered = gather_rows({"rows": rows})
    assert gathered.rows["rows"] is rows and gathered.start == {"rows": 0}
    assert joined_mean(rows.sum(), 3) == 2 and joined_mean(rows.sum() * 0, 0) == 0
