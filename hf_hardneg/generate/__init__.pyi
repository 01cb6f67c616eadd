from hf_hardneg.generate.endpoint import EndpointGenerator as EndpointGenerator
from hf_hardneg.generate.generators import LocalGenerator as LocalGenerator
from hf_hardneg.generate.listwise import ListwiseJudge as ListwiseJudge
from hf_hardneg.generate.llm import SyntheticNegatives as SyntheticNegatives
from hf_hardneg.generate.prompts import Prompt as Prompt
from hf_hardneg.generate.retriever_scorer import RetrieverScorer as RetrieverScorer
from hf_hardneg.generate.validation import Validation as Validation
