from hf_hardneg.audits import audit as audit
from hf_hardneg.candidates import Candidates as Candidates
from hf_hardneg.corpus.columns import Columns as Columns
from hf_hardneg.filters import (
    AbsoluteMargin as AbsoluteMargin,
)
from hf_hardneg.filters import (
    ContainsAnswer as ContainsAnswer,
)
from hf_hardneg.filters import (
    Denoised as Denoised,
)
from hf_hardneg.filters import (
    Disagreement as Disagreement,
)
from hf_hardneg.filters import (
    Filter as Filter,
)
from hf_hardneg.filters import (
    NearDuplicate as NearDuplicate,
)
from hf_hardneg.filters import (
    NearQuery as NearQuery,
)
from hf_hardneg.filters import (
    RankWindow as RankWindow,
)
from hf_hardneg.filters import (
    RelativeMargin as RelativeMargin,
)
from hf_hardneg.filters import (
    SameParent as SameParent,
)
from hf_hardneg.filters import (
    ScoreBounds as ScoreBounds,
)
from hf_hardneg.filters import (
    SemiHard as SemiHard,
)
from hf_hardneg.filters import (
    TooSimilar as TooSimilar,
)
from hf_hardneg.formats import from_format as from_format
from hf_hardneg.formats import save_format as save_format
from hf_hardneg.formats import to_format as to_format
from hf_hardneg.hard_negatives import HardNegatives as HardNegatives
from hf_hardneg.index.bm25.weights import BM25Config as BM25Config
from hf_hardneg.mining import mine as mine
from hf_hardneg.planning.plans import plan as plan
from hf_hardneg.recipes.recipe import Recipe as Recipe
from hf_hardneg.recipes.recipe import recipe_of as recipe_of
from hf_hardneg.reports.report import report as report
from hf_hardneg.reports.sweeps import sweep as sweep
from hf_hardneg.retrievers import (
    BM25 as BM25,
)
from hf_hardneg.retrievers import (
    Dense as Dense,
)
from hf_hardneg.retrievers import (
    Hybrid as Hybrid,
)
from hf_hardneg.retrievers import (
    Random as Random,
)
from hf_hardneg.retrievers import (
    Retriever as Retriever,
)
from hf_hardneg.retrievers.attach import attach_bm25 as attach_bm25
from hf_hardneg.retrievers.attach import attach_dense as attach_dense
from hf_hardneg.samplers import (
    DistanceWeighted as DistanceWeighted,
)
from hf_hardneg.samplers import (
    Importance as Importance,
)
from hf_hardneg.samplers import (
    RankZone as RankZone,
)
from hf_hardneg.samplers import (
    Sampler as Sampler,
)
from hf_hardneg.samplers import (
    SimANS as SimANS,
)
from hf_hardneg.samplers import (
    Top as Top,
)
from hf_hardneg.samplers import (
    TopicNegatives as TopicNegatives,
)
from hf_hardneg.samplers import (
    Uniform as Uniform,
)
from hf_hardneg.samplers import (
    UnReMix as UnReMix,
)
from hf_hardneg.signals import Signal as Signal
from hf_hardneg.strategies import Strategy as Strategy
from hf_hardneg.text.analysis import Analyzer as Analyzer

__version__: str
