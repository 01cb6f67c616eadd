from hf_hardneg.training.accelerate import HardNegativePlugin as HardNegativePlugin
from hf_hardneg.training.adore import StepRetrieval as StepRetrieval
from hf_hardneg.training.asynchronous import AsyncRefresher as AsyncRefresher
from hf_hardneg.training.collator import (
    BatchColumns as BatchColumns,
)
from hf_hardneg.training.collator import (
    CrossBatchCollator as CrossBatchCollator,
)
from hf_hardneg.training.collator import (
    known_positives as known_positives,
)
from hf_hardneg.training.compared import Keys as Keys
from hf_hardneg.training.denoiser import Training as Training
from hf_hardneg.training.denoiser import train_denoiser as train_denoiser
from hf_hardneg.training.distillation import (
    in_batch_margin_mse_loss as in_batch_margin_mse_loss,
)
from hf_hardneg.training.distillation import (
    kl_loss as kl_loss,
)
from hf_hardneg.training.distillation import (
    margin_mse_loss as margin_mse_loss,
)
from hf_hardneg.training.gather import gather_rows as gather_rows
from hf_hardneg.training.gather import joined_mean as joined_mean
from hf_hardneg.training.generations import Generations as Generations
from hf_hardneg.training.gradcache import cached_backward as cached_backward
from hf_hardneg.training.guidance import Guide as Guide
from hf_hardneg.training.lightning import HardNegativeLightning as HardNegativeLightning
from hf_hardneg.training.losses import CrossBatchLoss as CrossBatchLoss
from hf_hardneg.training.losses import cross_batch_loss as cross_batch_loss
from hf_hardneg.training.mixing import MoCHi as MoCHi
from hf_hardneg.training.newest import GenerationNegatives as GenerationNegatives
from hf_hardneg.training.ranking_losses import (
    lambda_loss as lambda_loss,
)
from hf_hardneg.training.ranking_losses import (
    pairwise_loss as pairwise_loss,
)
from hf_hardneg.training.ranking_losses import (
    star_loss as star_loss,
)
from hf_hardneg.training.refresh import Refresher as Refresher
from hf_hardneg.training.schedule import Schedule as Schedule
from hf_hardneg.training.snapshots import LiveModel as LiveModel
from hf_hardneg.training.topic_batches import (
    TopicBatchSampler as TopicBatchSampler,
)
from hf_hardneg.training.topic_batches import (
    margin_bins as margin_bins,
)
from hf_hardneg.training.topic_batches import (
    query_topics as query_topics,
)
from hf_hardneg.training.trainer import HardNegativeCallback as HardNegativeCallback
from hf_hardneg.training.trainer import Tuples as Tuples
