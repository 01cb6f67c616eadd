from hf_hardneg.audits.auditing import audit as audit
from hf_hardneg.audits.checks import CHECKS as CHECKS
from hf_hardneg.audits.findings import Finding as Finding
from hf_hardneg.audits.judging import Estimate as Estimate
from hf_hardneg.audits.judging import Judge as Judge
from hf_hardneg.audits.result import Audit as Audit
from hf_hardneg.audits.reviewing import review as review
from hf_hardneg.audits.verdicts import Verdicts as Verdicts
