from hf_hardneg.reviews.reviewing import review as review
from hf_hardneg.reviews.verdicts import Verdicts as Verdicts
