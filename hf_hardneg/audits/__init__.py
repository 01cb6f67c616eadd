"""`audit` tells what is wrong with mined negatives, whoever mined them."""

from hf_hardneg.audits.auditing import audit
from hf_hardneg.audits.checks import CHECKS
from hf_hardneg.audits.findings import Finding
from hf_hardneg.audits.judging import Estimate, Judge
from hf_hardneg.audits.result import Audit

__all__ = ["CHECKS", "Audit", "Estimate", "Finding", "Judge", "audit"]
