"""transformers' Trainer, sentence-transformers', Lightning and a plain loop: the same negatives at the same step."""

import warnings

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from datasets import Dataset
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from torch.utils.data import DataLoader, SequentialSampler
from torch.utils.data._utils.pin_memory import pin_memory
from transformers import Trainer, TrainingArguments

from hf_hardneg.errors import DataError
from hf_hardneg.training import AsyncRefresher, HardNegativeCallback, HardNegativePlugin, Schedule, Tuples
from tests.models.test_encoder import tiny
from tests.training.world import live_model, loss_of, refresher

pytestmark = pytest.mark.slow

STEPS, BATCH = 13, 4
WHEN = {"refresh_every": 4, "first_refresh": 3}
SCHEDULE = Schedule(every=4, first=3)


def recorded(rows):
    return [(row["query_id"], row["negative_generation"], tuple(row["negative_ids"])) for row in rows]


def by_accelerate(folder):
    live = live_model(dropout=0.0)
    made = refresher(folder, live)
    accelerator = Accelerator(cpu=True)
    optimizer = torch.optim.SGD(live.model.parameters(), lr=0.05)
    loader = DataLoader(made.pairs.with_transform(made.negatives), batch_size=BATCH, collate_fn=list)
    _, optimizer, loader = accelerator.prepare(live.model.train(), optimizer, loader)
    plugin = HardNegativePlugin(accelerator, made, **WHEN)
    seen, losses = [], []
    while plugin.steps < STEPS:
        for rows in plugin.batches(loader):
            loss = loss_of(live, rows)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            seen.append(recorded(rows))
            losses.append(loss.item())
            plugin.step()
            if plugin.steps == STEPS:
                break
    return seen, losses


class Plain(Trainer):
    """In the order of the rows, with the loss of the other loops."""

    def __init__(self, live, **options):
        super().__init__(model=live.model, **options)
        self.live, self.seen, self.losses = live, [], []

    def _get_train_sampler(self, *_):
        return SequentialSampler(self.train_dataset)

    def compute_loss(self, model, inputs, **_):
        loss = loss_of(self.live, inputs["rows"])
        self.seen.append(recorded(inputs["rows"]))
        self.losses.append(loss.item())
        return loss


def trainer(folder, live, steps=STEPS, lag=None, **options):
    made = refresher(folder / "negatives", live)
    arguments = TrainingArguments(
        str(folder / "out"),
        max_steps=steps,
        per_device_train_batch_size=BATCH,
        learning_rate=0.05,
        lr_scheduler_type="constant",
        optim="sgd",
        max_grad_norm=0,
        remove_unused_columns=False,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
        dataloader_pin_memory=False,
        **options,
    )
    return Plain(
        live,
        args=arguments,
        train_dataset=made.pairs,
        data_collator=lambda rows: {"rows": rows},
        callbacks=[HardNegativeCallback(made if lag is None else AsyncRefresher(made, lag=lag), **WHEN)],
    )


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return by_accelerate(tmp_path_factory.mktemp("plain"))


def test_the_plain_loop(plain):
    seen, _ = plain
    assert [{row[1] for row in rows} for rows in seen] == [{SCHEDULE.number(step)} for step in range(STEPS)]


def test_transformers(tmp_path, plain):
    run = trainer(tmp_path, live_model(dropout=0.0), save_strategy="no")
    run.train()
    assert run.seen == plain[0]
    assert run.losses == pytest.approx(plain[1], rel=1e-6)


@pytest.mark.parametrize("step", [2, 3, 4, 11])
def test_a_resumed_trainer_follows_the_unbroken_one_exactly(tmp_path, step):
    whole = trainer(tmp_path, live_model(), save_strategy="steps", save_steps=1)
    whole.train()
    again = trainer(tmp_path, live_model(), save_strategy="no")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again.train(resume_from_checkpoint=str(tmp_path / f"out/checkpoint-{step}"))
    assert again.seen == whole.seen[step:]
    assert again.losses == whole.losses[step:]


def test_what_workers_have_read_ahead_is_read_again(tmp_path, plain):
    run = trainer(tmp_path, live_model(dropout=0.0), save_strategy="no", dataloader_num_workers=2)
    run.train()
    assert run.seen == plain[0]
    assert run.losses == pytest.approx(plain[1], rel=1e-6)


def test_a_pinned_batch_is_read_again(tmp_path):
    """Where there is a GPU, loaders hand on copies of what collators returned."""
    run = trainer(tmp_path, live_model(), save_strategy="no", steps=1)
    run.train()
    (callback,) = (one for one in run.callback_handler.callbacks if isinstance(one, HardNegativeCallback))
    loader = run.get_train_dataloader()
    callback.on_train_begin(run.args, run.state, run.control, train_dataloader=loader)
    pinned = pin_memory(next(iter(loader.base_dataloader)))
    assert {row["negative_generation"] for row in pinned["rows"]} == {0}
    callback.refresher.at(3, SCHEDULE)
    assert {row["negative_generation"] for row in send_to_device(pinned, "cpu")["rows"]} == {1}


def test_accumulated_gradients(tmp_path):
    run = trainer(tmp_path, live_model(), steps=5, save_strategy="no", gradient_accumulation_steps=2)
    run.train()
    expected = [{SCHEDULE.number(step)} for step in range(5) for _ in range(2)]
    assert [{row[1] for row in rows} for rows in run.seen] == expected


def test_lightning(tmp_path, plain):
    lightning = pytest.importorskip("lightning.pytorch")
    from hf_hardneg.training import HardNegativeLightning

    live = live_model(dropout=0.0)
    made = refresher(tmp_path / "negatives", live)

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model, self.seen, self.losses = live.model, [], []

        def training_step(self, rows, _):
            loss = loss_of(live, rows)
            self.seen.append(recorded(rows))
            self.losses.append(loss.item())
            return loss

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.05)

    module = Module()
    loader = DataLoader(made.pairs.with_transform(made.negatives), batch_size=BATCH, collate_fn=list)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lightning.Trainer(
            max_steps=STEPS,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[HardNegativeLightning(made, **WHEN)],
        ).fit(module.train(), loader)
    assert module.seen == plain[0]
    assert module.losses == pytest.approx(plain[1], rel=1e-6)


class Recorded:
    """A transform that keeps what it gave for each batch, in its last reading; no refresh is due at an epoch's end."""

    def __init__(self, transform):
        self.transform, self.batches = transform, []

    def __call__(self, batch):
        made = self.transform(batch)
        if self.batches and self.batches[-1]["query"] == made["query"]:
            self.batches.pop()
        self.batches.append(made)
        return made


def test_sentence_transformers(tmp_path):
    """Its trainer, its loss and its order; each batch has what the newest generation then said of its rows."""
    model, _ = tiny(tmp_path)
    made = refresher(tmp_path / "negatives", model, on_shortage="pad_random")
    transform = Recorded(Tuples(made.negatives, 2))
    arguments = SentenceTransformerTrainingArguments(
        str(tmp_path / "out"),
        max_steps=STEPS,
        per_device_train_batch_size=BATCH,
        learning_rate=5e-3,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        save_strategy="no",
        logging_strategy="no",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
    schedule = Schedule(every=4, first=2)
    callback = HardNegativeCallback(made, refresh_every=4, first_refresh=2, transform=transform)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        SentenceTransformerTrainer(
            model, arguments, train_dataset=made.pairs, loss=MultipleNegativesRankingLoss(model), callbacks=[callback]
        ).train()
    assert len(transform.batches) >= STEPS
    expected = {}
    for number in range(schedule.number(STEPS) + 1):
        made.generations.switch(number)
        rows = made.pairs.with_transform(Tuples(made.negatives, 2))[:]
        expected[number] = set(
            zip(*(rows[name] for name in ("query", "positive", "negative_1", "negative_2")), strict=True)
        )
    assert expected[1] != expected[2] != expected[3]
    for step, batch in enumerate(transform.batches[:STEPS]):
        assert set(zip(*batch.values(), strict=True)) <= expected[schedule.number(step)]


def test_too_few_negatives_for_a_tuple(tmp_path):
    made = refresher(tmp_path, live_model())
    with pytest.raises(DataError, match=r"A row has 3 negatives, and Tuples\(size=4\) needs as many"):
        Tuples(made.negatives, 4)(made.pairs[:2])
    assert isinstance(made.pairs, Dataset)
